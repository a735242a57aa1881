package classic

import "github.com/twmb/franz-go/pkg/kerr"

// SyncRequest is a SyncGroup request. The group keeps the byte slices.
type SyncRequest struct {
	Ticket     Ticket
	Generation int32
	MemberID   string
	InstanceID *string
	// ProtocolType and Protocol are nil before v5; if given they must be the group's.
	ProtocolType, Protocol *string
	// Assignments by member id, from the leader only.
	Assignments map[string][]byte
}

// Sync handles a SyncGroup request. The leader's assignment is first saved; all who wait are answered by [Group.Saved].
func (g *Group) Sync(nowMillis int64, r SyncRequest) Effects {
	var e Effects
	if err := g.checkSync(&r); err != nil {
		e.Syncs = append(e.Syncs, SyncReply{Ticket: r.Ticket, Err: err})
		return e
	}
	m := g.members[r.MemberID]
	g.synced(m.id)
	if g.state == Stable {
		e.Syncs = append(e.Syncs, SyncReply{
			Ticket: r.Ticket, ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment,
		})
		return e
	}
	g.supersedeSync(m, r.Ticket, &e)
	if g.leader == m.id {
		g.save(pendingSave{assigns: true, generation: g.generation, assignments: r.Assignments}, r.Assignments, &e)
	}
	return e
}

func (g *Group) checkSync(r *SyncRequest) *kerr.Error {
	switch g.state {
	case Dead:
		return kerr.CoordinatorNotAvailable
	case Empty:
		return kerr.UnknownMemberID
	}
	if err := g.validate(r.MemberID, r.InstanceID); err != nil {
		return err
	}
	switch {
	case r.Generation != g.generation:
		return kerr.IllegalGeneration
	case inconsistent(r.ProtocolType, g.protocolType) || inconsistent(r.Protocol, g.protocol):
		return kerr.InconsistentGroupProtocol
	case g.state == PreparingRebalance:
		return kerr.RebalanceInProgress
	case g.leader == r.MemberID && g.state == CompletingRebalance && !g.fits(r.Assignments):
		return kerr.UnknownServerError // as Kafka maps an assignment that is too large for its log
	}
	return nil
}

func inconsistent(given *string, own string) bool { return given != nil && own != "" && *given != own }

func (g *Group) fits(assignments map[string][]byte) bool {
	size := g.sizeBytes
	for id, a := range assignments {
		size += int64(len(a))
		if m := g.members[id]; m != nil {
			size -= int64(len(m.assignment))
		}
	}
	return size <= g.cfg.MaxBytes
}

// savedAssignment ends the sync phase. When the group moved on meanwhile, there is nobody to tell.
func (g *Group) savedAssignment(nowMillis int64, p *pendingSave, err *kerr.Error, e *Effects) {
	if g.state != CompletingRebalance || g.generation != p.generation {
		return
	}
	if err != nil {
		g.propagateError(nowMillis, err, e)
		g.rebalanceOrComplete(nowMillis, "the assignment could not be stored: "+err.Message, e)
		return
	}
	for _, m := range g.order {
		g.assign(m, p.assignments[m.id])
		reply := SyncReply{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment}
		if g.replySync(m, reply, e) {
			g.touch(m, nowMillis)
		}
	}
	g.transition(Stable, nowMillis)
	e.Completed++
}

// Heartbeat keeps a member's session alive. REBALANCE_IN_PROGRESS keeps it alive too and tells the member to rejoin.
func (g *Group) Heartbeat(nowMillis int64, memberID string, instanceID *string, generation int32) *kerr.Error {
	if g.state == Dead {
		return kerr.CoordinatorNotAvailable
	}
	if err := g.validate(memberID, instanceID); err != nil {
		return err
	}
	if generation != g.generation {
		return kerr.IllegalGeneration
	}
	switch g.state {
	case Empty:
		return kerr.UnknownMemberID
	case PreparingRebalance:
		g.touch(g.members[memberID], nowMillis)
		return kerr.RebalanceInProgress
	default:
		g.touch(g.members[memberID], nowMillis)
		return nil
	}
}
