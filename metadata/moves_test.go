package metadata

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

// second is another broker with a store of its own.
func (h *harness) second(id BrokerID) (*Store, Incarnation) {
	h.Helper()
	s := h.open()
	return s, h.register(s, Broker{ID: id, Token: "data-" + string(rune('0'+id))}).Incarnation
}

func (h *harness) streamOf(owner BrokerID, inc Incarnation) StreamState {
	h.Helper()
	st, err := h.s.CreateStream(h.Context(), owner, inc, ClassLocal)
	h.must(err)
	return *st
}

func releasesOf(ids []PartitionID, epoch LeaderEpoch, to BrokerID, inc Incarnation) []Release {
	out := make([]Release, len(ids))
	for i, id := range ids {
		out[i] = Release{Partition: id, LeaderEpoch: epoch, To: to, ToIncarnation: inc}
	}
	return out
}

func TestReleasePartitions(t *testing.T) {
	inBubble(t, func(h *harness) {
		ids := append(h.ids(h.create("big", 500)), h.ids(h.create("small", 2))...)
		streams := []StreamState{h.streamOf(1, h.inc)}
		other, inc2 := h.second(2)
		for range 2 { // the repetition finds its own work
			h.must(h.s.ReleasePartitions(h.Context(), streams, releasesOf(ids, 0, 2, inc2)))
		}
		for _, id := range ids {
			if p := h.partition(id); p.Owner != 2 || p.OwnerIncarnation != inc2 || p.LeaderEpoch != 1 {
				h.Fatalf("%+v", p)
			}
		}
		// What was given away is not for the former owner to give again, nor to change.
		if err := h.s.ReleasePartitions(h.Context(), streams, releasesOf(ids[:1], 0, 3, 99)); !errors.Is(err, ErrFenced) {
			h.Errorf("released twice: %v", err)
		}
		if err := h.s.SetLogStart(h.Context(), ids[0], 0, 1); !errors.Is(err, ErrFenced) {
			h.Errorf("log start by the former owner: %v", err)
		}
		stream2 := h.streamOf(2, inc2)
		h.must(other.ReleasePartitions(h.Context(), []StreamState{stream2}, releasesOf(ids, 1, 1, h.inc)))
		synctest.Wait()
		if p := h.partition(ids[0]); p.Owner != 1 || p.LeaderEpoch != 2 {
			h.Errorf("%+v", p)
		}
	})
}

// TestRecoveredOwnerReleasesNothing lets somebody recover the owner's stream first: a partition's fate is then theirs.
func TestRecoveredOwnerReleasesNothing(t *testing.T) {
	inBubble(t, func(h *harness) {
		ids := h.ids(h.create("t", 3))
		streams := []StreamState{h.streamOf(1, h.inc)}
		other, inc2 := h.second(2)
		_, err := other.RecoverStream(h.Context(), streams[0].ID, inc2)
		h.must(err)
		err = h.s.ReleasePartitions(h.Context(), streams, releasesOf(ids, 0, 2, inc2))
		var p *PartialError
		if !errors.As(err, &p) || len(p.Errors) != 3 || !errors.Is(err, ErrFenced) {
			h.Errorf("release by a fenced owner: %v", err)
		}
		if p := h.partition(ids[0]); p.Owner != 1 || p.LeaderEpoch != 0 {
			h.Errorf("%+v", p)
		}
	})
}

func TestTakePartitions(t *testing.T) {
	inBubble(t, func(h *harness) {
		ids := h.ids(h.create("t", 300))
		stream := h.streamOf(1, h.inc)
		other, inc2 := h.second(2)
		third, inc3 := h.second(3)
		take := func(ids []PartitionID, to BrokerID, inc Incarnation) []Takeover {
			out := make([]Takeover, len(ids))
			for i, id := range ids {
				out[i] = Takeover{Partition: id, To: to, ToIncarnation: inc}
			}
			return out
		}
		refused := func(when string) {
			h.Helper()
			if err := other.TakePartitions(h.Context(), h.inc, take(ids, 2, inc2)); !errors.Is(err, ErrConflict) {
				h.Errorf("%s: %v", when, err)
			}
		}
		refused("the stream is open")
		st, err := other.RecoverStream(h.Context(), stream.ID, inc2)
		h.must(err)
		refused("the stream is being recovered")
		h.must(other.SealStream(h.Context(), stream.ID, st.Revision, 0))
		for range 2 {
			h.must(other.TakePartitions(h.Context(), h.inc, take(ids[:200], 2, inc2)))
		}
		err = third.TakePartitions(h.Context(), h.inc, take(ids, 3, inc3))
		var p *PartialError
		if !errors.As(err, &p) || len(p.Errors) != 200 || !errors.Is(p.Errors[0], ErrConflict) || p.Errors[200] != nil {
			h.Errorf("of two that take the same, one wins: %v", err)
		}
		h.must(other.DeleteStream(h.Context(), stream.ID))
		synctest.Wait()
		for i, id := range ids {
			want, inc := BrokerID(2), inc2
			if i >= 200 {
				want, inc = 3, inc3
			}
			if p := h.partition(id); p.Owner != want || p.OwnerIncarnation != inc || p.LeaderEpoch != 1 {
				h.Fatalf("%d: %+v", i, p)
			}
		}
		// A forgotten stream counts as sealed; there is nothing left to take, though.
		if err := other.TakePartitions(h.Context(), h.inc, take(ids[:1], 2, inc2)); err != nil {
			h.Errorf("repeated after the stream was forgotten: %v", err)
		}
	})
}

// TestMovesUnderFaults moves partitions about among brokers while answers are lost, transactions come late or not at all. Whoever is the owner under an epoch is so
// alone, and epochs only grow.
func TestMovesUnderFaults(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func(h *harness) {
			rng, chance := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			ids := h.ids(h.create("t", 150))
			type member struct {
				s      *Store
				id     BrokerID
				inc    Incarnation
				stream StreamState
			}
			members := []member{{h.s, 1, h.inc, h.streamOf(1, h.inc)}}
			for id := BrokerID(2); id <= 3; id++ {
				s, inc := h.second(id)
				members = append(members, member{s, id, inc, h.streamOf(id, inc)})
			}
			h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
				if c.Kind != memkv.OpTxn {
					return memkv.Fault{}
				}
				return memkv.Fault{Lost: chance.IntN(8) == 0, Unknown: chance.IntN(8) == 0, Late: time.Duration(chance.IntN(8)/7) * time.Second}
			})
			at, epoch := 0, LeaderEpoch(0)
			for range 12 {
				from := members[at]
				at = (at + 1 + rng.IntN(2)) % 3
				to := members[at]
				for { // until the outcome is known
					err := from.s.ReleasePartitions(h.Context(), []StreamState{from.stream}, releasesOf(ids, epoch, to.id, to.inc))
					if err == nil {
						break
					}
					if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrFenced) {
						h.Fatalf("seed %d: %v", seed, err)
					}
				}
				epoch++
				for _, id := range ids {
					if p, _ := from.s.Image().Partition(id); p.Owner != to.id || p.OwnerIncarnation != to.inc || p.LeaderEpoch != epoch {
						h.Fatalf("seed %d: after the move to %d under epoch %d: %+v", seed, to.id, epoch, *p)
					}
				}
			}
			time.Sleep(10 * time.Second) // the late ones arrive
			synctest.Wait()
			for _, id := range ids {
				if p := h.partition(id); p.Owner != members[at].id || p.LeaderEpoch != epoch {
					h.Fatalf("seed %d: a late transaction changed %+v", seed, p)
				}
			}
		})
	}
}

// TestPlacedPartitions creates a topic whose partitions belong to several brokers, in one transaction and in many.
func TestPlacedPartitions(t *testing.T) {
	inBubble(t, func(h *harness) {
		other, inc2 := h.second(2)
		places := []Place{{1, h.inc}, {2, inc2}}
		place := func(i int32) Place { return places[i%2] }
		for name, n := range map[string]int32{"few": 5, "many": 500} {
			topic, err := h.s.CreateTopic(h.Context(), TopicSpec{Name: name, Partitions: n, ReplicationFactor: 1, Owner: 1, Incarnation: h.inc, Place: place})
			h.must(err)
			h.must(h.s.AddPartitions(h.Context(), topic.ID, n+200, 1, h.inc, place))
			synctest.Wait()
			for i, p := range other.Image().PartitionsOf(topic.ID) {
				if want := places[i%2]; p.Owner != want.Broker || p.OwnerIncarnation != want.Incarnation || p.LeaderEpoch != 0 {
					h.Fatalf("%+v", *p)
				}
			}
			if got := len(other.Image().PartitionsOf(topic.ID)); got != int(n)+200 {
				h.Errorf("%d partitions", got)
			}
		}
	})
}

// TestResumePartitions: a run takes what its broker's former runs own, and not what another broker was given.
func TestResumePartitions(t *testing.T) {
	inBubble(t, func(h *harness) {
		ids := h.ids(h.create("t", 3))
		s2, inc2 := h.second(2)
		h.must(s2.AcquirePartitions(h.Context(), 2, inc2, ids[:2]))
		h.must(h.reg.Close(h.Context()))
		again := h.register(h.s, Broker{ID: 1, Token: "data-1"}).Incarnation
		synctest.Wait()
		err := h.s.ResumePartitions(h.Context(), 1, again, ids)
		var p *PartialError
		if !errors.As(err, &p) || !errors.Is(p.Errors[0], ErrConflict) || !errors.Is(p.Errors[1], ErrConflict) || len(p.Errors) != 2 {
			h.Errorf("resume: %v", err)
		}
		if got := h.partition(ids[2]); got.Owner != 1 || got.OwnerIncarnation != again || got.LeaderEpoch != 1 {
			h.Errorf("%+v", got)
		}
		if got := h.partition(ids[0]); got.Owner != 2 {
			h.Errorf("%+v", got)
		}
	})
}

// TestTakeShards: the shards of a broker that is gone are taken whatever its streams are, and not while it is registered.
func TestTakeShards(t *testing.T) {
	inBubble(t, func(h *harness) {
		ids := h.ids(h.create("shards", 50))
		h.streamOf(1, h.inc)
		s2, inc2 := h.second(2)
		from := Place{1, h.inc}
		takeovers := make([]Takeover, len(ids))
		for i, id := range ids {
			takeovers[i] = Takeover{id, 2, inc2}
		}
		if err := s2.TakeShards(h.Context(), from, takeovers); !errors.Is(err, ErrConflict) {
			h.Errorf("taken from a live broker: %v", err)
		}
		h.must(h.reg.Close(h.Context()))
		for range 2 {
			h.must(s2.TakeShards(h.Context(), from, takeovers))
		}
		synctest.Wait() // h.s hears of it by its watch
		for _, id := range ids {
			if p := h.partition(id); p.Owner != 2 || p.OwnerIncarnation != inc2 || p.LeaderEpoch != 1 {
				h.Fatalf("%+v", p)
			}
		}
	})
}
