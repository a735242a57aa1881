package consumer

import "github.com/twmb/franz-go/pkg/kerr"

// leave handles a heartbeat with a negative epoch.
func (g *Group) leave(r *HeartbeatRequest) (HeartbeatReply, Effects) {
	var e Effects
	reply := HeartbeatReply{MemberID: r.MemberID, Epoch: r.Epoch}
	m, why := g.find(r.MemberID, r.InstanceID)
	if why.refused() {
		reply.Refusal = why
		return reply, e
	}
	if r.Epoch == LeaveStaticEpoch {
		e.note("static member %s of instance %s goes away for a while", m.id, *m.instanceID)
		g.disown(m, m.revoking)
		m.epoch, m.revoking, m.rebalanceMillis = LeaveStaticEpoch, owned{}, 0
		e.Changed, g.stable = true, false
		return reply, e
	}
	e.note("member %s leaves", m.id)
	g.remove(m, &e)
	return reply, e
}

// Tick fences the members whose time is up.
func (g *Group) Tick(nowMillis int64) Effects {
	var e Effects
	if g.dead {
		return e
	}
	g.wakeMillis = 0
	for _, m := range g.sorted() {
		due := func(deadlineMillis int64, why string) bool {
			if deadlineMillis == 0 {
				return false
			}
			if deadlineMillis > nowMillis {
				g.wakeBy(deadlineMillis)
				return false
			}
			e.note("member %s is fenced: %s", m.id, why)
			g.remove(m, &e)
			return true
		}
		_ = due(m.sessionMillis, "its session ran out") ||
			due(m.rebalanceMillis, "it did not give up its partitions in time") ||
			due(m.joinMillis, "it did not rejoin in time") ||
			due(m.syncMillis, "it did not fetch its assignment in time")
	}
	return e
}

// CheckCommit decides whether a member may commit offsets, or with a negative epoch a client that is none. A member's epoch before the
// current one will do for partitions that it has had since (KIP-1251): each, if not nil, decides for one partition.
func (g *Group) CheckCommit(memberID string, epoch int32, version int16) (each func(TopicID, int32) *kerr.Error, err *kerr.Error) {
	if g.dead {
		return nil, kerr.CoordinatorNotAvailable
	}
	if epoch < 0 && len(g.members) == 0 {
		return nil, nil
	}
	m := g.members[memberID]
	if m == nil {
		return nil, kerr.UnknownMemberID
	}
	stale := kerr.StaleMemberEpoch
	if m.classic != nil {
		stale = kerr.IllegalGeneration
	}
	const modernVersion = 9
	switch {
	case m.classic == nil && version < modernVersion:
		return nil, kerr.UnsupportedVersion
	case epoch == m.epoch:
		return nil, nil
	case epoch > m.epoch:
		return nil, stale
	}
	return func(topic TopicID, partition int32) *kerr.Error {
		since, ok := m.assigned[topic][partition]
		if !ok {
			since, ok = m.revoking[topic][partition]
		}
		if !ok || epoch < since {
			return stale
		}
		return nil
	}, nil
}

// CheckFetch decides whether offsets may be fetched: by a member at its epoch, or by anybody who names no member.
func (g *Group) CheckFetch(memberID *string, epoch int32) *kerr.Error {
	if memberID == nil && epoch < 0 {
		return nil
	}
	var m *member
	if memberID != nil {
		m = g.members[*memberID]
	}
	switch {
	case m == nil:
		return kerr.UnknownMemberID
	case epoch == m.epoch:
		return nil
	case m.classic != nil:
		return kerr.IllegalGeneration
	}
	return kerr.StaleMemberEpoch
}

// CheckDelete decides whether the group may be deleted.
func (g *Group) CheckDelete() *kerr.Error {
	switch {
	case g.dead:
		return kerr.GroupIDNotFound
	case len(g.members) > 0:
		return kerr.NonEmptyGroup
	}
	return nil
}

// Expires tells whether a committed offset of a topic is past its retention: expireMillis if the commit named one (> 0), else
// retentionMillis after the commit, unless a member subscribes to the topic.
func (g *Group) Expires(nowMillis int64, topic string, commitMillis, expireMillis, retentionMillis int64) bool {
	switch {
	case g.Subscribes(topic):
		return false
	case expireMillis > 0:
		return nowMillis >= expireMillis
	}
	return nowMillis-commitMillis >= retentionMillis
}
