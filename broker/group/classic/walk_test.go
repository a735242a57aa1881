package classic

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// TestWalk plays random events and checks the bookkeeping, and that no parked request is forgotten or answered twice.
func TestWalk(t *testing.T) {
	stable := 0
	for seed := range uint64(300) {
		w := newWalk(t, seed)
		for range 300 {
			w.step()
			if w.g.State() == Stable {
				stable++
			}
		}
		w.finish()
	}
	if stable == 0 {
		t.Error("no group was ever stable: the walk tests nothing")
	}
}

type walk struct {
	t      *testing.T
	seed   uint64
	rnd    *rand.Rand
	cfg    Config
	g      *Group
	now    int64
	ticket Ticket
	open   map[Ticket]bool // not answered yet
	save   *Save
	ids    []string
}

func newWalk(t *testing.T, seed uint64) *walk {
	w := &walk{
		t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), now: epoch, open: map[Ticket]bool{}, ids: []string{"", "nobody"},
		cfg: Config{MaxMembers: 4, MaxPendingMembers: 3, MaxBytes: 1 << 20, InitialRebalanceDelayMillis: 100, NewMemberJoinTimeoutMillis: 20_000},
	}
	w.g = New(&w.cfg, "g", epoch)
	return w
}

func (w *walk) step() {
	w.now += int64(w.rnd.IntN(2000))
	w.ticket++
	switch w.rnd.IntN(9) {
	case 0, 1, 2:
		w.open[w.ticket] = true
		w.apply(w.g.Join(w.now, w.join()))
	case 3, 4:
		w.open[w.ticket] = true
		w.apply(w.g.Sync(w.now, SyncRequest{Ticket: w.ticket, Generation: w.g.Generation(), MemberID: w.pick(), InstanceID: w.instance()}))
	case 5:
		w.g.Heartbeat(w.now, w.pick(), w.instance(), w.g.Generation())
		w.g.CheckCommit(w.now, w.pick(), w.instance(), w.g.Generation())
	case 6:
		_, _, e := w.g.Leave(w.now, []Leaver{{MemberID: w.pick(), InstanceID: w.instance()}})
		w.apply(e)
	case 7:
		if w.save != nil {
			seq := w.save.Seq
			w.save = nil
			w.apply(w.g.Saved(w.now, seq, [...]*kerr.Error{nil, nil, kerr.CoordinatorNotAvailable}[w.rnd.IntN(3)]))
		}
	default:
		w.apply(w.g.Tick(w.now))
	}
}

func (w *walk) join() JoinRequest {
	all := []Protocol{{"range", subscription("a")}, {"sticky", subscription("b")}, {"other", nil}}
	return JoinRequest{
		Ticket: w.ticket, MemberID: w.pick(), NewMemberID: "m" + string(rune(w.ticket)), InstanceID: w.instance(),
		SessionTimeoutMillis: 6000, RebalanceTimeoutMillis: int32(w.rnd.IntN(9000)), ProtocolType: "consumer",
		Protocols: all[:1+w.rnd.IntN(3)], RequireKnownMemberID: w.rnd.IntN(2) == 0, CanSkipAssignment: w.rnd.IntN(2) == 0,
	}
}

// pick is one of the ids that were told last, or none.
func (w *walk) pick() string { return w.ids[max(0, len(w.ids)-1-w.rnd.IntN(6))] }

func (w *walk) instance() *string {
	if w.rnd.IntN(3) > 0 {
		return nil
	}
	s := string(rune('i' + w.rnd.IntN(2)))
	return &s
}

func (w *walk) apply(e Effects) {
	for _, r := range e.Joins {
		w.answered(r.Ticket)
		w.ids = append(w.ids, r.MemberID)
	}
	for _, r := range e.Syncs {
		w.answered(r.Ticket)
	}
	if e.Save != nil {
		w.save = e.Save
	}
	if err := w.g.check(); err != nil {
		w.t.Fatalf("seed %d: %v", w.seed, err)
	}
}

func (w *walk) answered(ticket Ticket) {
	if !w.open[ticket] {
		w.t.Fatalf("seed %d: request %d was answered twice", w.seed, ticket)
	}
	delete(w.open, ticket)
}

// finish checks that exactly the open requests are parked, and that unloading answers them.
func (w *walk) finish() {
	parked := 0
	for _, m := range w.g.order {
		for _, ticket := range []Ticket{m.join, m.sync} {
			if ticket == 0 {
				continue
			}
			if parked++; !w.open[ticket] {
				w.t.Fatalf("seed %d: request %d is parked and was answered", w.seed, ticket)
			}
		}
	}
	if parked != len(w.open) {
		w.t.Fatalf("seed %d: %d requests are open and %d parked: somebody waits for ever", w.seed, len(w.open), parked)
	}
	w.apply(w.g.Unload(w.now, kerr.NotCoordinator))
	if len(w.open) != 0 {
		w.t.Fatalf("seed %d: %d requests are open after the group was unloaded", w.seed, len(w.open))
	}
}
