package metadata

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata/kv"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

var update = flag.Bool("update", false, "write the golden files anew")

// examples has one or more of every key with its value; the golden files hold them. Values never change within a version.
func examples() []kv.Op {
	k := keyspace{"/tidemark"}
	id := TopicID{0: 0xab, 15: 0xcd}
	part := PartitionID{id, 300}
	full := &Partition{Owner: 7, OwnerIncarnation: 1 << 40, LeaderEpoch: 12, LogStart: 5_000_000_000,
		Manifest: ManifestRef{Key: "3f/cluster/manifest/00000009-x", Generation: 9, End: 6_000_000_000, SizeBytes: 70_000}}
	stream := NewStreamID(4711, ClassLocal)
	st := &StreamState{State: StreamRecovering, Owner: 7, RecoveringBy: 4800, First: 0, End: 0}
	sealed := &StreamState{State: StreamSealed, Owner: 7, First: 4096, End: 1 << 33}
	pending := &PendingObject{Key: "a1/cluster/o/4711-3-nonce", SizeBytes: 8 << 20, FooterAt: 8<<20 - 64, CRC: 0x01020304, From: 1 << 20, To: 9 << 20}
	bucket := []bucketOffset{
		{0, CommittedOffset{Offset: 42, LeaderEpoch: -1, CommitMillis: 1_700_000_000_000}},
		{44, CommittedOffset{Offset: 1 << 40, LeaderEpoch: 5, Metadata: "note", CommitMillis: 1_700_000_000_999, ExpireMillis: 1_800_000_000_000}},
	}
	return []kv.Op{
		kv.Put(k.cluster(), encodeJSON(clusterRecord{1, "q1Sh-9_ISia_zwGINzRvyQ", 1_700_000_000_000})),
		kv.Put(k.broker(7), encodeJSON(brokerRecord{Version: 1, Host: "b7.test", Port: 9092, Rack: "rack <1>", Token: "data-7"})),
		kv.Put(k.broker(8), encodeJSON(brokerRecord{Version: 1, Host: "::1", Port: 1, Incarnation: 99})),
		kv.Put(k.broker(9), encodeJSON(brokerRecord{Version: 1, Host: "b9.test", Port: 9092, Token: "data-9", Replica: "b9.test:9094", Draining: true})),
		kv.Put(k.incarnation(7), encodeJSON(incarnationRecord{1, "data-7"})),
		kv.Put(k.config(ClusterDefault), encodeJSON(configRecord{1, map[string]string{"log.retention.ms": "1000"}})),
		kv.Put(k.config(7), encodeJSON(configRecord{1, map[string]string{}})),
		kv.Put(k.topic(id), encodeJSON(topicRecord{1, "orders", 500, 3, false, map[string]string{"cleanup.policy": "delete", "retention.ms": "-1"}})),
		kv.Put(k.name("orders"), []byte(id.Hex())),
		kv.Put(k.deleted(id), encodeJSON(tombstoneRecord{1, "orders", 500, 1_700_000_000_000})),
		kv.Put(k.creating(id), encodeJSON(creationRecord{1, "orders", 7, 4711, 3, 500})),
		kv.Put(k.partition(PartitionID{id, 0}), appendPartition(nil, &Partition{Owner: NoBroker})),
		kv.Put(k.partition(part), appendPartition(nil, full)),
		kv.Put(k.pending(stream, 3), appendPending(nil, pending)),
		kv.Put(k.stream(stream), appendStream(nil, st)),
		kv.Put(k.stream(NewStreamID(4712, ClassObject)), appendStream(nil, sealed)),
		kv.Put(k.committed(stream), appendCommitted(nil, 9<<20)),
		kv.Put(k.ensemble(NewStreamID(4711, ClassQuorum)), appendEnsemble(nil, &Ensemble{Members: []Member{{7, "data-7"}, {8, "data-8"}, {300, "data-300"}}, Quorum: 2})),
		kv.Put(k.producerIDs(), appendProducerIDs(nil, 3000)),
		kv.Put(k.group("g/1"), appendGroup(nil, []byte{1, 2, 3})),
		kv.Put(k.offsets("g/1", id, 1), appendBucket(nil, bucket)),
		kv.Put(k.transaction("tx/1"), appendTransaction(nil, &Transaction{Status: TxnEmpty, ProducerID: 7, PreviousProducerID: -1, NextProducerID: -1, LastProducerEpoch: -1,
			TimeoutMillis: 60_000, StartMillis: -1, UpdateMillis: 1_700_000_000_000})),
		kv.Put(k.transaction("tx-2"), appendTransaction(nil, &Transaction{Status: TxnPrepareCommit, ProducerID: 7000, PreviousProducerID: 6000, NextProducerID: 8000,
			ProducerEpoch: math.MaxInt16, LastProducerEpoch: math.MaxInt16 - 1, TimeoutMillis: math.MaxInt32, StartMillis: 1_700_000_000_000, UpdateMillis: 1_700_000_000_009,
			ClientVersion: 2, Partitions: []PartitionID{{id, 0}, {id, 300}, {TopicID{0: 0xac}, 1}}})),
		kv.Put("/tidemark/meta/future/x", []byte("of a kind that this program does not know")),
		kv.Put(k.partition(PartitionID{id, 1}), []byte("damaged")),
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs\n--- got\n%s--- want\n%s", path, got, want)
	}
}

func TestGolden(t *testing.T) {
	var b bytes.Buffer
	for _, op := range examples() {
		fmt.Fprintf(&b, "%s %x\n", op.Key, op.Value)
	}
	golden(t, "keys.v1.golden", b.Bytes())

	store := memkv.New()
	for _, op := range examples() {
		if _, err := store.Txn(t.Context(), kv.Txn{Then: []kv.Op{op}}); err != nil {
			t.Fatal(err)
		}
	}
	b.Reset()
	if err := Dump(t.Context(), &b, store, ""); err != nil {
		t.Fatal(err)
	}
	golden(t, "dump.v1.golden", b.Bytes())
}

func TestPartitionBound(t *testing.T) {
	p := &Partition{Owner: math.MaxInt32, OwnerIncarnation: math.MaxInt64, LeaderEpoch: math.MaxInt32, LogStart: math.MaxInt64,
		Manifest: ManifestRef{Key: strings.Repeat("k", MaxManifestKeyBytes), Generation: math.MaxUint64, End: math.MaxInt64, SizeBytes: math.MaxInt64}}
	key := keyspace{"/" + strings.Repeat("p", maxPrefixBytes-1)}.partition(PartitionID{randomID(), MaxTopicPartitions - 1})
	if n := len(key) + len(appendPartition(nil, p)); n > 512 {
		t.Errorf("a partition's key and value have %d bytes", n)
	}
}

func TestKeysRoundTrip(t *testing.T) {
	k := keyspace{"/x"}
	rest := func(key, dir string) string { return strings.TrimPrefix(key, "/x"+dir) }
	id := PartitionID{randomID(), MaxTopicPartitions - 1}
	if got, err := parsePartition(rest(k.partition(id), dirPartition)); err != nil || got != id {
		t.Errorf("%v, %v", got, err)
	}
	if s, seq, err := parsePending(rest(k.pending(math.MaxUint64, 5), dirPending)); err != nil || s != math.MaxUint64 || seq != 5 {
		t.Errorf("%v, %v, %v", s, seq, err)
	}
	for _, b := range []BrokerID{ClusterDefault, 0, math.MaxInt32} {
		if got, err := parseConfigID(rest(k.config(b), dirConfig)); err != nil || got != b {
			t.Errorf("%v, %v", got, err)
		}
	}
	for _, group := range []string{"", "plain-Group_1.2", "a/b", "%41", "\x00\xff", "ü"} {
		key := k.offsets(group, id.Topic, 700)
		g, topic, bucket, err := parseOffsets(rest(key, dirOffsets))
		if err != nil || g != group || topic != id.Topic || bucket != 700 {
			t.Errorf("%q: %q, %v, %d, %v", group, g, topic, bucket, err)
		}
	}
	upper := strings.ToUpper(id.Topic.Hex())
	for _, bad := range []string{"", "x", id.Topic.Hex(), id.Topic.Hex() + "/", id.Topic.Hex() + "/1", id.Topic.Hex() + "/80000000", id.Topic.Hex() + "/0fffffff",
		upper + "/00000001", strings.Repeat("0", 32) + "/00000001"} {
		if _, err := parsePartition(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("partition key %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"%4", "%", "%zz", "a%2", "%41", "a b", "%2F", strings.Repeat("x", 3*MaxGroupIDBytes+1)} {
		if _, err := unescapeGroup(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("group key %.20q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "g", "g/" + id.Topic.Hex(), "g/" + upper + "/0001", "g/" + id.Topic.Hex() + "/ffff", "g/" + id.Topic.Hex() + "/1", "%/" + id.Topic.Hex() + "/0001"} {
		if _, _, _, err := parseOffsets(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("offsets key %q: %v", bad, err)
		}
	}
}

// Every prefix of every value, and every value with a byte more or another version or kind, is refused.
func TestDecodersRefuse(t *testing.T) {
	for _, op := range examples()[:19] {
		name := strings.TrimPrefix(op.Key, "/tidemark")
		check := func(what string, value []byte) {
			t.Helper()
			if s, err := describe(name, kv.Pair{Key: op.Key, Value: value}); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s, %s: %q, %v", name, what, s, err)
			}
		}
		if _, err := describe(name, kv.Pair{Key: op.Key, Value: op.Value}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, dirGroup) {
			check("cut", op.Value[:1])
			continue
		}
		for n := range len(op.Value) {
			check(fmt.Sprintf("cut at %d", n), op.Value[:n])
		}
		check("longer", append(slices.Clone(op.Value), 'x'))
		if strings.HasPrefix(name, dirName) {
			continue
		}
		other := slices.Clone(op.Value)
		if other[0] == '{' {
			check("version", bytes.Replace(other, []byte(`"v":1`), []byte(`"v":2`), 1))
			check("unknown field", bytes.Replace(other, []byte(`"v":1`), []byte(`"v":1,"new":true`), 1))
			continue
		}
		other[1]++
		check("version", other)
		other[1]--
		other[0]++
		check("kind", other)
	}
	for name, b := range map[string][]byte{
		"state":      {kindStream, 1, 9, 0, 0, 0, 0},
		"overlong":   append([]byte{kindCommitted, 1}, bytes.Repeat([]byte{0xff}, 11)...),
		"key length": {kindPartition, 1, 0, 0, 0, 0, 0xff, 0x7f},
	} {
		_, e1 := decodeStream(b)
		_, e2 := decodeCommitted(b)
		_, e3 := decodePartition(b)
		if !errors.Is(e1, ErrInvalid) || !errors.Is(e2, ErrInvalid) || !errors.Is(e3, ErrInvalid) {
			t.Errorf("%s: %v, %v, %v", name, e1, e2, e3)
		}
	}
	if _, err := decodeConfigs([]byte(`{"v":1,"configs":{"` + strings.Repeat("x", maxJSONBytes) + `":""}}`)); !errors.Is(err, ErrInvalid) {
		t.Errorf("huge record: %v", err)
	}
}

func FuzzBinary(f *testing.F) {
	for _, op := range examples() {
		f.Add(op.Value)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again := func(name string, err error, enc []byte) {
			if err != nil {
				if !errors.Is(err, ErrInvalid) {
					t.Errorf("%s: %v", name, err)
				}
				return
			}
			// Varints may be written longer than needed; what is read from them must be the same again.
			if len(enc) > len(b) {
				t.Errorf("%s: %x is encoded as %x", name, b, enc)
			}
		}
		p, err := decodePartition(b)
		again("partition", err, appendPartition(nil, &p))
		if q, err2 := decodePartition(appendPartition(nil, &p)); err == nil && (err2 != nil || q != p) {
			t.Errorf("partition %+v, %v, was %+v", q, err2, p)
		}
		st, err := decodeStream(b)
		again("stream", err, appendStream(nil, &st))
		o, err := decodePending(b)
		again("pending", err, appendPending(nil, &o))
		if q, err2 := decodePending(appendPending(nil, &o)); err == nil && (err2 != nil || q != o || q.To < q.From) {
			t.Errorf("pending %+v, %v, was %+v", q, err2, o)
		}
		c, err := decodeCommitted(b)
		again("committed", err, appendCommitted(nil, c))
		x, err := decodeEnsemble(b)
		again("ensemble", err, appendEnsemble(nil, &x))
		n, err := decodeProducerIDs(b)
		again("producer ids", err, appendProducerIDs(nil, n))
		g, err := decodeGroup(b)
		again("group", err, appendGroup(nil, g))
		e, err := decodeBucket(b)
		if err == nil {
			again("offsets", nil, appendBucket(nil, e)[:2])
			if q, err := decodeBucket(appendBucket(nil, e)); err != nil || !reflect.DeepEqual(q, e) && len(e) > 0 {
				t.Errorf("offsets %+v, %v, were %+v", q, err, e)
			}
		}
	})
}

func FuzzRecords(f *testing.F) {
	for _, op := range examples() {
		f.Add(strings.TrimPrefix(op.Key, "/tidemark"), op.Value)
	}
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		pair := kv.Pair{Key: "/tidemark" + name, Value: value, ModRevision: 5, CreateRevision: 5}
		if _, err := describe(name, pair); err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("describe: %v", err)
		}
		for _, deleted := range []bool{false, true} {
			e := newEdit(keyspace{"/tidemark"}, newImage())
			if err := e.apply(kv.Event{Pair: pair, IsDelete: deleted}); err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("apply: %v", err)
			}
			im := e.finish()
			for topic := range im.Topics() {
				for _, p := range im.PartitionsOf(topic.ID) {
					if p.ID.Topic != topic.ID {
						t.Errorf("partition %+v of topic %+v", p, topic)
					}
				}
			}
		}
	})
}

func FuzzGroupID(f *testing.F) {
	for _, s := range []string{"", "a", "a/b", "%41", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > MaxGroupIDBytes {
			return
		}
		e := escapeGroup(s)
		if got, err := unescapeGroup(e); err != nil || got != s || strings.Contains(e, "/") {
			t.Errorf("%q is escaped as %q and read as %q, %v", s, e, got, err)
		}
		if got, err := unescapeGroup(s); err == nil && escapeGroup(got) != s {
			t.Errorf("%q is read as %q, which is escaped as %q", s, got, escapeGroup(got))
		}
	})
}
