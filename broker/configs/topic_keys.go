package configs

import "math"

// Names of the configs that code outside this package asks for.
const (
	CleanupPolicy   = "cleanup.policy"
	CompressionType = "compression.type"
	RetentionMs     = "retention.ms"
	RetentionBytes  = "retention.bytes"
	MaxMessageBytes = "max.message.bytes"
	TimestampType   = "message.timestamp.type"
	Durability      = "tidemark.durability"
)

const (
	defaultMaxMessageBytes = 1024*1024 + 12
	maxInt64               = "9223372036854775807"
	noEffect               = " Kept for Kafka's tools; it has no effect here."
)

func same(name string) []Synonym { return []Synonym{{Name: name}} }
func logPrefix(name string) []Synonym {
	return []Synonym{{Name: "log." + name}}
}

// durability accepts the class that the brokers of this cluster have: a topic cannot choose another in this version.
func durability(class string) func(string, value) error {
	return func(name string, v value) error {
		switch got := v.(string); got {
		case class:
			return nil
		case "local", "quorum", "object":
			return invalid(name, got, "the brokers of this cluster have the durability class "+class+", which holds for all topics in this version of Tidemark")
		}
		return invalid(name, v.(string), "String must be one of: local, quorum, object")
	}
}

// remoteStorage refuses true: tiering is not a choice per topic here.
func remoteStorage(name string, v value) error {
	if v.(bool) {
		return invalid(name, "true", "Tidemark keeps every topic in object storage; Kafka's tiered storage cannot be switched on per topic")
	}
	return nil
}

var compressionTypes = oneOf("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")

// topicKeys is the table of topic configs. The bound of max.message.bytes is set by New.
func topicKeys(class string) []Key {
	return append(topicCleanupKeys(), append(topicMessageKeys(class), topicStorageKeys()...)...)
}

func topicCleanupKeys() []Key {
	return []Key{
		{Name: CleanupPolicy, Type: List, Default: "delete", rule: listOf("compact", "delete"), Synonyms: logPrefix("cleanup.policy"),
			Doc: "What becomes of old records: delete drops them by time and size, compact keeps the last value per key, both do both, an empty list keeps everything."},
		{Name: RetentionMs, Type: Long, Default: "604800000", rule: atLeast(-1), Synonyms: []Synonym{
			{Name: "log.retention.ms"}, {Name: "log.retention.minutes", Millis: 60_000}, {Name: "log.retention.hours", Millis: 3_600_000}},
			Doc: "How long records are kept under the policy delete, in milliseconds; -1 keeps them for ever."},
		{Name: RetentionBytes, Type: Long, Default: "-1", Synonyms: logPrefix("retention.bytes"),
			Doc: "How large a partition may grow under the policy delete before its oldest records are dropped, in bytes; -1 sets no limit."},
		{Name: "delete.retention.ms", Type: Long, Default: "86400000", rule: atLeast(0), Synonyms: logPrefix("cleaner.delete.retention.ms"),
			Doc: "How long tombstones of a compacted topic are kept, in milliseconds."},
		{Name: "min.compaction.lag.ms", Type: Long, Default: "0", rule: atLeast(0), Synonyms: logPrefix("cleaner.min.compaction.lag.ms"),
			Doc: "How long a record stays uncompacted at least, in milliseconds."},
		{Name: "max.compaction.lag.ms", Type: Long, Default: maxInt64, rule: atLeast(1), Synonyms: logPrefix("cleaner.max.compaction.lag.ms"),
			Doc: "How long a record stays uncompacted at most, in milliseconds."},
		{Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", rule: fraction, Synonyms: logPrefix("cleaner.min.cleanable.ratio"),
			Doc: "The share of uncompacted bytes from which a partition is compacted."},
	}
}

func topicMessageKeys(class string) []Key {
	return []Key{
		{Name: MaxMessageBytes, Type: Int, Default: "1048588", rule: atLeast(0), Synonyms: same("message.max.bytes"),
			Doc: "The largest record batch, after compression, that a producer may send, in bytes."},
		{Name: CompressionType, Type: String, Default: "producer", rule: compressionTypes, Synonyms: same("compression.type"),
			Doc: "The codec that batches are stored with; producer keeps what the producer chose."},
		{Name: "compression.gzip.level", Type: Int, Default: "-1", rule: gzipLevel, Synonyms: same("compression.gzip.level"),
			Doc: "The level used when the broker compresses with gzip."},
		{Name: "compression.lz4.level", Type: Int, Default: "9", rule: between(1, 17), Synonyms: same("compression.lz4.level"),
			Doc: "The level used when the broker compresses with lz4."},
		{Name: "compression.zstd.level", Type: Int, Default: "3", rule: between(-131072, 22), Synonyms: same("compression.zstd.level"),
			Doc: "The level used when the broker compresses with zstd."},
		{Name: TimestampType, Type: String, Default: "CreateTime", rule: oneOf("CreateTime", "LogAppendTime"), Synonyms: logPrefix("message.timestamp.type"),
			Doc: "Whether records carry the producer's time (CreateTime) or the broker's (LogAppendTime)."},
		{Name: "message.timestamp.before.max.ms", Type: Long, Default: maxInt64, rule: atLeast(0), Synonyms: logPrefix("message.timestamp.before.max.ms"),
			Doc: "How far in the past a CreateTime may lie, in milliseconds, before the batch is refused."},
		{Name: "message.timestamp.after.max.ms", Type: Long, Default: "3600000", rule: atLeast(0), Synonyms: logPrefix("message.timestamp.after.max.ms"),
			Doc: "How far in the future a CreateTime may lie, in milliseconds, before the batch is refused."},
		{Name: "min.insync.replicas", Type: Int, Default: "1", rule: between(1, math.MaxInt32), Synonyms: same("min.insync.replicas"),
			Doc: "Kafka's count of replicas that must have a write. Durability here is chosen with tidemark.durability." + noEffect},
		{Name: Durability, Type: String, Default: class, rule: durability(class), Synonyms: same(Durability),
			Doc: "When a write is acknowledged. local: after it was synced to the owner's own write-ahead log, which survives a crash and not the loss of that disk. object: after it was committed to the object store, which survives the loss of any broker."},
	}
}

func topicStorageKeys() []Key {
	return []Key{
		{Name: "segment.bytes", Type: Int, Default: "1073741824", rule: atLeast(1 << 20), Synonyms: logPrefix("segment.bytes"),
			Doc: "Kafka's size of a log segment, in bytes. Objects are sized by the broker." + noEffect},
		{Name: "segment.ms", Type: Long, Default: "604800000", rule: atLeast(1), Synonyms: []Synonym{
			{Name: "log.roll.ms"}, {Name: "log.roll.hours", Millis: 3_600_000}},
			Doc: "Kafka's age of a log segment, in milliseconds. Objects are closed by the broker." + noEffect},
		{Name: "segment.jitter.ms", Type: Long, Default: "0", rule: atLeast(0), Synonyms: []Synonym{
			{Name: "log.roll.jitter.ms"}, {Name: "log.roll.jitter.hours", Millis: 3_600_000}},
			Doc: "Kafka's jitter of segment.ms, in milliseconds." + noEffect},
		{Name: "segment.index.bytes", Type: Int, Default: "10485760", rule: atLeast(4), Synonyms: logPrefix("index.size.max.bytes"),
			Doc: "Kafka's size of a segment's index, in bytes." + noEffect},
		{Name: "index.interval.bytes", Type: Int, Default: "4096", rule: atLeast(0), Synonyms: logPrefix("index.interval.bytes"),
			Doc: "Kafka's distance between index entries, in bytes." + noEffect},
		{Name: "flush.messages", Type: Long, Default: maxInt64, rule: atLeast(1), Synonyms: logPrefix("flush.interval.messages"),
			Doc: "Kafka's count of records between syncs. Every acknowledged write is synced here." + noEffect},
		{Name: "flush.ms", Type: Long, Default: maxInt64, rule: atLeast(0), Synonyms: []Synonym{
			{Name: "log.flush.interval.ms"}, {Name: "log.flush.scheduler.interval.ms"}},
			Doc: "Kafka's time between syncs, in milliseconds. Every acknowledged write is synced here." + noEffect},
		{Name: "file.delete.delay.ms", Type: Long, Default: "60000", rule: atLeast(0), Synonyms: logPrefix("segment.delete.delay.ms"),
			Doc: "Kafka's delay before a deleted segment's file goes, in milliseconds." + noEffect},
		{Name: "preallocate", Type: Bool, Default: "false", Synonyms: logPrefix("preallocate"),
			Doc: "Whether Kafka preallocates segment files." + noEffect},
		{Name: "unclean.leader.election.enable", Type: Bool, Default: "false", Synonyms: same("unclean.leader.election.enable"),
			Doc: "Whether Kafka elects a replica that lost writes. No such election exists here." + noEffect},
		{Name: "local.retention.ms", Type: Long, Default: "-2", rule: atLeast(-2), Synonyms: logPrefix("local.retention.ms"),
			Doc: "Kafka's time that records stay on local disks, in milliseconds." + noEffect},
		{Name: "local.retention.bytes", Type: Long, Default: "-2", rule: atLeast(-2), Synonyms: logPrefix("local.retention.bytes"),
			Doc: "Kafka's bytes that stay on local disks." + noEffect},
		{Name: "remote.storage.enable", Type: Bool, Default: "false", rule: remoteStorage,
			Doc: "Kafka's switch of tiered storage. Every topic is in object storage here; only false is accepted."},
		{Name: "remote.log.copy.disable", Type: Bool, Default: "false", Doc: "Kafka's switch that stops tiering." + noEffect},
		{Name: "remote.log.delete.on.disable", Type: Bool, Default: "false", Doc: "Kafka's switch that deletes tiered data." + noEffect},
		{Name: "leader.replication.throttled.replicas", Type: List, Default: "", rule: throttledReplicas,
			Doc: "Replicas whose leaders Kafka throttles. Nothing is replicated between leaders and followers here." + noEffect},
		{Name: "follower.replication.throttled.replicas", Type: List, Default: "", rule: throttledReplicas,
			Doc: "Replicas that Kafka throttles as followers. Nothing is replicated between leaders and followers here." + noEffect},
	}
}
