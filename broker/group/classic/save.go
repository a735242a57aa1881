package classic

import "github.com/twmb/franz-go/pkg/kerr"

// pendingSave says what to do once a state is durable, or is known not to be.
type pendingSave struct {
	seq         uint64
	assigns     bool // the leader's assignment of a generation
	generation  int32
	assignments map[string][]byte
	static      *staticRevert
}

// save asks for the current state to be persisted, with the assignments that are not the members' yet.
func (g *Group) save(p pendingSave, assignments map[string][]byte, e *Effects) {
	g.seq++
	p.seq = g.seq
	g.pending = append(g.pending, p)
	e.Save = &Save{Seq: p.seq, Snapshot: g.snapshot(p.assigns, assignments)}
}

// Saved tells that the state of Save.Seq and of all before it is durable (err nil), or that it could not be made so. The error
// goes to the clients that wait for it.
func (g *Group) Saved(nowMillis int64, seq uint64, err *kerr.Error) Effects {
	var e Effects
	for len(g.pending) > 0 && g.pending[0].seq <= seq {
		p := g.pending[0]
		g.pending = g.pending[1:]
		switch {
		case g.state == Dead:
		case p.assigns:
			g.savedAssignment(nowMillis, &p, err, &e)
		case p.static != nil:
			g.savedStatic(nowMillis, p.static, err, &e)
		case err != nil:
			// Should the broker die before the next save, the generation before comes back and its sessions run out.
			e.note("generation %d could not be stored: %v", g.generation, err)
		}
	}
	return e
}

// Store asks for the current state to be persisted, though no event of the group asks for it.
func (g *Group) Store() Effects {
	var e Effects
	g.save(pendingSave{}, nil, &e)
	return e
}

// Rebalance begins a rebalance, unless one is under way.
func (g *Group) Rebalance(nowMillis int64, why string) Effects {
	var e Effects
	if g.canRebalance() && len(g.members) > 0 {
		g.prepareRebalance(nowMillis, why, &e)
	}
	return e
}

// Unload answers every parked request with the error and ends the group in this process. What is persisted stays.
func (g *Group) Unload(nowMillis int64, err *kerr.Error) Effects {
	var e Effects
	for _, m := range g.order {
		g.replyJoin(m, JoinReply{Err: err, Generation: -1, MemberID: m.id}, &e)
		g.replySync(m, SyncReply{Err: err}, &e)
	}
	g.transition(Dead, nowMillis)
	g.wakeMillis = 0
	return e
}
