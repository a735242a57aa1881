package metadata

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

func TestGroups(t *testing.T) {
	inBubble(t, func(h *harness) {
		for _, id := range []string{"plain", "", "with/slash and \x00 ü", strings.Repeat("g", MaxGroupIDBytes)} {
			r1, err := h.s.SaveGroup(h.Context(), id, []byte("one"), 0)
			h.must(err)
			if _, err := h.s.SaveGroup(h.Context(), id, []byte("x"), 0); !errors.Is(err, ErrConflict) {
				h.Errorf("%.20q saved anew: %v", id, err)
			}
			r2, err := h.s.SaveGroup(h.Context(), id, []byte("two"), r1)
			h.must(err)
			if _, err := h.s.SaveGroup(h.Context(), id, []byte("x"), r1); !errors.Is(err, ErrConflict) {
				h.Errorf("%.20q saved over an old revision: %v", id, err)
			}
			if state, rev, err := h.s.LoadGroup(h.Context(), id); err != nil || string(state) != "two" || rev != r2 {
				h.Errorf("%.20q: %q, %d, %v", id, state, rev, err)
			}
		}
		seen := map[string]string{}
		revs := map[string]Revision{}
		h.must(h.s.LoadGroups(h.Context(), func(id string, state []byte, rev Revision) error {
			seen[id], revs[id] = string(state), rev
			return nil
		}))
		if len(seen) != 4 || seen["with/slash and \x00 ü"] != "two" {
			h.Errorf("groups %v", seen)
		}
		stop := errors.New("stop")
		if err := h.s.LoadGroups(h.Context(), func(string, []byte, Revision) error { return stop }); !errors.Is(err, stop) {
			h.Errorf("callback's error: %v", err)
		}
		topic := randomID()
		h.must(h.s.CommitOffsets(h.Context(), []GroupOffsets{{Group: "plain", Topic: topic, Partitions: map[int32]CommittedOffset{0: {Offset: 1}}},
			{Group: "plain2", Topic: topic, Partitions: map[int32]CommittedOffset{0: {Offset: 1}}}}))
		if err := h.s.DeleteGroup(h.Context(), "plain", 0); !errors.Is(err, ErrConflict) {
			h.Errorf("deleted although it has a state: %v", err)
		}
		h.must(h.s.DeleteGroup(h.Context(), "plain", revs["plain"]))
		if err := h.s.DeleteGroup(h.Context(), "plain", 0); !errors.Is(err, ErrNotFound) {
			h.Errorf("deleted again: %v", err)
		}
		if _, _, err := h.s.LoadGroup(h.Context(), "plain"); !errors.Is(err, ErrNotFound) {
			h.Errorf("loaded after deletion: %v", err)
		}
		if o, err := h.s.LoadOffsets(h.Context(), "plain"); err != nil || len(o) != 0 {
			h.Errorf("offsets after deletion: %v, %v", o, err)
		}
		if o, err := h.s.LoadOffsets(h.Context(), "plain2"); err != nil || len(o) != 1 {
			h.Errorf("offsets of another group: %v, %v", o, err)
		}
		h.must(h.s.DeleteGroup(h.Context(), "plain2", 0)) // offsets only
		if _, err := h.s.SaveGroup(h.Context(), "g", make([]byte, MaxGroupStateBytes+1), 0); !errors.Is(err, ErrInvalid) {
			h.Errorf("huge state: %v", err)
		}
		if _, err := h.s.SaveGroup(h.Context(), strings.Repeat("g", MaxGroupIDBytes+1), nil, 0); !errors.Is(err, ErrInvalid) {
			h.Errorf("huge id: %v", err)
		}
	})
}

func TestGroupUnknownOutcomes(t *testing.T) {
	for _, f := range []memkv.Fault{{Lost: true}, {Unknown: true}, {Late: time.Minute}} {
		inBubble(t, func(h *harness) {
			h.failing(1, f)
			rev, err := h.s.SaveGroup(h.Context(), "g", []byte("one"), 0)
			h.must(err)
			time.Sleep(2 * time.Minute)
			rev, err = h.s.SaveGroup(h.Context(), "g", []byte("two"), rev)
			h.must(err)
			h.failing(1, f)
			h.must(h.s.DeleteGroup(h.Context(), "g", rev))
		})
	}
}

func (h *harness) offsets(group string) map[string]CommittedOffset {
	h.Helper()
	list, err := h.s.LoadOffsets(h.Context(), group)
	h.must(err)
	out := map[string]CommittedOffset{}
	for _, o := range list {
		for p, c := range o.Partitions {
			out[fmt.Sprintf("%s-%d", o.Topic.Hex()[:4], p)] = c
		}
	}
	return out
}

func TestOffsets(t *testing.T) {
	inBubble(t, func(h *harness) {
		topic := randomID()
		name := func(p int32) string { return fmt.Sprintf("%s-%d", topic.Hex()[:4], p) }
		commit := func(s *Store, parts map[int32]CommittedOffset) {
			h.Helper()
			h.must(s.CommitOffsets(h.Context(), []GroupOffsets{{Group: "g", Topic: topic, Partitions: parts}}))
		}
		one := CommittedOffset{Offset: 7, LeaderEpoch: 3, Metadata: "m", CommitMillis: 1000, ExpireMillis: 2000}
		two := CommittedOffset{Offset: 8, LeaderEpoch: -1, CommitMillis: 3000}
		commit(h.s, map[int32]CommittedOffset{0: one, 255: two, 256: two, 100_000: one})
		commit(h.s, map[int32]CommittedOffset{1: two, 255: one})
		want := map[string]CommittedOffset{name(0): one, name(1): two, name(255): one, name(256): two, name(100_000): one}
		if got := h.offsets("g"); !maps.Equal(got, want) {
			h.Errorf("%v\nwant %v", got, want)
		}
		// Another writer; our cache is stale and must not bring back what it changed.
		other := h.open()
		commit(other, map[int32]CommittedOffset{2: one})
		h.must(other.DeleteOffsets(h.Context(), []GroupPartitions{{Group: "g", Topic: topic, Partitions: []int32{0, 256, 9999}}}))
		commit(h.s, map[int32]CommittedOffset{3: one})
		want[name(2)], want[name(3)] = one, one
		delete(want, name(0))
		delete(want, name(256))
		if got := h.offsets("g"); !maps.Equal(got, want) {
			h.Errorf("%v\nwant %v", got, want)
		}
		if n := strings.Count(h.dump(), dirOffsets); n != 2 { // the bucket that became empty is gone
			h.Errorf("%d buckets", n)
		}
		err := h.s.CommitOffsets(h.Context(), []GroupOffsets{
			{Group: "g", Topic: topic, Partitions: map[int32]CommittedOffset{4: {Offset: -1}}},
			{Group: "g", Topic: topic, Partitions: map[int32]CommittedOffset{-4: one}},
			{Group: "g", Topic: topic, Partitions: map[int32]CommittedOffset{4: {Metadata: strings.Repeat("x", MaxOffsetMetaBytes+1)}}},
			{Group: "g", Topic: topic, Partitions: map[int32]CommittedOffset{5: one}},
			{Group: "big", Topic: topic, Partitions: bigOffsets(256)},
			{Group: strings.Repeat("g", MaxGroupIDBytes+1), Topic: topic},
		})
		var p *PartialError
		if !errors.As(err, &p) || len(p.Errors) != 5 || p.Errors[3] != nil || !errors.Is(err, ErrInvalid) {
			h.Errorf("partial: %v", err)
		}
		if got := h.offsets("g"); got[name(5)] != one {
			h.Errorf("the good item of a partly bad call is missing: %v", got)
		}
		if err := h.s.DeleteOffsets(h.Context(), []GroupPartitions{{Group: "g", Topic: topic, Partitions: []int32{-1}}}); !errors.Is(err, ErrInvalid) {
			h.Errorf("bad deletion: %v", err)
		}
	})
}

func bigOffsets(n int32) map[int32]CommittedOffset {
	parts := map[int32]CommittedOffset{}
	for i := range n {
		parts[i] = CommittedOffset{Metadata: strings.Repeat("x", 4096)}
	}
	return parts
}

// Many groups, large values and a cache of one bucket: transactions stay within bounds and nothing is lost.
func TestOffsetsOfManyGroups(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.s.offsets.limit = 1
		topic := randomID()
		var list []GroupOffsets
		for i := range 300 {
			parts := map[int32]CommittedOffset{0: {Offset: Offset(i)}, 1000: {Offset: 1}}
			if i%20 == 0 {
				maps.Copy(parts, bigOffsets(100))
			}
			list = append(list, GroupOffsets{Group: fmt.Sprint("group-", i), Topic: topic, Partitions: parts})
		}
		for range 2 {
			h.must(h.s.CommitOffsets(h.Context(), list))
		}
		n := 0
		h.must(h.s.LoadAllOffsets(h.Context(), func(o GroupOffsets) error {
			n += len(o.Partitions)
			return nil
		}))
		if n != 300*2+15*99 {
			h.Errorf("%d offsets", n)
		}
		if len(h.s.offsets.buckets) > 1 {
			h.Errorf("%d buckets in the cache", len(h.s.offsets.buckets))
		}
	})
}

func TestOffsetsUnknownOutcomes(t *testing.T) {
	for _, f := range []memkv.Fault{{Lost: true}, {Unknown: true}, {Late: time.Minute}} {
		inBubble(t, func(h *harness) {
			topic := randomID()
			for i := range int32(3) {
				h.failing(1, f)
				h.must(h.s.CommitOffsets(h.Context(), []GroupOffsets{{Group: "g", Topic: topic, Partitions: map[int32]CommittedOffset{i: {Offset: Offset(i)}}}}))
			}
			time.Sleep(2 * time.Minute)
			if got := h.offsets("g"); len(got) != 3 {
				h.Errorf("%v after %+v", got, f)
			}
			h.down()
			err := h.s.CommitOffsets(h.Context(), []GroupOffsets{{Group: "g", Topic: topic, Partitions: map[int32]CommittedOffset{9: {Offset: 1}}}})
			if !errors.Is(err, ErrUnavailable) {
				h.Errorf("etcd is away: %v", err)
			}
		})
	}
}
