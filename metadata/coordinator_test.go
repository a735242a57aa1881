package metadata

import (
	"errors"
	"fmt"
	"testing"
)

// shardsOf is the fences of a coordinator that owns some partitions of a topic, one shard each.
func (h *harness) shardsOf(s *Store, topic *Topic, shardOf func(group string) int32, own ...int32) func(string) Fence {
	fences := map[int32]Fence{}
	for _, i := range own {
		p, ok := s.Image().Partition(PartitionID{topic.ID, i})
		if !ok {
			h.Fatalf("no partition %d", i)
		}
		fences[i] = Fence{p.ID, p.Revision}
	}
	return func(group string) Fence { return fences[shardOf(group)] }
}

// TestCoordinatorIsFenced: a broker that has lost a shard, and does not know it, cannot put a committed offset back nor touch a group.
func TestCoordinatorIsFenced(t *testing.T) {
	inBubble(t, func(h *harness) {
		topic := randomID()
		at := func(o Offset) []GroupOffsets {
			return []GroupOffsets{{Group: "g", Topic: topic, Partitions: map[int32]CommittedOffset{0: {Offset: o}}}}
		}
		shards := h.create("shards", 1)
		all := func(string) int32 { return 0 }
		old := h.s.Coordinator(h.shardsOf(h.s, shards, all, 0))
		h.must(old.CommitOffsets(h.Context(), at(5)))
		rev, err := old.SaveGroup(h.Context(), "g", []byte("one"), 0)
		h.must(err)

		s2, inc2 := h.second(2)
		h.must(s2.AcquirePartitions(h.Context(), 2, inc2, h.ids(shards)))
		next := s2.Coordinator(h.shardsOf(s2, shards, all, 0))
		h.must(next.CommitOffsets(h.Context(), at(9)))

		for name, err := range map[string]error{
			"commit":        old.CommitOffsets(h.Context(), at(6)),
			"delete":        old.DeleteOffsets(h.Context(), []GroupPartitions{{Group: "g", Topic: topic, Partitions: []int32{0}}}),
			"delete group":  old.DeleteGroup(h.Context(), "g", rev),
			"save":          errorOf(old.SaveGroup(h.Context(), "g", []byte("two"), rev)),
			"save anew":     errorOf(old.SaveGroup(h.Context(), "new", []byte("two"), 0)),
			"commit anew":   old.CommitOffsets(h.Context(), []GroupOffsets{{Group: "new", Topic: topic, Partitions: map[int32]CommittedOffset{0: {Offset: 1}}}}),
			"delete absent": old.DeleteGroup(h.Context(), "new", 0),
			"not its own":   errorOf(h.s.Coordinator(h.shardsOf(h.s, shards, all)).SaveGroup(h.Context(), "new", nil, 0)),
		} {
			if !errors.Is(err, ErrFenced) {
				h.Errorf("%s by the former owner: %v", name, err)
			}
		}
		for o := range h.offsets("g") {
			if got := h.offsets("g")[o].Offset; got != 9 {
				h.Errorf("offset %d, want 9", got)
			}
		}
		if _, err := next.SaveGroup(h.Context(), "g", []byte("three"), rev); err != nil {
			h.Errorf("save by the owner: %v", err)
		}
		h.must(next.DeleteOffsets(h.Context(), []GroupPartitions{{Group: "g", Topic: topic, Partitions: []int32{0}}}))
	})
}

// TestLostShardsFailAlone: of one call for many groups only those of the lost shards fail, however many shards there are.
func TestLostShardsFailAlone(t *testing.T) {
	inBubble(t, func(h *harness) {
		const shards, groups = 200, 1000
		topic := h.create("shards", shards)
		own := make([]int32, shards)
		for i := range own {
			own[i] = int32(i)
		}
		number := func(group string) (n int32) {
			_, _ = fmt.Sscanf(group, "group-%d", &n)
			return n % shards
		}
		c := h.s.Coordinator(h.shardsOf(h.s, topic, number, own...))
		s2, inc2 := h.second(2)
		lost := h.ids(topic)[10:20]
		h.must(s2.AcquirePartitions(h.Context(), 2, inc2, lost))

		data := randomID()
		var commits []GroupOffsets
		for i := range groups {
			commits = append(commits, GroupOffsets{Group: fmt.Sprintf("group-%d", i), Topic: data, Partitions: map[int32]CommittedOffset{0: {Offset: Offset(i)}}})
		}
		err := c.CommitOffsets(h.Context(), commits)
		var p *PartialError
		if !errors.As(err, &p) {
			h.Fatalf("commit: %v", err)
		}
		for i := range groups {
			shard := i % shards
			if is := shard >= 10 && shard < 20; is != errors.Is(p.Errors[i], ErrFenced) || !is && p.Errors[i] != nil {
				h.Errorf("group %d of shard %d: %v", i, shard, p.Errors[i])
			}
			if n := len(h.offsets(commits[i].Group)); (n == 1) != (p.Errors[i] == nil) {
				h.Errorf("group %d: %d offsets stored, %v", i, n, p.Errors[i])
			}
		}
	})
}

func errorOf[T any](_ T, err error) error { return err }
