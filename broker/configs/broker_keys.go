package configs

import "math"

// Names of broker configs that handlers read.
const (
	AutoCreateTopics         = "auto.create.topics.enable"
	DeleteTopics             = "delete.topic.enable"
	NumPartitions            = "num.partitions"
	DefaultReplicationFactor = "default.replication.factor"
	OffsetsReplicationFactor = "offsets.topic.replication.factor"
	MaxRequestPartitions     = "max.request.partition.size.limit"
	MessageMaxBytes          = "message.max.bytes"
	FetchMaxBytes            = "fetch.max.bytes"
)

// brokerKeys is the table of broker configs: those that Tidemark follows, and those that Kafka's tools and clients read or write.
// Settings of Kafka's own machinery (ZooKeeper, KRaft, replica fetchers, the log cleaner's threads) are left out.
func brokerKeys(class string) []Key {
	keys := brokerNodeKeys()
	keys = append(keys, brokerSocketKeys()...)
	keys = append(keys, brokerTopicKeys()...)
	keys = append(keys, brokerLogKeys(class)...)
	keys = append(keys, brokerGroupKeys()...)
	return append(keys, brokerTransactionKeys()...)
}

func brokerNodeKeys() []Key {
	return []Key{
		{Name: "broker.id", Type: Int, Default: "-1", Doc: "The broker's id."},
		{Name: "node.id", Type: Int, Default: "-1", Doc: "The broker's id, by the name that newer tools read."},
		{Name: "broker.rack", Type: String, Null: true, Doc: "The rack or zone of the broker, for rack-aware clients."},
		{Name: "process.roles", Type: List, Default: "broker", Doc: "The roles of the process."},
		{Name: "log.dir", Type: List, Default: "/tmp/kafka-logs", Doc: "The folder of the write-ahead log, by Kafka's older name."},
		{Name: "log.dirs", Type: List, Null: true, Doc: "The folder of the write-ahead log."},
		{Name: "leader.replication.throttled.rate", Type: Long, Default: maxInt64, rule: atLeast(0), Scope: ClusterWide,
			Doc: "Kafka's limit of leaders' replication traffic, in bytes per second." + noEffect},
		{Name: "follower.replication.throttled.rate", Type: Long, Default: maxInt64, rule: atLeast(0), Scope: ClusterWide,
			Doc: "Kafka's limit of followers' replication traffic, in bytes per second." + noEffect},
		{Name: "replica.alter.log.dirs.io.max.bytes.per.second", Type: Long, Default: maxInt64, rule: atLeast(0), Scope: ClusterWide,
			Doc: "Kafka's limit for moves between log folders, in bytes per second." + noEffect},
		{Name: "inter.broker.listener.name", Type: String, Null: true, Doc: "The listener that brokers use among themselves."},
		{Name: "request.timeout.ms", Type: Int, Default: "30000", Doc: "How long a request of the broker's own may take, in milliseconds."},
	}
}

func brokerSocketKeys() []Key {
	return []Key{
		{Name: "listeners", Type: List, Default: "PLAINTEXT://:9092", Doc: "The addresses that the broker listens on."},
		{Name: "advertised.listeners", Type: List, Null: true, Doc: "The addresses that clients are told to use."},
		{Name: "listener.security.protocol.map", Type: String, Default: "PLAINTEXT:PLAINTEXT", Doc: "The security protocol of each listener."},
		{Name: "socket.request.max.bytes", Type: Int, Default: "104857600", rule: atLeast(1), Doc: "The largest request that is read, in bytes."},
		{Name: "socket.send.buffer.bytes", Type: Int, Default: "102400", Doc: "The send buffer of a connection, in bytes; -1 leaves it to the system."},
		{Name: "socket.receive.buffer.bytes", Type: Int, Default: "102400", Doc: "The receive buffer of a connection, in bytes; -1 leaves it to the system."},
		{Name: "connections.max.idle.ms", Type: Long, Default: "600000", Doc: "How long a silent connection is kept, in milliseconds."},
		{Name: "max.connections", Type: Int, Default: "2147483647", rule: atLeast(0), Doc: "How many connections the broker takes."},
		{Name: "max.connections.per.ip", Type: Int, Default: "2147483647", rule: atLeast(0), Doc: "How many connections one address may open."},
		{Name: FetchMaxBytes, Type: Int, Default: "57671680", rule: atLeast(1024), Doc: "The most bytes that one fetch answers, in bytes."},
		{Name: "max.incremental.fetch.session.cache.slots", Type: Int, Default: "1000", rule: atLeast(0), Doc: "How many incremental fetch sessions are kept."},
		{Name: MaxRequestPartitions, Type: Int, Default: "2000", rule: atLeast(1), Doc: "How many partitions one DescribeTopicPartitions answer holds."},
	}
}

func brokerTopicKeys() []Key {
	return []Key{
		{Name: AutoCreateTopics, Type: Bool, Default: "true", Doc: "Whether asking for an unknown topic's metadata creates it."},
		{Name: DeleteTopics, Type: Bool, Default: "true", Doc: "Whether topics may be deleted."},
		{Name: NumPartitions, Type: Int, Default: "1", rule: between(1, math.MaxInt32), Doc: "How many partitions a topic gets that asks for no number."},
		{Name: DefaultReplicationFactor, Type: Int, Default: "1", rule: between(1, math.MaxInt16), Doc: "The replication factor that a topic gets that asks for none."},
		{Name: "auto.leader.rebalance.enable", Type: Bool, Default: "true", Doc: "Whether Kafka moves leaders back to preferred replicas." + noEffect},
		{Name: "controlled.shutdown.enable", Type: Bool, Default: "true", Doc: "Whether a stopping broker hands over first. It always drains here." + noEffect},
	}
}

// brokerLogKeys are the defaults of the topic configs. Those that a topic key names as its first synonym are dynamic.
func brokerLogKeys(class string) []Key {
	var keys []Key
	for _, t := range topicKeys(class) {
		for i, s := range t.Synonyms {
			k := Key{Name: s.Name, Type: t.Type, Default: t.Default, Doc: "The default of " + t.Name + ". " + t.Doc, rule: t.rule}
			switch {
			case i == 0 && len(t.Synonyms) == 1:
				k.Scope = ClusterWide
			case i == 0:
				k.Scope, k.Null = ClusterWide, true
			default:
				k.Doc = "The default of " + t.Name + " in another unit, used when " + t.Synonyms[0].Name + " is not set."
			}
			if d, ok := brokerLogDefaults[s.Name]; ok {
				k.Type, k.Default, k.Null, k.rule = d.Type, d.Default, d.Null, d.rule
			}
			keys = append(keys, k)
		}
	}
	return append(keys, Key{Name: "log.retention.check.interval.ms", Type: Long, Default: "300000", rule: atLeast(1),
		Doc: "How often retention is looked at, in milliseconds."})
}

// brokerLogDefaults holds what differs between a topic key and its broker keys.
var brokerLogDefaults = map[string]Key{
	"log.retention.ms":                {Type: Long, Null: true},
	"log.retention.minutes":           {Type: Int, Null: true},
	"log.retention.hours":             {Type: Int, Default: "168"},
	"log.roll.ms":                     {Type: Long, Null: true},
	"log.roll.hours":                  {Type: Int, Default: "168", rule: atLeast(1)},
	"log.roll.jitter.ms":              {Type: Long, Null: true},
	"log.roll.jitter.hours":           {Type: Int, Default: "0", rule: atLeast(0)},
	"log.flush.interval.ms":           {Type: Long, Null: true},
	"log.flush.scheduler.interval.ms": {Type: Long, Default: maxInt64},
}

func brokerGroupKeys() []Key {
	return []Key{
		{Name: "group.min.session.timeout.ms", Type: Int, Default: "6000", Doc: "The shortest session timeout that a group member may ask for, in milliseconds."},
		{Name: "group.max.session.timeout.ms", Type: Int, Default: "1800000", Doc: "The longest session timeout that a group member may ask for, in milliseconds."},
		{Name: "group.initial.rebalance.delay.ms", Type: Int, Default: "3000", Doc: "How long the first rebalance of an empty group waits for more members, in milliseconds."},
		{Name: "group.max.size", Type: Int, Default: "2147483647", rule: atLeast(1), Doc: "How many members a group may have."},
		{Name: "group.consumer.session.timeout.ms", Type: Int, Default: "45000", Scope: ClusterWide, rule: atLeast(1), Doc: "How long a member of a consumer group (KIP-848) may be silent, in milliseconds."},
		{Name: "group.consumer.min.session.timeout.ms", Type: Int, Default: "45000", rule: atLeast(1), Doc: "The shortest session timeout that a consumer group may be given, in milliseconds."},
		{Name: "group.consumer.max.session.timeout.ms", Type: Int, Default: "60000", rule: atLeast(1), Doc: "The longest session timeout that a consumer group may be given, in milliseconds."},
		{Name: "group.consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Scope: ClusterWide, rule: atLeast(1), Doc: "How often members of a consumer group are told to send heartbeats, in milliseconds."},
		{Name: "group.consumer.min.heartbeat.interval.ms", Type: Int, Default: "5000", rule: atLeast(1), Doc: "The shortest heartbeat interval that a consumer group may be given, in milliseconds."},
		{Name: "group.consumer.max.heartbeat.interval.ms", Type: Int, Default: "15000", rule: atLeast(1), Doc: "The longest heartbeat interval that a consumer group may be given, in milliseconds."},
		{Name: "group.consumer.max.size", Type: Int, Default: "2147483647", rule: atLeast(1), Doc: "How many members a consumer group may have."},
		{Name: "group.consumer.assignors", Type: List, Default: "uniform,range", rule: listOf("uniform", "range"), Doc: "The assignors that consumer groups may choose from, the default first."},
		{Name: "group.consumer.migration.policy", Type: String, Default: "bidirectional", rule: oneOf("disabled", "downgrade", "upgrade", "bidirectional"), Doc: "Whether classic groups of consumers become consumer groups when a consumer of the new protocol joins (upgrade), and classic ones again when the last such leaves (downgrade)."},
		{Name: "group.consumer.regex.refresh.interval.ms", Type: Int, Default: "600000", rule: atLeast(1), Doc: "How often regular expressions that consumer groups subscribe to are matched anew though no topic came or went, in milliseconds."},
		{Name: "offset.metadata.max.bytes", Type: Int, Default: "4096", Doc: "The longest text that may be committed with an offset, in bytes."},
		{Name: "offsets.retention.minutes", Type: Int, Default: "10080", rule: atLeast(1), Doc: "How long the offsets of an empty group are kept, in minutes."},
		{Name: "offsets.retention.check.interval.ms", Type: Long, Default: "600000", rule: atLeast(1), Doc: "How often expired offsets are looked for, in milliseconds."},
		{Name: "offsets.topic.num.partitions", Type: Int, Default: "50", rule: atLeast(1), Doc: "Kafka's partitions of __consumer_offsets. Here offsets are kept in etcd, and the owners of its 50 partitions coordinate the groups." + noEffect},
		{Name: OffsetsReplicationFactor, Type: Short, Default: "3", rule: atLeast(1), Doc: "Kafka's replicas of __consumer_offsets. Offsets are kept in etcd here." + noEffect},
	}
}

func brokerTransactionKeys() []Key {
	return []Key{
		{Name: "producer.id.expiration.ms", Type: Int, Default: "86400000", rule: atLeast(1), Doc: "How long an idle producer's state is kept, in milliseconds."},
		{Name: "transactional.id.expiration.ms", Type: Int, Default: "604800000", rule: atLeast(1), Doc: "How long an idle transactional id is kept, in milliseconds."},
		{Name: "transaction.max.timeout.ms", Type: Int, Default: "900000", rule: atLeast(1), Doc: "The longest transaction timeout that a producer may ask for, in milliseconds."},
		{Name: "transaction.state.log.replication.factor", Type: Short, Default: "3", rule: atLeast(1), Doc: "Kafka's replicas of __transaction_state." + noEffect},
		{Name: "transaction.state.log.min.isr", Type: Int, Default: "2", rule: atLeast(1), Doc: "Kafka's in-sync replicas of __transaction_state." + noEffect},
		{Name: "transaction.state.log.num.partitions", Type: Int, Default: "50", rule: atLeast(1), Doc: "Kafka's partitions of __transaction_state." + noEffect},
	}
}
