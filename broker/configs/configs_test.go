package configs

import (
	"errors"
	"math"
	"strings"
	"testing"
)

const (
	weekMillis = 7 * 24 * 3600 * 1000
	dayMillis  = 24 * 3600 * 1000
)

func newRegistry(t *testing.T, static map[string]string) *Registry {
	t.Helper()
	r, err := New(Options{Static: static})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// kafkaTopicConfigs are the topic configs of Apache Kafka 4.3.
const kafkaTopicConfigs = `cleanup.policy compression.gzip.level compression.lz4.level compression.type compression.zstd.level
delete.retention.ms file.delete.delay.ms flush.messages flush.ms follower.replication.throttled.replicas index.interval.bytes
leader.replication.throttled.replicas local.retention.bytes local.retention.ms max.compaction.lag.ms max.message.bytes
message.timestamp.after.max.ms message.timestamp.before.max.ms message.timestamp.type min.cleanable.dirty.ratio
min.compaction.lag.ms min.insync.replicas preallocate remote.log.copy.disable remote.log.delete.on.disable
remote.storage.enable retention.bytes retention.ms segment.bytes segment.index.bytes segment.jitter.ms segment.ms
unclean.leader.election.enable`

func TestTableIsKafkasAndSound(t *testing.T) {
	r := newRegistry(t, nil)
	want := strings.Fields(kafkaTopicConfigs)
	for _, name := range want {
		if _, ok := r.TopicKey(name); !ok {
			t.Errorf("topic config %s is missing", name)
		}
	}
	if got := len(r.topicNames); got != len(want)+1 {
		t.Errorf("%d topic configs, want Kafka's %d and %s", got, len(want), Durability)
	}
	for _, keys := range []map[string]*Key{r.topic, r.broker} {
		for name, k := range keys {
			if k.Doc == "" {
				t.Errorf("%s has no documentation", name)
			}
			if k.Null {
				continue
			}
			v, err := k.parse(k.Default)
			if err != nil {
				t.Errorf("default of %s: %v", name, err)
			} else if format(v) != k.Default {
				t.Errorf("default of %s is %q, canonically %q", name, k.Default, format(v))
			}
		}
	}
	for _, k := range r.topic {
		for i, s := range k.Synonyms {
			b, ok := r.broker[s.Name]
			if !ok {
				t.Errorf("%s: synonym %s is not in the broker table", k.Name, s.Name)
			} else if i == 0 && b.Scope != ClusterWide {
				t.Errorf("%s cannot be changed dynamically", s.Name)
			}
		}
	}
}

func TestValidateTopic(t *testing.T) {
	r := newRegistry(t, nil)
	for _, c := range []struct{ name, text, want string }{
		{"retention.ms", "-1", ""},
		{"retention.ms", " 1000 ", ""},
		{"retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"},
		{"retention.ms", "week", "Invalid value week for configuration retention.ms: Not a number of type LONG"},
		{"retention.ms", "9223372036854775808", "Invalid value 9223372036854775808 for configuration retention.ms: Not a number of type LONG"},
		{"max.message.bytes", "2147483648", "Invalid value 2147483648 for configuration max.message.bytes: Not a number of type INT"},
		{"max.message.bytes", "8323072", ""},
		{"max.message.bytes", "8323073", "Invalid value 8323073 for configuration max.message.bytes: Value must be no more than 8323072, the largest batch that this broker's write-ahead log takes"},
		{"cleanup.policy", "compact, delete", ""},
		{"cleanup.policy", "", ""},
		{"cleanup.policy", "compact,compact", ""},
		{"cleanup.policy", "compact,,delete", "Configuration 'cleanup.policy' values must not be empty."},
		{"cleanup.policy", "shred", "Invalid value shred for configuration cleanup.policy: String must be one of: compact, delete"},
		{"compression.type", "brotli", "Invalid value brotli for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"},
		{"compression.gzip.level", "0", "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1"},
		{"compression.lz4.level", "18", "Invalid value 18 for configuration compression.lz4.level: Value must be no more than 17"},
		{"message.timestamp.type", "createtime", "Invalid value createtime for configuration message.timestamp.type: String must be one of: CreateTime, LogAppendTime"},
		{"min.cleanable.dirty.ratio", "1.5", "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1"},
		{"min.cleanable.dirty.ratio", "NaN", "Invalid value NaN for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE"},
		{"preallocate", "yes", "Invalid value yes for configuration preallocate: Expected value to be either true or false"},
		{"segment.bytes", "1048575", "Invalid value 1048575 for configuration segment.bytes: Value must be at least 1048576"},
		{"leader.replication.throttled.replicas", "*", ""},
		{"leader.replication.throttled.replicas", "0:1,12:3", ""},
		{"leader.replication.throttled.replicas", "0-1", "Invalid value [0-1] for configuration leader.replication.throttled.replicas: leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."},
		{"tidemark.durability", "local", ""},
		{"tidemark.durability", "quorum", "Invalid value quorum for configuration tidemark.durability: the brokers of this cluster have the durability class local, which holds for all topics in this version of Tidemark"},
		{"tidemark.durability", "none", "Invalid value none for configuration tidemark.durability: String must be one of: local, quorum, object"},
		{"remote.storage.enable", "true", "Invalid value true for configuration remote.storage.enable: Tidemark keeps every topic in object storage; Kafka's tiered storage cannot be switched on per topic"},
		{"message.format.version", "3.0", "Unknown topic config name: message.format.version"},
		{"min.compaction.lag.ms", "9223372036854775807", ""},
	} {
		err := r.ValidateTopic(Layers{}, map[string]string{c.name: c.text})
		if got := text(err); got != c.want {
			t.Errorf("%s=%s: %q, want %q", c.name, c.text, got, c.want)
		}
		var refused *Error
		if err != nil && !errors.As(err, &refused) {
			t.Errorf("%s=%s: the error is a %T", c.name, c.text, err)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestValidateTopicTogether(t *testing.T) {
	r := newRegistry(t, nil)
	err := r.ValidateTopic(Layers{}, map[string]string{"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"})
	if want := "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"; text(err) != want {
		t.Errorf("%q, want %q", text(err), want)
	}
	l := Layers{Cluster: map[string]string{"log.cleaner.max.compaction.lag.ms": "5"}}
	if r.ValidateTopic(l, map[string]string{"min.compaction.lag.ms": "10"}) == nil {
		t.Error("a lag above the cluster's default was accepted")
	}
	if r.ValidateTopic(Layers{}, map[string]string{"retention.ms": strings.Repeat(" ", MaxOverrideBytes) + "1"}) == nil {
		t.Error("overrides beyond the bound were accepted")
	}
}

func TestValidateBroker(t *testing.T) {
	r := newRegistry(t, nil)
	for _, c := range []struct {
		name, text string
		want       string
	}{
		{"log.retention.ms", "1000", ""},
		{"message.max.bytes", "1000", ""},
		{"log.retention.hours", "1", "Cannot update these configs dynamically: log.retention.hours"},
		{"node.id", "1", "Cannot update these configs dynamically: node.id"},
		{"log.retentoin.ms", "1", "Unknown broker config name: log.retentoin.ms"},
		{"message.max.bytes", "9000000", "Invalid value 9000000 for configuration message.max.bytes: Value must be no more than 8323072, the largest batch that this broker's write-ahead log takes"},
		{"log.cleaner.max.compaction.lag.ms", "0", "Invalid value 0 for configuration log.cleaner.max.compaction.lag.ms: Value must be at least 1"},
	} {
		for _, perBroker := range []bool{false, true} {
			if got := text(r.ValidateBroker(map[string]string{c.name: c.text}, perBroker)); got != c.want {
				t.Errorf("%s=%s: %q, want %q", c.name, c.text, got, c.want)
			}
		}
	}
}

func TestLayersDecide(t *testing.T) {
	r := newRegistry(t, map[string]string{"log.retention.hours": "2", "message.max.bytes": "3000"})
	topic := r.Topic
	if got := topic(Layers{}, nil); got.RetentionMs != 2*3_600_000 || got.MaxMessageBytes != 3000 || !got.Delete || got.Compact || got.Durability != "local" {
		t.Errorf("static layer: %+v", got)
	}
	cluster := Layers{Cluster: map[string]string{"log.retention.ms": "5", "message.max.bytes": "4000"}}
	if got := topic(cluster, nil); got.RetentionMs != 5 || got.MaxMessageBytes != 4000 {
		t.Errorf("cluster layer: %+v", got)
	}
	cluster.Broker = map[string]string{"message.max.bytes": "5000"}
	if got := topic(cluster, nil).MaxMessageBytes; got != 5000 {
		t.Errorf("broker layer: %d", got)
	}
	got := topic(cluster, map[string]string{"max.message.bytes": "6000", "cleanup.policy": "compact", "compression.type": "zstd",
		"compression.zstd.level": "7", "message.timestamp.type": "LogAppendTime", "retention.ms": "nonsense"})
	if got.MaxMessageBytes != 6000 || !got.Compact || got.Delete || got.CompressionLevel != 7 || !got.LogAppendTime || got.RetentionMs != 5 {
		t.Errorf("override: %+v", got)
	}
	v := newRegistry(t, nil).Topic(Layers{}, nil)
	want := Topic{MaxMessageBytes: 1048588, Delete: true, RetentionMs: weekMillis, RetentionBytes: -1, DeleteRetentionMs: dayMillis,
		MaxCompactionLagMs: math.MaxInt64, MinCleanableDirtyRatio: 0.5, CompressionType: "producer", TimestampBeforeMaxMs: math.MaxInt64,
		TimestampAfterMaxMs: 3_600_000, MinInsyncReplicas: 1, SegmentBytes: 1 << 30, SegmentMs: weekMillis, Durability: "local"}
	if v != want {
		t.Errorf("defaults:\n got %+v\nwant %+v", v, want)
	}
}

func TestDoubledListMembersCountOnce(t *testing.T) {
	r := newRegistry(t, nil)
	if e := find(t, r.DescribeTopic(Layers{}, map[string]string{"cleanup.policy": "compact, compact"}), "cleanup.policy"); e.Value.Text != "compact" {
		t.Errorf("%+v", e)
	}
}

func TestRetentionForEver(t *testing.T) {
	for _, static := range []map[string]string{{"log.retention.hours": "-1"}, {"log.retention.minutes": "-3"}, {"log.retention.ms": "-7"}} {
		if v := newRegistry(t, static).Topic(Layers{}, nil); v.RetentionMs != -1 {
			t.Errorf("%v: %d", static, v.RetentionMs)
		}
	}
}

func TestStaticIsChecked(t *testing.T) {
	for _, static := range []map[string]string{
		{"zookeeper.connect": "a:1"},
		{"num.partitions": "0"},
		{"message.max.bytes": "100000000"},
		{"log.cleaner.min.compaction.lag.ms": "10", "log.cleaner.max.compaction.lag.ms": "5"},
	} {
		if _, err := New(Options{Static: static}); err == nil {
			t.Errorf("%v was accepted", static)
		}
	}
}

func find(t *testing.T, entries []Entry, name string) Entry {
	t.Helper()
	for _, e := range entries {
		if e.Key.Name == name {
			return e
		}
	}
	t.Fatalf("%s is not described", name)
	return Entry{}
}

func TestDescribeTopic(t *testing.T) {
	r := newRegistry(t, map[string]string{"message.max.bytes": "2000"})
	l := Layers{Broker: map[string]string{"message.max.bytes": "4000"}, Cluster: map[string]string{"message.max.bytes": "3000"}}
	e := find(t, r.DescribeTopic(l, map[string]string{"max.message.bytes": "5000"}), "max.message.bytes")
	want := []Setting{
		{"max.message.bytes", Value{Text: "5000"}, SourceTopic},
		{"message.max.bytes", Value{Text: "4000"}, SourceDynamicBroker},
		{"message.max.bytes", Value{Text: "3000"}, SourceDynamicDefault},
		{"message.max.bytes", Value{Text: "2000"}, SourceStatic},
		{"message.max.bytes", Value{Text: "1048588"}, SourceDefault},
	}
	if e.Source != SourceTopic || e.Value.Text != "5000" || len(e.Synonyms) != len(want) {
		t.Fatalf("%+v", e)
	}
	for i := range want {
		if e.Synonyms[i] != want[i] {
			t.Errorf("synonym %d: %+v, want %+v", i, e.Synonyms[i], want[i])
		}
	}
	e = find(t, r.DescribeTopic(Layers{}, nil), "retention.ms")
	if e.Source != SourceDefault || e.Value.Text != "604800000" || len(e.Synonyms) != 0 {
		t.Errorf("a default in hours: %+v", e)
	}
	e = find(t, r.DescribeTopic(Layers{}, nil), "remote.storage.enable")
	if e.Source != SourceDefault || len(e.Synonyms) != 0 {
		t.Errorf("no broker synonym: %+v", e)
	}
}

func TestDescribeBroker(t *testing.T) {
	r := newRegistry(t, map[string]string{"node.id": "7", "log.retention.hours": "3"})
	l := Layers{Cluster: map[string]string{"log.retention.ms": "9"}}
	all := r.DescribeBroker(l)
	if e := find(t, all, "node.id"); !e.ReadOnly || e.Value.Text != "7" || e.Source != SourceStatic {
		t.Errorf("node.id: %+v", e)
	}
	if e := find(t, all, "log.retention.ms"); e.ReadOnly || e.Value.Text != "9" || e.Source != SourceDynamicDefault || len(e.Synonyms) != 3 {
		t.Errorf("log.retention.ms: %+v", e)
	}
	if e := find(t, all, "log.retention.minutes"); !e.Value.Null {
		t.Errorf("log.retention.minutes: %+v", e)
	}
	cluster := r.DescribeCluster(l.Cluster)
	if len(cluster) != 1 || cluster[0].Key.Name != "log.retention.ms" || cluster[0].Source != SourceDynamicDefault {
		t.Errorf("cluster: %+v", cluster)
	}
}

func FuzzValidateTopic(f *testing.F) {
	f.Add("retention.ms", "1")
	f.Add("cleanup.policy", "compact,delete")
	f.Add("leader.replication.throttled.replicas", "1:2,*")
	r, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		overrides := map[string]string{name: text}
		if r.ValidateTopic(Layers{}, overrides) != nil {
			return
		}
		if v := r.Topic(Layers{}, overrides); v.MinCompactionLagMs > v.MaxCompactionLagMs || v.MaxMessageBytes < 0 {
			t.Fatalf("%s=%q was accepted and gives %+v", name, text, v)
		}
		e := find(t, r.DescribeTopic(Layers{}, overrides), name)
		if err := r.ValidateTopic(Layers{}, map[string]string{name: e.Value.Text}); err != nil {
			t.Fatalf("%s=%q is shown as %q, which is refused: %v", name, text, e.Value.Text, err)
		}
	})
}
