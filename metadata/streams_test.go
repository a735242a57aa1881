package metadata

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

func object(id StreamID, seq, from, to uint64) PendingObject {
	return PendingObject{Stream: id, Seq: seq, Key: "ab/object-" + id.String() + hex64(seq), SizeBytes: 1000, FooterAt: 900, CRC: 0xdeadbeef, From: from, To: to}
}

func (h *harness) stream() *StreamState {
	h.Helper()
	st, err := h.s.CreateStream(h.Context(), 1, h.inc, ClassLocal)
	h.must(err)
	return st
}

func (h *harness) pending() []PendingObject {
	h.Helper()
	objects, err := h.s.PendingObjects(h.Context())
	h.must(err)
	return objects
}

func TestStreamLife(t *testing.T) {
	inBubble(t, func(h *harness) {
		st := h.stream()
		want := StreamState{ID: StreamID(h.inc), Owner: 1, Epoch: h.inc, State: StreamOpen, Revision: st.Revision}
		if *st != want || st.Revision == 0 {
			h.Fatalf("%+v, want %+v", *st, want)
		}
		if again := h.stream(); *again != *st {
			h.Errorf("created again: %+v", *again)
		}
		if _, err := h.s.CreateStream(h.Context(), 1, h.inc-1, ClassLocal); !errors.Is(err, ErrFenced) {
			h.Errorf("old incarnation: %v", err)
		}
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, 1, 0, 100)}))
		rec, err := h.s.RecoverStream(h.Context(), st.ID, 77)
		h.must(err)
		if rec.State != StreamRecovering || rec.RecoveringBy != 77 || rec.Committed != 100 || rec.Revision <= st.Revision {
			h.Errorf("%+v", *rec)
		}
		if again, err := h.s.RecoverStream(h.Context(), st.ID, 77); err != nil || *again != *rec {
			h.Errorf("recovered again: %+v, %v", again, err)
		}
		if err := h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, 2, 100, 200)}); !errors.Is(err, ErrFenced) {
			h.Errorf("the old writer commits: %v", err)
		}
		if _, err := h.s.CreateStream(h.Context(), 1, h.inc, ClassLocal); !errors.Is(err, ErrExists) {
			h.Errorf("opened again: %v", err)
		}
		h.must(h.s.CommitObjects(h.Context(), st.ID, rec.Revision, []PendingObject{object(st.ID, 2, 100, 150)}))
		if err := h.s.SealStream(h.Context(), st.ID, st.Revision, 150); !errors.Is(err, ErrFenced) {
			h.Errorf("sealed by the old writer: %v", err)
		}
		if err := h.s.DeleteStream(h.Context(), st.ID); !errors.Is(err, ErrConflict) {
			h.Errorf("deleted unsealed: %v", err)
		}
		for range 2 {
			h.must(h.s.SealStream(h.Context(), st.ID, rec.Revision, 150))
		}
		if err := h.s.SealStream(h.Context(), st.ID, rec.Revision, 151); !errors.Is(err, ErrFenced) {
			h.Errorf("sealed at another end: %v", err)
		}
		if _, err := h.s.RecoverStream(h.Context(), st.ID, 78); !errors.Is(err, ErrExists) {
			h.Errorf("sealed stream recovered: %v", err)
		}
		all, err := h.s.Streams(h.Context(), 1)
		h.must(err)
		if len(all) != 1 || all[0].State != StreamSealed || all[0].End != 150 || all[0].Committed != 150 || all[0].RecoveringBy != 0 {
			h.Errorf("%+v", all)
		}
		if others, _ := h.s.Streams(h.Context(), 2); len(others) != 0 {
			h.Errorf("streams of broker 2: %+v", others)
		}
		for range 2 {
			h.must(h.s.DeleteStream(h.Context(), st.ID))
		}
		if _, err := h.s.Stream(h.Context(), st.ID); !errors.Is(err, ErrNotFound) {
			h.Errorf("deleted stream: %v", err)
		}
		if err := h.s.CommitObjects(h.Context(), st.ID, rec.Revision, []PendingObject{object(st.ID, 3, 150, 160)}); !errors.Is(err, ErrNotFound) {
			h.Errorf("commit to a deleted stream: %v", err)
		}
	})
}

func TestStreamIDs(t *testing.T) {
	if id := NewStreamID(1234, ClassLocal); id != 1234 {
		t.Errorf("a local stream's id is %d", id)
	}
	id := NewStreamID(1234, ClassObject)
	if id.Epoch() != 1234 || id.Class() != ClassObject || id.String() != "object-1234" {
		t.Errorf("%s", id)
	}
}

func TestCommitObjects(t *testing.T) {
	inBubble(t, func(h *harness) {
		st := h.stream()
		seal := []PendingObject{object(st.ID, 1, 0, 100), object(st.ID, 2, 0, 100)}
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, seal))
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, seal)) // repeated after an unknown outcome
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, nil))
		next := object(st.ID, 3, 120, 200) // a gap in which there was nothing to commit
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{next}))
		if got := h.pending(); !slices.Equal(got, append(slices.Clone(seal), next)) {
			h.Errorf("pending %+v", got)
		}
		if n := h.s.PendingCount(); n != 3 {
			h.Errorf("%d pending", n)
		}
		if now, _ := h.s.Stream(h.Context(), st.ID); now.Committed != 200 || now.Revision != st.Revision {
			h.Errorf("%+v", now)
		}
		for name, tc := range map[string]struct {
			o    []PendingObject
			want error
		}{
			"positions twice":  {[]PendingObject{object(st.ID, 9, 150, 250)}, ErrConflict},
			"sequence twice":   {[]PendingObject{object(st.ID, 3, 200, 250)}, ErrExists},
			"of another":       {[]PendingObject{object(st.ID+1, 9, 200, 250)}, ErrInvalid},
			"backwards":        {[]PendingObject{object(st.ID, 9, 250, 200)}, ErrInvalid},
			"without a key":    {[]PendingObject{{Stream: st.ID, Seq: 9, From: 200, To: 250}}, ErrInvalid},
			"too many at once": {make([]PendingObject, maxCommit+1), ErrInvalid},
		} {
			if err := h.s.CommitObjects(h.Context(), st.ID, st.Revision, tc.o); !errors.Is(err, tc.want) {
				h.Errorf("%s: %v", name, err)
			}
		}
		many := make([]PendingObject, maxCommit)
		for i := range many {
			many[i] = object(st.ID, uint64(10+i), 200, 300)
		}
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, many))
		if err := h.s.DeletePending(h.Context(), 1, h.inc-1, many); !errors.Is(err, ErrFenced) || len(h.pending()) == 0 {
			h.Errorf("an old incarnation: %v, %d pending", err, len(h.pending()))
		}
		h.must(h.s.DeletePending(h.Context(), 1, h.inc, h.pending()))
		h.must(h.s.DeletePending(h.Context(), 1, h.inc, many))
		if n := h.s.PendingCount(); n != 0 || len(h.pending()) != 0 {
			h.Errorf("%d pending", n)
		}
		if soft, hard := h.s.PendingLimits(); soft != 512 || hard != 4096 {
			h.Errorf("limits %d, %d", soft, hard)
		}
	})
}

func TestCommitObjectsUnknownOutcomes(t *testing.T) {
	for _, f := range []memkv.Fault{{Lost: true}, {Unknown: true}, {Late: time.Minute}} {
		for nth := 1; nth <= 2; nth++ {
			inBubble(t, func(h *harness) {
				st := h.stream()
				h.failing(nth, f)
				for i := range uint64(3) {
					h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, i, i*100, i*100+100)}))
				}
				time.Sleep(2 * time.Minute)
				now, err := h.s.Stream(h.Context(), st.ID)
				h.must(err)
				if now.Committed != 300 || len(h.pending()) != 3 {
					h.Errorf("committed %d, pending %d after %+v", now.Committed, len(h.pending()), f)
				}
			})
		}
	}
	// All attempts time out, one of them was performed, and the caller repeats the call.
	inBubble(t, func(h *harness) {
		st := h.stream()
		n := 0
		h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
			if c.Kind != memkv.OpTxn {
				return memkv.Fault{}
			}
			n++
			return memkv.Fault{Unknown: n == 1, Lost: n != 1}
		})
		seal := []PendingObject{object(st.ID, 1, 0, 100)}
		if err := h.s.CommitObjects(h.Context(), st.ID, st.Revision, seal); !errors.Is(err, ErrUnavailable) {
			h.Errorf("without an answer: %v", err)
		}
		h.kv.SetFaults(nil)
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, seal))
	})
	// A commit that takes effect after the stream was fenced would be lost data or a duplicate: it must not.
	inBubble(t, func(h *harness) {
		st := h.stream()
		h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
			if c.Kind == memkv.OpTxn {
				return memkv.Fault{Late: time.Minute}
			}
			return memkv.Fault{}
		})
		err := h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, 1, 0, 100)})
		if !errors.Is(err, ErrUnavailable) {
			h.Errorf("late: %v", err)
		}
		h.kv.SetFaults(nil)
		_, err = h.s.RecoverStream(h.Context(), st.ID, 99)
		h.must(err)
		time.Sleep(2 * time.Minute)
		if got := h.pending(); len(got) != 0 {
			h.Errorf("the fenced writer committed %+v", got)
		}
	})
}

// Commits of one stream from several goroutines take turns.
// TestCommitObjectsAbsorbedMeanwhile: a commit was performed and nobody told; before it is repeated another broker has absorbed some or all of its objects.
func TestCommitObjectsAbsorbedMeanwhile(t *testing.T) {
	for absorbed := 1; absorbed <= 2; absorbed++ {
		inBubble(t, func(h *harness) {
			st := h.stream()
			n := 0
			h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
				if c.Kind != memkv.OpTxn {
					return memkv.Fault{}
				}
				n++
				return memkv.Fault{Unknown: n == 1, Lost: n != 1}
			})
			seal := []PendingObject{object(st.ID, 1, 0, 100), object(st.ID, 2, 100, 200)}
			if err := h.s.CommitObjects(h.Context(), st.ID, st.Revision, seal); !errors.Is(err, ErrUnavailable) {
				h.Errorf("without an answer: %v", err)
			}
			h.kv.SetFaults(nil)
			h.must(h.s.DeletePending(h.Context(), 1, h.inc, seal[:absorbed]))
			h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, seal))
			h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, 3, 200, 300)}))
			if err := h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, 4, 200, 300)}); !errors.Is(err, ErrConflict) {
				h.Errorf("another object for what is committed: %v", err)
			}
		})
	}
}

func TestCommitObjectsConcurrently(t *testing.T) {
	inBubble(t, func(h *harness) {
		a := h.stream()
		b, err := h.s.CreateStream(h.Context(), 1, h.inc, ClassObject)
		h.must(err)
		h.kv.SetFaults(func(memkv.Call) memkv.Fault { return memkv.Fault{Delay: 10 * time.Millisecond} })
		errs := make(chan error, 2)
		for _, st := range []*StreamState{a, b} {
			go func() {
				for i := range uint64(20) {
					if err := h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, i, i, i+1)}); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		h.must(<-errs)
		h.must(<-errs)
		synctest.Wait()
		if n := h.s.PendingCount(); n != 40 {
			h.Errorf("%d pending", n)
		}
		live, err := h.s.LiveWriters(h.Context())
		h.must(err)
		if len(live) != 2 || !live[uint64(a.ID)] || !live[uint64(b.ID)] { // the incarnation is the local stream's id
			h.Errorf("live %v", live)
		}
	})
}

func TestSkipTo(t *testing.T) {
	inBubble(t, func(h *harness) {
		st := h.stream()
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, 1, 0, 100)}))
		for _, to := range []uint64{150, 150, 120} { // repeated, and never lowered
			h.must(h.s.SkipTo(h.Context(), st.ID, st.Revision, to))
		}
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, 2, 150, 200)}))
		h.must(h.s.SkipTo(h.Context(), st.ID, st.Revision, 260))
		rec, err := h.s.RecoverStream(h.Context(), st.ID, 77)
		h.must(err)
		if rec.Committed != 260 {
			h.Errorf("committed %d", rec.Committed)
		}
		if err := h.s.SkipTo(h.Context(), st.ID, st.Revision, 300); !errors.Is(err, ErrFenced) {
			h.Errorf("the old writer skips: %v", err)
		}
		if err := h.s.SkipTo(h.Context(), st.ID+1, st.Revision, 300); !errors.Is(err, ErrNotFound) {
			h.Errorf("unknown stream: %v", err)
		}
	})
}
