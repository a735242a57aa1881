package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

// The watch falls behind a compaction while both stores write: everything is read again, own writes are never out of sight.
func TestRelistAfterCompaction(t *testing.T) {
	inBubble(t, func(h *harness) {
		other := h.open()
		gone := h.create("gone", 200)
		kept := h.create("kept", 3)
		h.create("extended", 2)
		st := h.stream()
		synctest.Wait()
		h.kv.StallWatches(true)
		h.must(other.DeleteTopic(h.Context(), gone.ID))
		h.must(other.PurgeTopic(h.Context(), gone.ID))
		h.must(other.SetBrokerConfigs(h.Context(), 4, func(map[string]string) (map[string]string, error) { return map[string]string{"a": "b"}, nil }))
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, 1, 0, 1)}))
		own := h.create("own", 150)
		h.must(h.s.SetLogStart(h.Context(), PartitionID{kept.ID, 1}, 0, 9))
		h.must(h.kv.Compact(h.Context(), h.kv.Revision()))
		// While the listing runs, the store goes on writing.
		h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
			if c.Kind == memkv.OpRange { // the listing is old when it arrives
				return memkv.Fault{Answer: 3 * time.Second}
			}
			return memkv.Fault{}
		})
		h.kv.StallWatches(false)
		h.kv.BreakWatches()
		time.Sleep(1500 * time.Millisecond)
		during := h.create("during", 150)
		h.must(h.s.DeleteTopic(h.Context(), own.ID))
		for range 10 {
			if _, ok := h.s.Image().TopicByID(during.ID); !ok {
				h.Fatal("a topic that was created vanished from the image")
			}
			if _, ok := h.s.Image().TopicByID(own.ID); ok {
				h.Fatal("a topic that was deleted is back in the image")
			}
			time.Sleep(time.Second)
		}
		if _, ok := h.s.Image().Topic("gone"); ok {
			h.Error("a deletion before the compaction was missed")
		}
		if h.s.Image().BrokerConfigs(4)["a"] != "b" {
			h.Error("configs set before the compaction were missed")
		}
	})
}

// Changes reach the image in any order: by own transactions, by what lost ones read, and by the watch, which may be behind.
func TestObserveOutOfOrder(t *testing.T) {
	s, err := Open(t.Context(), memkv.New(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	key := s.keys.config(3)
	at := func(rev int64, value string) kv.Event {
		return kv.Event{Pair: kv.Pair{Key: key, ModRevision: rev, Value: encodeJSON(configRecord{1, map[string]string{"v": value}})}}
	}
	check := func(want string) {
		t.Helper()
		if got := s.Image().BrokerConfigs(3)["v"]; got != want {
			t.Errorf("value %q, want %q", got, want)
		}
	}
	s.observe(at(20, "own"))
	check("own")
	s.observe(at(18, "older"))
	check("own")
	s.applyBatch(kv.Batch{Events: []kv.Event{at(15, "older"), at(18, "older")}, Revision: 18})
	check("own")
	s.observe(deletion(key, 21))
	check("")
	s.applyBatch(kv.Batch{Events: []kv.Event{at(20, "own")}, Revision: 20})
	check("")
	s.applyBatch(kv.Batch{Events: []kv.Event{deletion(key, 21), at(22, "newer")}, Revision: 22})
	check("newer")
	s.observe(at(21, "older"))
	check("newer")
	s.applyBatch(kv.Batch{Events: []kv.Event{at(22, "again")}, Revision: 22})
	check("newer")
	if len(s.recent) != 0 || s.Image().Revision() != 22 {
		t.Errorf("%d changes kept, revision %d", len(s.recent), s.Image().Revision())
	}
}

// A topic's record that is read ahead of the watch may have partitions that the image has not seen yet.
func TestHoles(t *testing.T) {
	s, err := Open(t.Context(), memkv.New(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := randomID()
	at := func(key string, rev int64, value []byte) kv.Event {
		return kv.Event{Pair: kv.Pair{Key: key, ModRevision: rev, Value: value}}
	}
	part := func(n int32, rev int64) kv.Event {
		return at(s.keys.partition(PartitionID{id, n}), rev, appendPartition(nil, &Partition{Owner: 4}))
	}
	record := func(n int32) []byte { return encodeJSON(topicRecord{Version: 1, Name: "t", Partitions: n}) }
	s.applyBatch(kv.Batch{Events: []kv.Event{part(0, 10), at(s.keys.topic(id), 10, record(1))}, Revision: 10})
	s.observe(at(s.keys.topic(id), 20, record(3)))
	parts := s.Image().PartitionsOf(id)
	if len(parts) != 3 || parts[0].Owner != 4 || parts[2].Owner != NoBroker || parts[2].ID.Partition != 2 {
		t.Fatalf("%+v", parts)
	}
	s.applyBatch(kv.Batch{Events: []kv.Event{part(1, 15), part(2, 15), at(s.keys.topic(id), 20, record(3))}, Revision: 20})
	if parts = s.Image().PartitionsOf(id); len(parts) != 3 || parts[1].Owner != 4 || parts[2].Owner != 4 {
		t.Fatalf("%+v", parts)
	}
	s.observe(deletion(s.keys.topic(id), 30))
	for n := range int32(3) {
		if s.Image().state(id) == nil {
			t.Errorf("forgotten with %d partitions left", 3-n)
		}
		s.observe(deletion(s.keys.partition(PartitionID{id, n}), 31))
	}
	if st := s.Image().state(id); st != nil {
		t.Errorf("left over: %+v", st)
	}
}

func TestWatchComesBack(t *testing.T) {
	inBubble(t, func(h *harness) {
		other := h.open()
		for i := range 5 {
			h.kv.BreakWatches()
			h.create(fmt.Sprint("t", i), 2)
			time.Sleep(5 * time.Second)
			if _, ok := other.Image().Topic(fmt.Sprint("t", i)); !ok {
				h.Errorf("the other broker has not seen topic %d", i)
			}
		}
	})
}

// Random changes by two stores, with faults, end in the same images; the harness compares the first with etcd.
func TestImagesConverge(t *testing.T) {
	for seed := range 10 {
		inBubble(t, func(h *harness) {
			other := h.open()
			stores := []*Store{h.s, other}
			n := seed
			h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
				n = (n*1103515245 + 12345) & 0x7fffffff
				switch {
				case n>>8%11 == 0:
					return memkv.Fault{Lost: true}
				case n>>8%11 == 1 && c.Kind != memkv.OpGrant:
					return memkv.Fault{Unknown: true}
				case n>>8%11 == 2:
					return memkv.Fault{Delay: 30 * time.Millisecond}
				}
				return memkv.Fault{}
			})
			done := make(chan struct{}, 2)
			for k, s := range stores {
				go func() {
					defer func() { done <- struct{}{} }()
					for i := range 30 {
						h.mutate(s, k, i+seed)
					}
				}()
			}
			<-done
			<-done
			h.kv.SetFaults(nil)
			time.Sleep(time.Minute)
			if d := difference(describeImage(h.s), describeImage(other)); d != "" {
				h.Errorf("the images differ\n%s", d)
			}
		})
	}
}

// mutate makes some change; which of them succeed depends on the faults and the other store.
func (h *harness) mutate(s *Store, k, i int) {
	name := fmt.Sprint("t", i%4)
	topic, ok := s.Image().Topic(name)
	var err error
	switch {
	case !ok:
		_, err = s.CreateTopic(h.Context(), TopicSpec{Name: name, Partitions: int32(1 + i%3*90), Owner: 1, Incarnation: h.inc})
	case i%5 == 0:
		err = s.DeleteTopic(h.Context(), topic.ID)
	case i%5 == 1:
		err = s.SetTopicConfigs(h.Context(), topic.ID, func(m map[string]string) (map[string]string, error) {
			m[fmt.Sprint(k)] = fmt.Sprint(i)
			return m, nil
		})
	case i%5 == 2:
		err = s.AddPartitions(h.Context(), topic.ID, topic.Partitions+1, 1, h.inc, nil)
	case i%5 == 3:
		err = s.SetLogStart(h.Context(), PartitionID{topic.ID, 0}, 0, Offset(i))
	default:
		p, _ := s.Image().Partition(PartitionID{topic.ID, 0})
		err = s.SwapManifests(h.Context(), []ManifestSwap{{Partition: p.ID, Old: p.Manifest.Generation, New: ManifestRef{Key: name, Generation: p.Manifest.Generation + 1}}})
		if deleted, _ := s.DeletedTopics(h.Context()); len(deleted) > 0 {
			err = errors.Join(err, s.PurgeTopic(h.Context(), deleted[0].ID))
		}
	}
	for _, known := range []error{ErrExists, ErrNotFound, ErrConflict, ErrInvalid, ErrUnavailable} {
		if errors.Is(err, known) {
			return
		}
	}
	if err != nil {
		h.Errorf("change %d of store %d: %v", i, k, err)
	}
}

func TestChanges(t *testing.T) {
	inBubble(t, func(h *harness) {
		ctx, cancel := context.WithCancel(h.Context())
		changes := h.s.Changes(ctx)
		other := h.open()
		last := h.s.Image()
		next := func() Changes {
			h.Helper()
			select {
			case <-changes:
			case <-time.After(time.Minute):
				h.Error("no change was told of")
			}
			synctest.Wait()
			for drained := false; !drained; {
				select {
				case <-changes:
				default:
					drained = true
				}
			}
			c := Diff(last, h.s.Image())
			last = h.s.Image()
			return c
		}
		topic, err := other.CreateTopic(h.Context(), TopicSpec{Name: "a", Partitions: 2, Owner: 1, Incarnation: h.inc})
		h.must(err)
		if c := next(); len(c.Created) != 1 || c.Created[0].ID != topic.ID || len(c.Deleted)+len(c.Configured)+len(c.Extended) != 0 || c.Brokers || c.Configs {
			h.Errorf("creation: %+v", c)
		}
		h.must(other.SetTopicConfigs(h.Context(), topic.ID, func(map[string]string) (map[string]string, error) { return map[string]string{"x": "y"}, nil }))
		if c := next(); len(c.Configured) != 1 || c.Configured[0].Configs["x"] != "y" || len(c.Created)+len(c.Deleted)+len(c.Extended) != 0 {
			h.Errorf("configs: %+v", c)
		}
		h.must(other.AddPartitions(h.Context(), topic.ID, 4, 1, h.inc, nil))
		if c := next(); len(c.Extended) != 1 || c.Extended[0].Partitions != 4 || len(c.Configured) != 0 {
			h.Errorf("partitions: %+v", c)
		}
		h.must(other.SetBrokerConfigs(h.Context(), 1, func(map[string]string) (map[string]string, error) { return map[string]string{"x": "y"}, nil }))
		if c := next(); !c.Configs || c.Brokers {
			h.Errorf("broker configs: %+v", c)
		}
		h.register(other, Broker{ID: 5})
		if c := next(); !c.Brokers {
			h.Errorf("broker: %+v", c)
		}
		h.must(other.DeleteTopic(h.Context(), topic.ID))
		if c := next(); len(c.Deleted) != 1 || c.Deleted[0].Partitions != 4 || len(c.Created) != 0 {
			h.Errorf("deletion: %+v", c)
		}
		h.create("b", 1)
		next()
		b, _ := h.s.Image().Topic("b")
		h.must(h.s.SetLogStart(h.Context(), PartitionID{b.ID, 0}, 0, 7))
		synctest.Wait()
		select {
		case <-changes:
			h.Error("told of a partition's state")
		default:
		}
		cancel()
		synctest.Wait()
		if n := len(h.s.subscribers); n != 0 {
			h.Errorf("%d subscribers are left", n)
		}
	})
}

func TestImageLookups(t *testing.T) {
	inBubble(t, func(h *harness) {
		var want []string
		for i := range 300 {
			name := fmt.Sprintf("topic-%d", i)
			want = append(want, name)
			h.create(name, int32(1+i%3))
		}
		slices.Sort(want)
		im := h.s.Image()
		var got []string
		for topic := range im.Topics() {
			got = append(got, topic.Name)
		}
		if !slices.Equal(got, want) {
			h.Errorf("%d topics, want %d, or not sorted", len(got), len(want))
		}
		for topic := range im.Topics() {
			if topic.Name != want[0] {
				h.Error("the second iteration begins elsewhere")
			}
			break
		}
		n := 0
		for p := range im.All() {
			if q, ok := h.s.Partition(p.ID); !ok || q != p {
				h.Errorf("partition %s", p.ID)
			}
			n++
		}
		for range h.s.All() {
			break
		}
		if n != im.NumPartitions() || n != 600 {
			h.Errorf("%d partitions, %d counted", n, im.NumPartitions())
		}
		topic, _ := im.Topic("topic-7")
		name := []byte("topic-7")
		if allocs := testing.AllocsPerRun(100, func() {
			if t, ok := im.TopicBytes(name); !ok || t != topic {
				h.Error("not found")
			}
			if p, ok := im.Partition(PartitionID{topic.ID, 1}); !ok || p.ID.Partition != 1 {
				h.Error("not found")
			}
			im.TopicByID(topic.ID)
			im.PartitionsOf(topic.ID)
		}); allocs != 0 {
			h.Errorf("%v allocations per lookup", allocs)
		}
		for _, id := range []PartitionID{{topic.ID, -1}, {topic.ID, topic.Partitions}, {randomID(), 0}} {
			if _, ok := im.Partition(id); ok {
				h.Errorf("%s is there", id)
			}
		}
		if im.PartitionsOf(randomID()) != nil {
			h.Error("partitions of no topic")
		}
		// An image is immutable: what happens later does not show in it.
		before := describeImage(h.s)
		h.must(h.s.DeleteTopic(h.Context(), topic.ID))
		h.must(h.s.SetLogStart(h.Context(), PartitionID{mustTopic(h, "topic-8").ID, 0}, 0, 5))
		if p, _ := im.Partition(PartitionID{mustTopic(h, "topic-8").ID, 0}); p.LogStart != 0 {
			h.Error("an old image changed")
		}
		if _, ok := im.Topic("topic-7"); !ok || before == describeImage(h.s) {
			h.Error("an old image changed")
		}
	})
}

func mustTopic(h *harness, name string) *Topic {
	h.Helper()
	t, ok := h.s.Image().Topic(name)
	if !ok {
		h.Fatalf("no topic %s", name)
	}
	return t
}

// A topic whose record cannot be decoded does not look deleted after a relist: its data would be dropped.
func TestRelistKeepsTopicsOfNewerVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{T: t, kv: memkv.New()}
		h.s = h.open()
		topic := h.create("orders", 2)
		h.put(h.s.keys.topic(topic.ID), `{"v":99}`)
		synctest.Wait()
		h.must(h.s.relist(t.Context(), false))
		if got, ok := h.s.Image().TopicByID(topic.ID); !ok || got.Name != "orders" {
			t.Fatalf("the topic looks deleted: %+v", got)
		}
		if p, ok := h.s.Partition(PartitionID{topic.ID, 1}); !ok || p.Owner != 1 {
			t.Errorf("%+v", p)
		}
		unknown := randomID()
		h.put(h.s.keys.topic(unknown), `{"v":99}`)
		if err := h.s.relist(t.Context(), false); !errors.Is(err, ErrInvalid) {
			t.Errorf("a listing that leaves a topic out: %v", err)
		}
		if _, ok := h.s.Image().TopicByID(topic.ID); !ok {
			t.Error("the image is gone")
		}
	})
}

// Damage is logged and left out, also by relisting, but for topics and partitions; holes are shown as partitions without an owner.
func TestDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{T: t, kv: memkv.New()}
		h.s = h.open()
		topic := h.create("orders", 4)
		h.put(h.s.keys.partition(PartitionID{topic.ID, 2}), "rubbish")
		h.put("/tidemark/meta/partition/xyz", "rubbish")
		h.put("/tidemark/meta/broker/00000001", `{"v":2}`)
		synctest.Wait()
		if p := h.partition(PartitionID{topic.ID, 2}); p.Owner != 1 {
			t.Errorf("%+v: the last good record should stay", p)
		}
		h.must(h.s.relist(t.Context(), false))
		if p := h.partition(PartitionID{topic.ID, 2}); p.Owner != 1 || p.Revision == 0 {
			t.Errorf("%+v: the last good record should stay", p)
		}
		if len(h.s.Image().Brokers()) != 0 {
			t.Error("a damaged broker is live")
		}
		if _, err := h.kv.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Delete(h.s.keys.partition(PartitionID{topic.ID, 3}))}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p := h.partition(PartitionID{topic.ID, 3}); p.Owner != NoBroker {
			t.Errorf("%+v", p)
		}
		want := map[int32]Offset{0: 0, 1: 6, 2: 0, 3: 0}
		h.must(h.s.SetLogStart(t.Context(), PartitionID{topic.ID, 1}, 0, 6))
		got := map[int32]Offset{}
		for _, p := range h.s.Image().PartitionsOf(topic.ID) {
			got[p.ID.Partition] = p.LogStart
		}
		if !maps.Equal(got, want) {
			t.Errorf("log starts %v", got)
		}
	})
}
