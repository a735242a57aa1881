package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

func TestCreateTopic(t *testing.T) {
	for _, n := range []int32{1, createAtOnce, createAtOnce + 1, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(h *harness) {
				other := h.open()
				spec := TopicSpec{Name: "orders", Partitions: n, ReplicationFactor: 3, Configs: map[string]string{"retention.ms": "1"}, Owner: 1, Incarnation: h.inc}
				topic, err := h.s.CreateTopic(h.Context(), spec)
				h.must(err)
				if topic.Name != "orders" || topic.Partitions != n || topic.ReplicationFactor != 3 || topic.Configs["retention.ms"] != "1" || topic.Revision == 0 {
					h.Errorf("topic %+v", topic)
				}
				for i, p := range h.s.Image().PartitionsOf(topic.ID) {
					want := Partition{ID: PartitionID{topic.ID, int32(i)}, Owner: 1, OwnerIncarnation: h.inc, Revision: p.Revision}
					if *p != want || p.Revision == 0 {
						h.Fatalf("partition %+v, want %+v", *p, want)
					}
				}
				if im := h.s.Image(); im.NumTopics() != 1 || im.NumPartitions() != int(n) || len(im.PartitionsOf(topic.ID)) != int(n) {
					h.Errorf("%d topics, %d partitions, %d of the topic", im.NumTopics(), im.NumPartitions(), len(im.PartitionsOf(topic.ID)))
				}
				synctest.Wait()
				if d := difference(describeImage(other), describeImage(h.s)); d != "" {
					h.Errorf("another broker has (-), want (+)\n%s", d)
				}
				if strings.Contains(h.dump(), dirCreating) {
					h.Error("the intent is still recorded")
				}
				spec.Configs = nil
				if _, err := other.CreateTopic(h.Context(), spec); !errors.Is(err, ErrExists) {
					h.Errorf("created again: %v", err)
				}
			})
		})
	}
}

func TestCreateTopicRefused(t *testing.T) {
	inBubble(t, func(h *harness) {
		for name, spec := range map[string]TopicSpec{
			"no name":             {Partitions: 1},
			"slash":               {Name: "a/b", Partitions: 1},
			"dots":                {Name: "..", Partitions: 1},
			"long name":           {Name: strings.Repeat("a", MaxTopicNameBytes+1), Partitions: 1},
			"no partitions":       {Name: "a"},
			"too many partitions": {Name: "a", Partitions: MaxTopicPartitions + 1},
			"huge configs":        {Name: "a", Partitions: 1, Configs: map[string]string{"x": strings.Repeat("y", MaxConfigBytes)}},
			"not UTF-8":           {Name: "a", Partitions: 1, Configs: map[string]string{"x": "\xff"}},
		} {
			if _, err := h.s.CreateTopic(h.Context(), spec); !errors.Is(err, ErrInvalid) {
				h.Errorf("%s: %v", name, err)
			}
		}
		for _, n := range []int32{1, createAtOnce + 1} {
			_, err := h.s.CreateTopic(h.Context(), TopicSpec{Name: "a", Partitions: n, Owner: 1, Incarnation: h.inc + 1})
			if !errors.Is(err, ErrFenced) {
				h.Errorf("%d partitions, another incarnation: %v", n, err)
			}
		}
	})
}

// Two brokers make the same topic at the same time, neither seeing the other's: one wins.
func TestCreateTopicRace(t *testing.T) {
	for _, n := range []int32{1, 500} {
		inBubble(t, func(h *harness) {
			other := h.open()
			inc2 := h.register(other, Broker{ID: 2, Token: "data-2"}).Incarnation
			synctest.Wait()
			h.kv.StallWatches(true)
			h.create("orders", n)
			_, err := other.CreateTopic(h.Context(), TopicSpec{Name: "orders", Partitions: n, Owner: 2, Incarnation: inc2})
			if !errors.Is(err, ErrExists) {
				h.Errorf("second creation: %v", err)
			}
			h.kv.StallWatches(false)
			synctest.Wait()
			if im := other.Image(); im.NumTopics() != 1 || im.NumPartitions() != int(n) || strings.Count(h.dump(), dirPartition) != int(n) {
				h.Errorf("%d topics, %d partitions", im.NumTopics(), im.NumPartitions())
			}
		})
	}
}

func TestCreateTopicUnknownOutcomes(t *testing.T) {
	for _, n := range []int32{3, 400} {
		txns := 1
		if n > createAtOnce {
			txns = 2 + int((n+chunkOps-1)/chunkOps)
		}
		for nth := 1; nth <= txns; nth++ {
			for name, f := range map[string]memkv.Fault{"lost": {Lost: true}, "unknown": {Unknown: true}, "late": {Late: 10 * time.Second}, "slow": {Delay: time.Second}} {
				t.Run(fmt.Sprintf("%d/%d/%s", n, nth, name), func(t *testing.T) {
					inBubble(t, func(h *harness) {
						h.failing(nth, f)
						topic := h.create("orders", n)
						time.Sleep(time.Minute) // late transactions
						if got, ok := h.s.Image().Topic("orders"); !ok || got.ID != topic.ID || h.s.Image().NumPartitions() != int(n) {
							h.Errorf("topic %+v", got)
						}
						if strings.Contains(h.dump(), dirCreating) {
							h.Error("the intent is still recorded")
						}
					})
				})
			}
		}
	}
}

// etcd goes away for good in the middle of a creation: nothing is seen, and the leftovers are removed when it is back.
func TestCreateTopicCutOff(t *testing.T) {
	inBubble(t, func(h *harness) {
		first := h.kv.Calls(memkv.OpTxn)
		h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
			return memkv.Fault{Lost: c.Kind == memkv.OpTxn && c.N > first+3}
		})
		_, err := h.s.CreateTopic(h.Context(), TopicSpec{Name: "orders", Partitions: 1000, Owner: 1, Incarnation: h.inc})
		if !errors.Is(err, ErrUnavailable) {
			h.Fatalf("creation: %v", err)
		}
		h.kv.SetFaults(nil)
		if !strings.Contains(h.dump(), dirCreating) || !strings.Contains(h.dump(), dirPartition) {
			h.Fatal("nothing to remove")
		}
		if _, ok := h.s.Image().Topic("orders"); ok {
			h.Error("the unfinished topic can be seen")
		}
		time.Sleep(2 * sweepEvery)
		if d := h.dump(); strings.Contains(d, dirCreating) || strings.Contains(d, dirPartition) {
			h.Error("leftovers after the sweep")
		}
		h.create("orders", 1000)
	})
}

// A creator dies; brokers that start while it counts as live leave its creation alone, and remove it when its lease is over
// or when the same data directory registers again.
func TestSweepAfterCrash(t *testing.T) {
	for _, again := range []bool{false, true} {
		inBubble(t, func(h *harness) {
			dead := h.open()
			reg := h.register(dead, Broker{ID: 2, Token: "data-2"})
			c := &creation{s: dead, topic: &Topic{Name: "orders", ID: randomID()}, end: 500, owner: 2, incarnation: reg.Incarnation}
			h.must(c.declare(h.Context()))
			h.must(c.writeAll(h.Context()))
			reg.cancel() // as kill -9: the lease stays
			h.open()
			if n := strings.Count(h.dump(), dirPartition); n != 500 {
				h.Fatalf("%d partitions while the creator may be at work", n)
			}
			if again {
				h.register(h.open(), Broker{ID: 2, Token: "data-2"})
			} else {
				time.Sleep(time.Minute)
				h.open()
			}
			synctest.Wait() // the other brokers sweep at this moment too, each a part of it
			if d := h.dump(); strings.Contains(d, dirPartition) || strings.Contains(d, dirCreating) {
				h.Error("leftovers of a dead creator")
			}
			if err := c.writeAll(h.Context()); !errors.Is(err, ErrConflict) {
				h.Errorf("the dead creator goes on: %v", err)
			}
		})
	}
}

// A creator sleeps before its last transaction for so long that others sweep its work: the topic must not appear.
func TestSweptCreatorWakes(t *testing.T) {
	inBubble(t, func(h *harness) {
		sleeper := h.open()
		reg := h.register(sleeper, Broker{ID: 2, Token: "data-2"})
		first := h.kv.Calls(memkv.OpTxn)
		h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
			if c.Kind == memkv.OpTxn && c.N == first+1+3+1 { // intent, three chunks, publication
				return memkv.Fault{Delay: time.Hour}
			}
			return memkv.Fault{}
		})
		done := make(chan error, 1)
		go func() {
			_, err := sleeper.CreateTopic(h.Context(), TopicSpec{Name: "orders", Partitions: 300, Owner: 2, Incarnation: reg.Incarnation})
			done <- err
		}()
		reg.cancel() // nobody keeps its lease alive
		time.Sleep(10 * time.Minute)
		if d := h.dump(); strings.Contains(d, dirPartition) || strings.Contains(d, dirCreating) {
			h.Error("not swept")
		}
		if err := <-done; !errors.Is(err, ErrConflict) {
			h.Errorf("the sleeper: %v", err)
		}
		if d := h.dump(); strings.Contains(d, dirTopic) || strings.Contains(d, dirName) {
			h.Error("a topic without partitions")
		}
	})
}

func TestDeleteTopic(t *testing.T) {
	inBubble(t, func(h *harness) {
		old := h.create("orders", 150)
		id := PartitionID{old.ID, 7}
		h.must(h.s.SwapManifests(h.Context(), []ManifestSwap{{Partition: id, New: ManifestRef{Key: "m", Generation: 1, End: 5, SizeBytes: 9}}}))
		h.must(h.s.DeleteTopic(h.Context(), old.ID))
		if _, ok := h.s.Image().Topic("orders"); ok {
			h.Error("deleted topic is there")
		}
		if err := h.s.DeleteTopic(h.Context(), old.ID); !errors.Is(err, ErrNotFound) {
			h.Errorf("deleted again: %v", err)
		}
		if err := h.s.SetLogStart(h.Context(), id, 0, 3); !errors.Is(err, ErrNotFound) {
			h.Errorf("mutation of a deleted topic: %v", err)
		}
		if err := h.s.SetTopicConfigs(h.Context(), old.ID, func(m map[string]string) (map[string]string, error) { return m, nil }); !errors.Is(err, ErrNotFound) {
			h.Errorf("configs of a deleted topic: %v", err)
		}
		again := h.create("orders", 1)
		if again.ID == old.ID {
			h.Error("the new topic has the old id")
		}
		deleted, err := h.s.DeletedTopics(h.Context())
		h.must(err)
		if len(deleted) != 1 || deleted[0].ID != old.ID || deleted[0].Name != "orders" || len(deleted[0].Partitions) != 150 || deleted[0].Partitions[7].Manifest.Key != "m" {
			h.Errorf("tombstones %+v", deleted)
		}
		h.must(h.s.PurgeTopic(h.Context(), old.ID))
		h.must(h.s.PurgeTopic(h.Context(), old.ID))
		if deleted, _ := h.s.DeletedTopics(h.Context()); len(deleted) != 0 {
			h.Errorf("tombstones after the purge %+v", deleted)
		}
		if n := strings.Count(h.dump(), dirPartition); n != 1 {
			h.Errorf("%d partitions are left", n)
		}
	})
}

// A broker that has not heard of a deletion cannot write the topic's partitions any more.
func TestDeletedElsewhere(t *testing.T) {
	inBubble(t, func(h *harness) {
		other := h.open()
		topic := h.create("orders", 3)
		synctest.Wait()
		h.kv.StallWatches(true)
		h.must(other.DeleteTopic(h.Context(), topic.ID))
		err := h.s.SwapManifests(h.Context(), []ManifestSwap{{Partition: PartitionID{topic.ID, 0}, New: ManifestRef{Key: "m", Generation: 1}}})
		if !errors.Is(err, ErrNotFound) {
			h.Errorf("swap: %v", err)
		}
		if _, ok := h.s.Image().Topic("orders"); ok {
			h.Error("the lost swap did not bring the image up to date")
		}
		h.create("orders", 2) // before the watch tells of the deletion
		h.kv.StallWatches(false)
		synctest.Wait()
		if topic, ok := h.s.Image().Topic("orders"); !ok || topic.Partitions != 2 {
			h.Errorf("the new topic was lost: %+v", topic)
		}
	})
}

func TestDeleteTopicUnknownOutcomes(t *testing.T) {
	for name, f := range map[string]memkv.Fault{"lost": {Lost: true}, "unknown": {Unknown: true}, "late": {Late: 10 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				topic := h.create("orders", 3)
				h.failing(1, f)
				h.must(h.s.DeleteTopic(h.Context(), topic.ID))
				h.create("orders", 1)
				time.Sleep(time.Minute)
				if deleted, _ := h.s.DeletedTopics(h.Context()); len(deleted) != 1 || len(deleted[0].Partitions) != 3 {
					h.Errorf("tombstones %+v", deleted)
				}
			})
		})
	}
}

func TestAddPartitions(t *testing.T) {
	for _, to := range []int32{5, 700} {
		for name, f := range map[string]memkv.Fault{"fine": {}, "lost": {Lost: true}, "unknown": {Unknown: true}} {
			for nth := 1; nth <= 2; nth++ {
				t.Run(fmt.Sprintf("%d/%s/%d", to, name, nth), func(t *testing.T) {
					inBubble(t, func(h *harness) {
						topic := h.create("orders", 3)
						h.failing(nth, f)
						h.must(h.s.AddPartitions(h.Context(), topic.ID, to, 1, h.inc, nil))
						got, _ := h.s.Image().Topic("orders")
						if got.Partitions != to || len(h.s.Image().PartitionsOf(topic.ID)) != int(to) || h.s.Image().NumPartitions() != int(to) {
							h.Errorf("topic %+v", got)
						}
						if p := h.partition(PartitionID{topic.ID, to - 1}); p.Owner != 1 || p.Revision == 0 {
							h.Errorf("partition %+v", p)
						}
						if err := h.s.AddPartitions(h.Context(), topic.ID, to, 1, h.inc, nil); !errors.Is(err, ErrInvalid) {
							h.Errorf("the same number: %v", err)
						}
					})
				})
			}
		}
	}
	inBubble(t, func(h *harness) {
		if err := h.s.AddPartitions(h.Context(), randomID(), 5, 1, h.inc, nil); !errors.Is(err, ErrNotFound) {
			h.Errorf("unknown topic: %v", err)
		}
	})
}

func TestConfigs(t *testing.T) {
	inBubble(t, func(h *harness) {
		other := h.open()
		topic := h.create("orders", 1)
		set := func(key, value string) func(map[string]string) (map[string]string, error) {
			return func(m map[string]string) (map[string]string, error) {
				m[key] = value
				return m, nil
			}
		}
		synctest.Wait()
		h.kv.StallWatches(true)
		h.must(h.s.SetTopicConfigs(h.Context(), topic.ID, set("a", "1")))
		h.must(other.SetTopicConfigs(h.Context(), topic.ID, set("b", "2"))) // loses the swap and tries again
		h.must(h.s.SetBrokerConfigs(h.Context(), ClusterDefault, set("c", "3")))
		h.must(other.SetBrokerConfigs(h.Context(), ClusterDefault, set("d", "4")))
		h.must(h.s.SetBrokerConfigs(h.Context(), 5, set("e", "5")))
		h.kv.StallWatches(false)
		synctest.Wait()
		got, _ := h.s.Image().Topic("orders")
		if want := map[string]string{"a": "1", "b": "2"}; !maps.Equal(got.Configs, want) {
			h.Errorf("topic configs %v", got.Configs)
		}
		if want := map[string]string{"c": "3", "d": "4"}; !maps.Equal(h.s.Image().BrokerConfigs(ClusterDefault), want) {
			h.Errorf("cluster configs %v", h.s.Image().BrokerConfigs(ClusterDefault))
		}
		if want := map[string]string{"e": "5"}; !maps.Equal(other.Image().BrokerConfigs(5), want) {
			h.Errorf("broker configs %v", other.Image().BrokerConfigs(5))
		}
		refuse := errors.New("refused")
		no := func(map[string]string) (map[string]string, error) { return nil, refuse }
		if err := h.s.SetTopicConfigs(h.Context(), topic.ID, no); !errors.Is(err, refuse) {
			h.Errorf("topic: %v", err)
		}
		if err := h.s.SetBrokerConfigs(h.Context(), 5, no); !errors.Is(err, refuse) {
			h.Errorf("broker: %v", err)
		}
		h.failing(1, memkv.Fault{Unknown: true})
		h.must(h.s.SetTopicConfigs(h.Context(), topic.ID, set("a", "9")))
	})
}

func TestCluster(t *testing.T) {
	inBubble(t, func(h *harness) {
		id := h.s.Image().ClusterID()
		if len(id) != 22 || id[0] == '-' {
			h.Errorf("cluster id %q", id)
		}
		if again := h.open().Image().ClusterID(); again != id {
			h.Errorf("cluster id %q, then %q", id, again)
		}
		if _, err := Open(h.Context(), h.kv, Options{ClusterID: "other"}); !errors.Is(err, ErrConflict) {
			h.Errorf("another cluster's id: %v", err)
		}
		s, err := Open(h.Context(), memkv.New(), Options{ClusterID: "chosen", Prefix: "/x"})
		h.must(err)
		if s.Image().ClusterID() != "chosen" {
			h.Errorf("cluster id %q", s.Image().ClusterID())
		}
		for _, prefix := range []string{"x", "/" + strings.Repeat("x", 64)} {
			if _, err := Open(h.Context(), h.kv, Options{Prefix: prefix}); !errors.Is(err, ErrInvalid) {
				h.Errorf("prefix %q: %v", prefix, err)
			}
		}
		ctx, cancel := context.WithCancel(h.Context())
		cancel()
		if _, err := Open(ctx, h.kv, Options{}); !errors.Is(err, ErrUnavailable) {
			h.Errorf("cancelled: %v", err)
		}
		h.put("/bad/meta/topic/"+randomID().Hex(), "{")
		if _, err := Open(h.Context(), h.kv, Options{Prefix: "/bad"}); !errors.Is(err, ErrInvalid) {
			h.Errorf("damaged record: %v", err)
		}
	})
}

func TestProducerIDs(t *testing.T) {
	inBubble(t, func(h *harness) {
		other := h.open()
		next := int64(0)
		for i, f := range []memkv.Fault{{}, {Lost: true}, {}, {Unknown: true}, {Late: time.Second}, {}} {
			s := []*Store{h.s, other}[i%2]
			h.failing(2, f)
			first, err := s.AllocateProducerIDs(h.Context(), 1000)
			h.must(err)
			if first < next {
				h.Errorf("block at %d, given out up to %d", first, next)
			}
			next = first + 1000
			time.Sleep(10 * time.Second)
		}
		if next > 10_000 {
			h.Errorf("blocks up to %d for six requests", next)
		}
		for _, n := range []int64{0, -1, 1 << 50} {
			if _, err := h.s.AllocateProducerIDs(h.Context(), n); !errors.Is(err, ErrInvalid) {
				h.Errorf("block of %d: %v", n, err)
			}
		}
		if page, _ := h.kv.Range(h.Context(), kv.Range{Start: h.s.keys.producerIDs()}); len(page.Pairs) != 1 {
			h.Error("no key")
		}
	})
}
