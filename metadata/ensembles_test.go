package metadata

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

func members(brokers ...BrokerID) []Member {
	out := make([]Member, len(brokers))
	for i, b := range brokers {
		out[i] = Member{Broker: b, Disk: "disk-" + string(rune('a'+b))}
	}
	return out
}

func TestEnsembles(t *testing.T) {
	inBubble(t, func(h *harness) {
		ctx := h.Context()
		st, e, err := h.s.CreateReplicatedStream(ctx, 1, h.inc, members(1, 2, 3), 2)
		h.must(err)
		if e.Quorum != 2 || len(e.Members) != 3 || !e.Has(members(2)[0]) || e.Has(Member{2, "another disk"}) || st.Class != ClassQuorum {
			h.Errorf("%+v of %+v", e, st)
		}
		again, e2, err := h.s.CreateReplicatedStream(ctx, 1, h.inc, members(1, 2, 3), 2)
		if err != nil || again.Revision != st.Revision || e2.Revision != e.Revision {
			h.Errorf("repeated: %+v, %v", again, err)
		}
		if _, _, err := h.s.CreateReplicatedStream(ctx, 1, h.inc, members(1, 2, 4), 2); !errors.Is(err, ErrExists) {
			h.Errorf("with other members: %v", err)
		}
		next, err := h.s.ChangeEnsemble(ctx, st.ID, st.Revision, e, members(1, 3, 4), 2)
		h.must(err)
		if _, err := h.s.ChangeEnsemble(ctx, st.ID, st.Revision, e, members(1, 2, 4), 2); !errors.Is(err, ErrFenced) {
			h.Errorf("a change of what is no longer there: %v", err)
		}
		if now, err := h.s.Stream(ctx, st.ID); err != nil || now.Revision != st.Revision {
			h.Errorf("commits compare the stream's revision, which a change must leave alone: %+v, %v", now, err)
		}
		other, inc2 := h.second(2)
		rec, err := other.RecoverStream(ctx, st.ID, inc2)
		h.must(err)
		if _, err := h.s.ChangeEnsemble(ctx, st.ID, st.Revision, next, members(1, 2, 3), 2); !errors.Is(err, ErrFenced) {
			h.Errorf("a change by a fenced owner: %v", err)
		}
		if now, err := other.Ensemble(ctx, st.ID); err != nil || !now.Has(members(4)[0]) || now.Has(members(2)[0]) {
			h.Errorf("what the recoverer sees: %+v, %v", now, err)
		}
		h.must(other.SealStream(ctx, st.ID, rec.Revision, 7))
		h.must(other.DeleteStream(ctx, st.ID))
		if _, err := other.Ensemble(ctx, st.ID); !errors.Is(err, ErrNotFound) {
			h.Errorf("ensemble of a forgotten stream: %v", err)
		}
	})
}

func TestEnsembleBounds(t *testing.T) {
	inBubble(t, func(h *harness) {
		for name, c := range map[string]struct {
			members []Member
			quorum  int
		}{
			"nobody":      {nil, 0},
			"no quorum":   {members(1), 0},
			"half":        {members(1, 2), 1},
			"too much":    {members(1), MaxEnsembleMembers + 1},
			"twice":       {members(1, 2, 2), 2},
			"no disk":     {[]Member{{Broker: 1}}, 1},
			"not oneself": {members(2, 3), 2},
			"too many":    {members(1, 2, 3, 4, 5, 6, 7, 8), 5},
		} {
			if _, _, err := h.s.CreateReplicatedStream(h.Context(), 1, h.inc, c.members, c.quorum); !errors.Is(err, ErrInvalid) {
				h.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestUnknownChangeOfEnsemble loses every answer for a while: whether the change was made or not, the call ends only when that is known.
func TestUnknownChangeOfEnsemble(t *testing.T) {
	for name, fault := range map[string]memkv.Fault{
		"performed":      {Unknown: true},
		"not performed":  {Lost: true},
		"performed late": {Late: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				st, e, err := h.s.CreateReplicatedStream(h.Context(), 1, h.inc, members(1, 2, 3), 2)
				h.must(err)
				began := time.Now()
				h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
					if c.Kind != memkv.OpTxn || time.Since(began) > 40*time.Second {
						return memkv.Fault{}
					}
					return fault
				})
				next, err := h.s.ChangeEnsemble(h.Context(), st.ID, st.Revision, e, members(1, 3, 4), 2)
				h.must(err)
				now, err := h.s.Ensemble(h.Context(), st.ID)
				h.must(err)
				if now.Revision != next.Revision || !now.Has(members(4)[0]) {
					h.Errorf("said to be %+v, is %+v", next, now)
				}
				if took := time.Since(began); took < 40*time.Second {
					h.Errorf("ended after %s though no answer had come", took)
				}
			})
		})
	}
	inBubble(t, func(h *harness) {
		st, e, err := h.s.CreateReplicatedStream(h.Context(), 1, h.inc, members(1, 2, 3), 2)
		h.must(err)
		h.kv.SetFaults(func(memkv.Call) memkv.Fault { return memkv.Fault{Lost: true} })
		ctx, cancel := context.WithTimeout(h.Context(), time.Minute)
		defer cancel()
		if _, err := h.s.ChangeEnsemble(ctx, st.ID, st.Revision, e, members(1, 3, 4), 2); !errors.Is(err, ErrUnavailable) {
			h.Errorf("given up: %v", err)
		}
	})
}
