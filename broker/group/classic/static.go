package classic

import "github.com/twmb/franz-go/pkg/kerr"

// replaceStatic lets a static member that lost its member id come back under a new one (KIP-345). The old id is fenced. In a
// stable group whose protocol stays the same there is no rebalance: the member is answered once the new id is durable.
func (g *Group) replaceStatic(nowMillis int64, r *JoinRequest, old *member, e *Effects) {
	leaderBefore := g.leader
	revert := staticRevert{
		newID: r.NewMemberID, oldID: old.id, leaderBefore: leaderBefore, canSkip: r.CanSkipAssignment,
		protocols:              old.protocols,
		rebalanceTimeoutMillis: old.rebalanceTimeoutMillis, sessionTimeoutMillis: old.sessionTimeoutMillis,
	}
	m := g.renameStatic(old, r.NewMemberID, e)
	g.touch(m, nowMillis)
	g.update(m, r, e)
	switch g.state {
	case Stable:
		if g.selectProtocol() == g.protocol {
			revert.ticket = r.Ticket
			g.save(pendingSave{static: &revert}, nil, e)
			e.note("static member %s comes back as %s without a rebalance", *m.instanceID, m.id)
			return
		}
		g.rebalanceOrComplete(nowMillis, "static member "+*m.instanceID+" comes back and changes the protocol; "+reason(r), e)
	case CompletingRebalance:
		// The leader may have been told of the old id already, and would assign to it.
		g.prepareRebalance(nowMillis, "static member "+*m.instanceID+" comes back; "+reason(r), e)
	default:
		g.maybeCompleteJoin(nowMillis, e)
	}
}

// renameStatic puts a member with a new id in the place of a static member, and fences requests parked by the old one.
func (g *Group) renameStatic(old *member, newID string, e *Effects) *member {
	g.replyJoin(old, JoinReply{Err: kerr.FencedInstanceID, Generation: -1, MemberID: old.id}, e)
	g.replySync(old, SyncReply{Err: kerr.FencedInstanceID}, e)
	m := &member{
		id: newID, instanceID: old.instanceID, clientID: old.clientID, clientHost: old.clientHost,
		rebalanceTimeoutMillis: old.rebalanceTimeoutMillis, sessionTimeoutMillis: old.sessionTimeoutMillis,
		protocols: old.protocols, assignment: old.assignment,
	}
	delete(g.members, old.id)
	delete(g.pendingSync, old.id)
	g.members[newID] = m
	for i, o := range g.order {
		if o == old {
			g.order[i] = m
		}
	}
	g.count(old, -1)
	g.count(m, +1)
	if g.leader == old.id {
		g.leader = newID
	}
	g.static[*m.instanceID] = newID
	return m
}

// staticRevert is what a failed save of a static member's new id has to put back.
type staticRevert struct {
	newID, oldID           string
	ticket                 Ticket
	leaderBefore           string
	canSkip                bool
	protocols              []Protocol
	rebalanceTimeoutMillis int32
	sessionTimeoutMillis   int32
}

// savedStatic ends replaceStatic. When the group moved on meanwhile, the member waits for the end of the rebalance instead.
func (g *Group) savedStatic(nowMillis int64, s *staticRevert, err *kerr.Error, e *Effects) {
	m := g.members[s.newID]
	if m == nil || g.state != Stable || m.join != s.ticket {
		return
	}
	if err != nil {
		reply := JoinReply{
			Err: err, Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol, Leader: s.leaderBefore,
		}
		g.replyJoin(m, reply, e)
		g.change(m, s.protocols, s.rebalanceTimeoutMillis, s.sessionTimeoutMillis)
		g.touch(g.renameStatic(m, s.oldID, e), nowMillis)
		e.note("static member %s keeps its old member id: %v", *m.instanceID, err)
		return
	}
	reply := g.joined(m)
	if s.canSkip {
		reply.SkipAssignment = g.leader == m.id
	} else {
		// Before v9 a leader that comes back must not assign again; it is told of its old id as the leader, so that it
		// takes itself for a follower.
		reply.Leader, reply.Members = s.leaderBefore, nil
	}
	g.replyJoin(m, reply, e)
	g.touch(m, nowMillis)
}
