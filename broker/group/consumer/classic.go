package consumer

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// Join handles a JoinGroup of a member of the classic protocol, in a group that has members. The reply may be given once the change is
// durable.
func (g *Group) Join(nowMillis int64, topics Topics, r *classic.JoinRequest) (classic.JoinReply, Effects) {
	var e Effects
	refused := func(memberID string, err *kerr.Error) (classic.JoinReply, Effects) {
		return classic.JoinReply{Err: err, Generation: -1, MemberID: memberID}, Effects{}
	}
	if g.dead {
		return refused(r.MemberID, kerr.CoordinatorNotAvailable)
	}
	s := g.cfg.Settings(g.id)
	id := r.MemberID
	if id == "" {
		id = r.NewMemberID
	}
	switch {
	case len(g.members) >= s.MaxMembers && g.members[id] == nil:
		return refused("", kerr.GroupMaxSizeReached)
	case !g.supports(r):
		return refused(r.MemberID, kerr.InconsistentGroupProtocol)
	case r.MemberID == "" && r.InstanceID == nil && r.RequireKnownMemberID:
		return refused(id, kerr.MemberIDRequired)
	}
	sub, err := parseSubscription(r.Protocols[0].Metadata)
	if err != nil {
		return refused(r.MemberID, kerr.InconsistentGroupProtocol)
	}
	old, before, code := g.admitClassic(id, r)
	if code != nil {
		return refused(r.MemberID, code)
	}
	m := old.copyAs(id)
	m.clientID, m.clientHost, m.rebalanceTimeoutMillis = r.ClientID, r.ClientHost, r.RebalanceTimeoutMillis
	m.names, m.regex = distinct(sub.topics), ""
	if r.InstanceID != nil {
		m.instanceID = r.InstanceID
	}
	if sub.rackID != nil {
		m.rackID = sub.rackID
	}
	m.classic = &classicMember{sessionTimeoutMillis: r.SessionTimeoutMillis, protocols: r.Protocols}
	if why := g.fits(old, m); why.refused() {
		return refused("", why.Err)
	}
	m = g.update(before, m, &e)
	if g.observe(nowMillis, topics) && !e.bumped() {
		g.bump(&e)
	}
	g.advance(nowMillis, m, byID(sub.owned, topics), true, &s, &e)
	g.touch(nowMillis, m, &s)
	m.joinMillis = 0
	m.syncMillis = g.wakeBy(nowMillis + int64(r.RebalanceTimeoutMillis))
	return classic.JoinReply{
		Generation: m.epoch, ProtocolType: g.ProtocolType(), Protocol: m.classic.protocols[0].Name, MemberID: m.id,
	}, e
}

// supports tells whether all members of the classic protocol share one of the protocols.
func (g *Group) supports(r *classic.JoinRequest) bool {
	if r.ProtocolType != g.ProtocolType() || len(r.Protocols) == 0 {
		return false
	}
	return slices.ContainsFunc(r.Protocols, func(p classic.Protocol) bool {
		for _, m := range g.members {
			if m.classic != nil && !slices.ContainsFunc(m.classic.protocols, func(q classic.Protocol) bool { return p.Name == q.Name }) {
				return false
			}
		}
		return true
	})
}

// admitClassic finds the member, or makes one; before is the one whose place it takes.
func (g *Group) admitClassic(id string, r *classic.JoinRequest) (m, before *member, err *kerr.Error) {
	if r.InstanceID == nil {
		if m = g.members[id]; m == nil {
			m = &member{id: id, state: MemberStable}
		}
		return m, m, nil
	}
	current, ok := g.static[*r.InstanceID]
	switch {
	case r.MemberID != "":
		m, why := g.find(r.MemberID, r.InstanceID)
		return m, m, why.Err
	case !ok:
		m = &member{id: id, state: MemberStable}
		return m, m, nil
	}
	was := g.members[current]
	m = was.copyAs(id)
	m.epoch, m.previousEpoch = 0, 0
	return m, was, nil
}

// classicMember finds a member for a request of the classic protocol.
func (g *Group) classicMember(memberID string, instanceID *string, generation int32) (*member, *kerr.Error) {
	if g.dead {
		return nil, kerr.CoordinatorNotAvailable
	}
	m, why := g.find(memberID, instanceID)
	switch {
	case why.refused():
		return nil, why.Err
	case m.classic == nil:
		return nil, kerr.UnknownMemberID
	case m.epoch != generation:
		return nil, kerr.IllegalGeneration
	}
	return m, nil
}

// Sync handles a SyncGroup: the member has its assignment already.
func (g *Group) Sync(nowMillis int64, topics Topics, r *classic.SyncRequest) classic.SyncReply {
	m, err := g.classicMember(r.MemberID, r.InstanceID, r.Generation)
	if err != nil {
		return classic.SyncReply{Err: err}
	}
	protocol := m.classic.protocols[0].Name
	switch {
	case r.ProtocolType != nil && *r.ProtocolType != g.ProtocolType(), r.Protocol != nil && *r.Protocol != protocol:
		return classic.SyncReply{Err: kerr.InconsistentGroupProtocol}
	case g.epoch > m.epoch && m.state != Unrevoked:
		g.awaitRejoin(nowMillis, m)
		return classic.SyncReply{Err: kerr.RebalanceInProgress}
	}
	m.syncMillis = 0
	s := g.cfg.Settings(g.id)
	g.touch(nowMillis, m, &s)
	return classic.SyncReply{ProtocolType: g.ProtocolType(), Protocol: protocol, Assignment: encodeAssignment(m, topics)}
}

// ClassicHeartbeat handles a Heartbeat. The member has to rejoin when a new target is due, to give up partitions, and to get those that
// have become free.
func (g *Group) ClassicHeartbeat(nowMillis int64, memberID string, instanceID *string, generation int32) *kerr.Error {
	m, err := g.classicMember(memberID, instanceID, generation)
	if err != nil {
		return err
	}
	s := g.cfg.Settings(g.id)
	g.touch(nowMillis, m, &s)
	if m.epoch < g.epoch || m.state == Unrevoked || m.state == Unreleased && !g.waits(m) {
		g.awaitRejoin(nowMillis, m)
		return kerr.RebalanceInProgress
	}
	return nil
}

func (g *Group) awaitRejoin(nowMillis int64, m *member) {
	if m.joinMillis == 0 {
		m.joinMillis = g.wakeBy(nowMillis + int64(m.rebalanceTimeoutMillis))
	}
}

// ClassicLeave handles a LeaveGroup: one error (nil when it left) for each leaver.
func (g *Group) ClassicLeave(leavers []classic.Leaver) (errs []*kerr.Error, e Effects) {
	for _, l := range leavers {
		id := l.MemberID
		if id == "" && l.InstanceID != nil { // an administrator removes it
			id = g.static[*l.InstanceID]
		}
		m, why := g.find(id, l.InstanceID)
		if why.Err == nil && m.classic == nil {
			why.Err = kerr.UnknownMemberID
		}
		errs = append(errs, why.Err)
		if why.Err != nil {
			continue
		}
		e.note("member %s leaves: %s", m.id, l.Reason)
		if e.bumped() {
			g.take(m)
			g.forgetUnsubscribed()
			continue
		}
		g.remove(m, &e)
	}
	return errs, e
}
