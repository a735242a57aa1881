package metadata

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

func TestAcquirePartitions(t *testing.T) {
	inBubble(t, func(h *harness) {
		big, small := h.create("big", 700), h.create("small", 3)
		ids := append(h.ids(big), h.ids(small)...)
		h.must(h.s.AcquirePartitions(h.Context(), 1, h.inc, ids)) // belongs to us already
		if p := h.partition(ids[0]); p.LeaderEpoch != 0 {
			h.Errorf("epoch %d after acquiring one's own", p.LeaderEpoch)
		}
		other := h.open()
		inc2 := h.register(other, Broker{ID: 2, Token: "data-2"}).Incarnation
		for range 2 {
			h.must(other.AcquirePartitions(h.Context(), 2, inc2, ids))
			for _, id := range ids {
				if p, _ := other.Image().Partition(id); p.LeaderEpoch != 1 || p.Owner != 2 || p.OwnerIncarnation != inc2 {
					h.Fatalf("%+v", *p)
				}
			}
		}
		// The first owner, whose image may be behind, takes them back: epochs still only grow.
		h.must(h.s.AcquirePartitions(h.Context(), 1, h.inc, ids))
		if p := h.partition(ids[700]); p.LeaderEpoch != 2 || p.Owner != 1 {
			h.Errorf("%+v", p)
		}
		if err := h.s.AcquirePartitions(h.Context(), 2, inc2+1, ids); !errors.Is(err, ErrFenced) {
			h.Errorf("unknown incarnation: %v", err)
		}
		err := h.s.AcquirePartitions(h.Context(), 2, inc2, []PartitionID{ids[0], {randomID(), 0}, {small.ID, 3}, ids[0]})
		var p *PartialError
		if !errors.As(err, &p) || len(p.Errors) != 3 || !errors.Is(p.Errors[1], ErrNotFound) || !errors.Is(p.Errors[2], ErrNotFound) || !errors.Is(p.Errors[3], ErrInvalid) {
			h.Errorf("partial: %v", err)
		}
		if !strings.Contains(err.Error(), "3 items failed") || len(p.Unwrap()) != 3 {
			h.Errorf("message %q", err)
		}
	})
}

// Two brokers whose images are behind each other's: what the image says about a partition is never taken for granted.
func TestStaleImages(t *testing.T) {
	inBubble(t, func(h *harness) {
		topic := h.create("orders", 2)
		ids := h.ids(topic)
		other := h.open()
		inc2 := h.register(other, Broker{ID: 2, Token: "data-2"}).Incarnation
		synctest.Wait()
		h.kv.StallWatches(true)
		h.must(other.AcquirePartitions(h.Context(), 2, inc2, ids))
		// h.s still believes that they are its own, with epoch 0.
		if err := h.s.SetLogStart(h.Context(), ids[0], 0, 0); !errors.Is(err, ErrFenced) {
			h.Errorf("nothing to do, but fenced: %v", err)
		}
		h.must(h.s.AcquirePartitions(h.Context(), 1, h.inc, ids))
		for _, id := range ids {
			if p := h.partition(id); p.LeaderEpoch != 2 || p.Owner != 1 {
				h.Errorf("%+v", p)
			}
		}
		// other still believes in epoch 1; what it believes is no ground for refusing.
		h.must(other.SetLogStart(h.Context(), ids[0], 2, 5))
		if err := other.SetLogStart(h.Context(), ids[1], 1, 5); !errors.Is(err, ErrFenced) {
			h.Errorf("old epoch: %v", err)
		}
		h.must(other.DeleteTopic(h.Context(), topic.ID))
		if _, err := h.s.CreateTopic(h.Context(), TopicSpec{Name: "orders", Partitions: 1, Owner: 1, Incarnation: h.inc}); err != nil {
			h.Errorf("the name of a deleted topic: %v", err)
		}
	})
}

func TestAcquireUnknownOutcomes(t *testing.T) {
	for _, f := range []memkv.Fault{{Lost: true}, {Unknown: true}, {Late: time.Minute}} {
		inBubble(t, func(h *harness) {
			topic := h.create("orders", 300)
			inc2 := h.register(h.s, Broker{ID: 2, Token: "data-2"}).Incarnation
			h.failing(2, f)
			h.must(h.s.AcquirePartitions(h.Context(), 2, inc2, h.ids(topic)))
			time.Sleep(2 * time.Minute)
			for _, p := range h.s.Image().PartitionsOf(topic.ID) {
				if p.LeaderEpoch != 1 || p.Owner != 2 {
					h.Fatalf("%+v after %+v", *p, f)
				}
			}
		})
	}
	inBubble(t, func(h *harness) {
		topic := h.create("orders", 3)
		inc2 := h.register(h.s, Broker{ID: 2, Token: "data-2"}).Incarnation
		h.down()
		if err := h.s.AcquirePartitions(h.Context(), 2, inc2, h.ids(topic)); !errors.Is(err, ErrUnavailable) {
			h.Errorf("etcd is away: %v", err)
		}
	})
}

func TestSwapManifests(t *testing.T) {
	inBubble(t, func(h *harness) {
		topic := h.create("orders", 300)
		var swaps []ManifestSwap
		for _, id := range h.ids(topic) {
			swaps = append(swaps, ManifestSwap{Partition: id, New: ManifestRef{Key: fmt.Sprintf("m/%d", id.Partition), Generation: 1, End: 10, SizeBytes: 100}, LogStart: 4})
		}
		h.must(h.s.SwapManifests(h.Context(), swaps))
		h.must(h.s.SwapManifests(h.Context(), swaps)) // is there already
		if p := h.partition(swaps[299].Partition); p.Manifest != swaps[299].New || p.LogStart != 4 {
			h.Errorf("%+v", p)
		}
		next := ManifestRef{Key: "n", Generation: 2, End: 20}
		err := h.s.SwapManifests(h.Context(), []ManifestSwap{
			{Partition: swaps[0].Partition, Old: 1, New: next, LogStart: 2},
			{Partition: swaps[1].Partition, Old: 0, New: next},
			{Partition: swaps[2].Partition, Old: 1, New: next, LeaderEpoch: 1},
			{Partition: swaps[3].Partition, Old: 1, New: ManifestRef{Key: "x", Generation: 1}},
			{Partition: swaps[4].Partition, Old: 1, New: ManifestRef{Key: strings.Repeat("x", MaxManifestKeyBytes+1), Generation: 2}},
			{Partition: swaps[5].Partition, Old: 1, New: ManifestRef{Key: "x", Generation: 2, End: -1}},
		})
		var p *PartialError
		if !errors.As(err, &p) || len(p.Errors) != 5 {
			h.Fatalf("partial: %v", err)
		}
		for i, want := range map[int]error{1: ErrConflict, 2: ErrFenced, 3: ErrInvalid, 4: ErrInvalid, 5: ErrInvalid} {
			if !errors.Is(p.Errors[i], want) {
				h.Errorf("swap %d: %v, want %v", i, p.Errors[i], want)
			}
		}
		if p := h.partition(swaps[0].Partition); p.Manifest != next || p.LogStart != 4 {
			h.Errorf("%+v", p)
		}
	})
}

// A swap of two stores at once: both read generation 0, one wins.
func TestSwapManifestsRace(t *testing.T) {
	inBubble(t, func(h *harness) {
		other := h.open()
		id := PartitionID{h.create("orders", 1).ID, 0}
		synctest.Wait()
		h.kv.StallWatches(true)
		h.must(h.s.SetLogStart(h.Context(), id, 0, 3)) // changes the record, not the manifest: the swap goes through
		h.must(other.SwapManifests(h.Context(), []ManifestSwap{{Partition: id, New: ManifestRef{Key: "a", Generation: 1}}}))
		err := h.s.SwapManifests(h.Context(), []ManifestSwap{{Partition: id, New: ManifestRef{Key: "b", Generation: 1}}})
		if !errors.Is(err, ErrConflict) {
			h.Errorf("second swap: %v", err)
		}
		if p := h.partition(id); p.Manifest.Key != "a" || p.LogStart != 3 {
			h.Errorf("%+v", p)
		}
	})
}

func TestSwapManifestsUnknownOutcomes(t *testing.T) {
	for _, f := range []memkv.Fault{{Lost: true}, {Unknown: true}, {Late: time.Minute}} {
		inBubble(t, func(h *harness) {
			id := PartitionID{h.create("orders", 1).ID, 0}
			h.failing(1, f)
			h.must(h.s.SwapManifests(h.Context(), []ManifestSwap{{Partition: id, New: ManifestRef{Key: "a", Generation: 1}}}))
			h.must(h.s.SwapManifests(h.Context(), []ManifestSwap{{Partition: id, Old: 1, New: ManifestRef{Key: "b", Generation: 2}}}))
			time.Sleep(2 * time.Minute)
			if p := h.partition(id); p.Manifest.Key != "b" {
				h.Errorf("%+v after %+v", p, f)
			}
		})
	}
}

func TestSetLogStart(t *testing.T) {
	inBubble(t, func(h *harness) {
		id := PartitionID{h.create("orders", 1).ID, 0}
		for _, to := range []Offset{5, 3, 5, 0} {
			h.must(h.s.SetLogStart(h.Context(), id, 0, to))
			if p := h.partition(id); p.LogStart != 5 {
				h.Errorf("log start %d after %d", p.LogStart, to)
			}
		}
		if err := h.s.SetLogStart(h.Context(), id, 1, 9); !errors.Is(err, ErrFenced) {
			h.Errorf("wrong epoch: %v", err)
		}
	})
}

// The texts of a chunk boundary: topics and partitions together stay below etcd's limit.
func TestManyTopicsInOneUpdate(t *testing.T) {
	inBubble(t, func(h *harness) {
		var ids []PartitionID
		for i := range 150 {
			ids = append(ids, h.ids(h.create(fmt.Sprintf("t%d", i), int32(1+i%3)))...)
		}
		inc2 := h.register(h.s, Broker{ID: 2, Token: "data-2"}).Incarnation
		slices.SortFunc(ids, func(a, b PartitionID) int { return int(a.Partition - b.Partition) })
		h.must(h.s.AcquirePartitions(h.Context(), 2, inc2, ids))
		for _, id := range ids {
			if p := h.partition(id); p.Owner != 2 || p.LeaderEpoch != 1 {
				h.Fatalf("%+v", p)
			}
		}
	})
}
