package classic

import "github.com/twmb/franz-go/pkg/kerr"

// JoinRequest is a JoinGroup request. The group keeps the byte slices; the caller must not change them afterwards.
type JoinRequest struct {
	Ticket Ticket
	// MemberID is "" for a member that does not have one yet; NewMemberID is then used, and must be unique.
	MemberID, NewMemberID  string
	InstanceID             *string
	ClientID, ClientHost   string
	SessionTimeoutMillis   int32
	RebalanceTimeoutMillis int32
	ProtocolType           string
	Protocols              []Protocol
	// RequireKnownMemberID: the request's version makes new dynamic members come twice (KIP-394, v4).
	RequireKnownMemberID bool
	// CanSkipAssignment: the request's version knows SkipAssignment (KIP-814, v9).
	CanSkipAssignment bool
	Reason            string
}

// Join handles a JoinGroup request. Its ticket is answered now, or by the effects of a later event.
func (g *Group) Join(nowMillis int64, r JoinRequest) Effects {
	var e Effects
	r.Protocols = distinct(r.Protocols)
	r.RebalanceTimeoutMillis = max(r.RebalanceTimeoutMillis, 0)
	switch {
	case g.state == Dead:
		e.refuse(&r, r.MemberID, kerr.CoordinatorNotAvailable)
	case !g.accepts(r.MemberID) || !g.hasRoom(&r):
		g.kick(nowMillis, r.MemberID, &e)
		e.refuse(&r, "", kerr.GroupMaxSizeReached)
	case !g.supports(r.ProtocolType, r.Protocols):
		e.refuse(&r, r.MemberID, kerr.InconsistentGroupProtocol)
	case r.MemberID == "":
		g.joinUnknown(nowMillis, &r, &e)
	default:
		g.joinKnown(nowMillis, &r, &e)
	}
	return e
}

func (e *Effects) refuse(r *JoinRequest, memberID string, err *kerr.Error) {
	e.Joins = append(e.Joins, JoinReply{Ticket: r.Ticket, Err: err, Generation: -1, MemberID: memberID})
}

// accepts is group.max.size. While a rebalance is prepared, those count that already wait: so the last to rejoin a group that
// is too large are turned away. Later all members count.
func (g *Group) accepts(memberID string) bool {
	m := g.members[memberID]
	switch g.state {
	case PreparingRebalance:
		return m != nil && m.awaitingJoin() || g.awaitingJoins < g.cfg.MaxMembers
	case CompletingRebalance, Stable:
		return m != nil || len(g.members) < g.cfg.MaxMembers
	default:
		return true
	}
}

func (g *Group) hasRoom(r *JoinRequest) bool {
	if r.MemberID == "" && r.RequireKnownMemberID && len(g.pendingJoin) >= g.cfg.MaxPendingMembers {
		return false
	}
	size := g.sizeBytes + memberOverheadBytes + protocolBytes(r.Protocols)
	if m := g.members[r.MemberID]; m != nil {
		size -= memberOverheadBytes + protocolBytes(m.protocols)
	}
	return size <= g.cfg.MaxBytes
}

// kick removes a member that a too large group turned away; the others may have been waiting for it only.
func (g *Group) kick(nowMillis int64, memberID string, e *Effects) {
	if _, ok := g.pendingJoin[memberID]; ok {
		g.remove(memberID)
		g.maybeCompleteJoin(nowMillis, e)
	} else if m := g.members[memberID]; m != nil {
		g.dismiss(m, e)
		g.afterRemoval(nowMillis, "a member was turned away from a full group", e)
	}
}

func (g *Group) joinUnknown(nowMillis int64, r *JoinRequest, e *Effects) {
	if r.InstanceID != nil {
		if current, ok := g.static[*r.InstanceID]; ok {
			g.replaceStatic(nowMillis, r, g.members[current], e)
			return
		}
		g.addMember(nowMillis, r, r.NewMemberID, e)
		return
	}
	if !r.RequireKnownMemberID {
		g.addMember(nowMillis, r, r.NewMemberID, e)
		return
	}
	// A client that gave up and came again would leave a dead member behind; so it must first learn its id (KIP-394).
	g.pendingJoin[r.NewMemberID] = g.wakeBy(nowMillis + int64(r.SessionTimeoutMillis))
	e.refuse(r, r.NewMemberID, kerr.MemberIDRequired)
}

func (g *Group) joinKnown(nowMillis int64, r *JoinRequest, e *Effects) {
	if _, ok := g.pendingJoin[r.MemberID]; ok {
		if r.InstanceID != nil { // ids are handed out in advance to dynamic members only
			e.refuse(r, r.MemberID, kerr.UnknownServerError)
			return
		}
		g.addMember(nowMillis, r, r.MemberID, e)
		return
	}
	if err := g.validate(r.MemberID, r.InstanceID); err != nil {
		e.refuse(r, r.MemberID, err)
		return
	}
	m := g.members[r.MemberID]
	switch g.state {
	case PreparingRebalance:
		g.rejoin(nowMillis, r, m, "member "+m.id+" rejoins", e)
	case CompletingRebalance:
		if m.matches(r.Protocols) { // most likely it did not get our answer
			g.answerCurrent(r, m, e)
			return
		}
		g.rejoin(nowMillis, r, m, "member "+m.id+" changed its subscription", e)
	case Stable:
		switch {
		case g.leader == m.id: // the leader may know of changes that its subscription does not show
			g.rejoin(nowMillis, r, m, "leader "+m.id+" rejoins", e)
		case !m.matches(r.Protocols):
			g.rejoin(nowMillis, r, m, "member "+m.id+" changed its subscription", e)
		default:
			g.answerCurrent(r, m, e)
		}
	default:
		e.refuse(r, r.MemberID, kerr.UnknownMemberID)
	}
}

// answerCurrent answers with the current generation, without a rebalance.
func (g *Group) answerCurrent(r *JoinRequest, m *member, e *Effects) {
	reply := g.joined(m)
	if g.state == Stable {
		reply.Members = nil
	}
	reply.Ticket = r.Ticket
	e.Joins = append(e.Joins, reply)
}

// joined is the answer to a member of the current generation.
func (g *Group) joined(m *member) JoinReply {
	r := JoinReply{
		Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol, Leader: g.leader, MemberID: m.id,
	}
	if g.leader == m.id {
		r.Members = g.joinedMembers()
	}
	return r
}

func (g *Group) joinedMembers() []JoinedMember {
	out := make([]JoinedMember, 0, len(g.order))
	for _, m := range g.order {
		out = append(out, JoinedMember{MemberID: m.id, InstanceID: m.instanceID, Metadata: m.metadata(g.protocol)})
	}
	return out
}

func (g *Group) addMember(nowMillis int64, r *JoinRequest, id string, e *Effects) {
	m := &member{
		id: id, instanceID: r.InstanceID, clientID: r.ClientID, clientHost: r.ClientHost,
		rebalanceTimeoutMillis: r.RebalanceTimeoutMillis, sessionTimeoutMillis: r.SessionTimeoutMillis,
		protocols: r.Protocols, join: r.Ticket, isNew: true,
	}
	if g.state == PreparingRebalance && g.previous == Empty {
		g.newMemberAdded = true // the initial delay may be extended
	}
	g.add(m, r.ProtocolType)
	// Its session does not run yet, but a client that went away while its request was parked must not stay for ever.
	m.deadlineMillis = g.wakeBy(nowMillis + g.cfg.NewMemberJoinTimeoutMillis)
	g.rebalanceOrComplete(nowMillis, "member "+id+" joins; "+reason(r), e)
}

func (g *Group) rejoin(nowMillis int64, r *JoinRequest, m *member, why string, e *Effects) {
	g.update(m, r, e)
	g.rebalanceOrComplete(nowMillis, why+"; "+reason(r), e)
}

func reason(r *JoinRequest) string {
	if r.Reason == "" {
		return "client gave no reason"
	}
	return "client reason: " + r.Reason
}
