package metadata

import (
	"errors"
	"testing"
)

// TestCoordinatorIsFenced: a run that was replaced, and does not know it, cannot put a committed offset back nor touch a group.
func TestCoordinatorIsFenced(t *testing.T) {
	inBubble(t, func(h *harness) {
		topic := randomID()
		at := func(o Offset) []GroupOffsets {
			return []GroupOffsets{{Group: "g", Topic: topic, Partitions: map[int32]CommittedOffset{0: {Offset: o}}}}
		}
		first := h.register(h.s, Broker{ID: 2, Host: "h", Port: 1, Token: "disk"})
		old := h.s.Coordinator(2, first.Incarnation)
		h.must(old.CommitOffsets(h.Context(), at(5)))
		rev, err := old.SaveGroup(h.Context(), "g", []byte("one"), 0)
		h.must(err)

		s2 := h.open()
		second := h.register(s2, Broker{ID: 2, Host: "h", Port: 1, Token: "disk"})
		next := s2.Coordinator(2, second.Incarnation)
		h.must(next.CommitOffsets(h.Context(), at(9)))

		for name, err := range map[string]error{
			"commit":        old.CommitOffsets(h.Context(), at(6)),
			"delete":        old.DeleteOffsets(h.Context(), []GroupPartitions{{Group: "g", Topic: topic, Partitions: []int32{0}}}),
			"delete group":  old.DeleteGroup(h.Context(), "g", rev),
			"save":          errorOf(old.SaveGroup(h.Context(), "g", []byte("two"), rev)),
			"save anew":     errorOf(old.SaveGroup(h.Context(), "new", []byte("two"), 0)),
			"commit anew":   old.CommitOffsets(h.Context(), []GroupOffsets{{Group: "new", Topic: topic, Partitions: map[int32]CommittedOffset{0: {Offset: 1}}}}),
			"delete absent": old.DeleteGroup(h.Context(), "new", 0),
		} {
			if !errors.Is(err, ErrFenced) {
				h.Errorf("%s by the former run: %v", name, err)
			}
		}
		for o := range h.offsets("g") {
			if got := h.offsets("g")[o].Offset; got != 9 {
				h.Errorf("offset %d, want 9", got)
			}
		}
		if _, err := next.SaveGroup(h.Context(), "g", []byte("three"), rev); err != nil {
			h.Errorf("save by the newest run: %v", err)
		}
		h.must(next.DeleteOffsets(h.Context(), []GroupPartitions{{Group: "g", Topic: topic, Partitions: []int32{0}}}))
	})
}

func errorOf[T any](_ T, err error) error { return err }
