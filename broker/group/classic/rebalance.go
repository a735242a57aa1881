package classic

import "github.com/twmb/franz-go/pkg/kerr"

// rebalanceOrComplete starts a rebalance, or ends the join phase of the one under way if nobody is missing any more.
func (g *Group) rebalanceOrComplete(nowMillis int64, why string, e *Effects) {
	if g.canRebalance() {
		g.prepareRebalance(nowMillis, why, e)
		return
	}
	g.maybeCompleteJoin(nowMillis, e)
}

func (g *Group) prepareRebalance(nowMillis int64, why string, e *Effects) {
	if g.state == CompletingRebalance {
		g.propagateError(nowMillis, kerr.RebalanceInProgress, e)
	}
	g.clearPendingSync()
	wasEmpty := g.state == Empty
	g.transition(PreparingRebalance, nowMillis)
	e.Started++
	e.note("rebalance of generation %d begins: %s", g.generation, why)
	if wasEmpty {
		// A new group gives all its members time to come, so that it does not rebalance once for each.
		g.initial, g.newMemberAdded = true, false
		g.initialDelay = g.cfg.InitialRebalanceDelayMillis
		g.initialRemaining = max(g.rebalanceTimeout()-g.initialDelay, 0)
		g.joinDeadlineMillis = g.wakeBy(nowMillis + g.initialDelay)
		return
	}
	if g.allJoined() {
		g.completeJoin(nowMillis, e)
		return
	}
	g.scheduleJoin(nowMillis)
}

func (g *Group) scheduleJoin(nowMillis int64) {
	g.initial = false
	g.joinDeadlineMillis = g.wakeBy(nowMillis + max(g.rebalanceTimeout(), 1))
}

// maybeCompleteJoin ends the join phase when all are there, but never cuts the initial delay short.
func (g *Group) maybeCompleteJoin(nowMillis int64, e *Effects) {
	if g.state == PreparingRebalance && g.previous != Empty && g.allJoined() {
		g.completeJoin(nowMillis, e)
	}
}

// joinExpired is the end of the initial delay, or of the rebalance timeout.
func (g *Group) joinExpired(nowMillis int64, e *Effects) {
	g.joinDeadlineMillis = 0
	if g.state != PreparingRebalance {
		return
	}
	if g.initial && g.newMemberAdded && g.initialRemaining != 0 {
		g.newMemberAdded = false
		delay := min(g.cfg.InitialRebalanceDelayMillis, g.initialRemaining)
		g.initialRemaining = max(g.initialRemaining-g.initialDelay, 0)
		g.initialDelay = delay
		g.joinDeadlineMillis = g.wakeBy(nowMillis + delay)
		return
	}
	g.completeJoin(nowMillis, e)
}

// completeJoin begins the next generation with those who joined. Dynamic members who did not are dropped; static ones stay,
// their session decides.
func (g *Group) completeJoin(nowMillis int64, e *Effects) {
	g.joinDeadlineMillis, g.initial = 0, false
	for _, m := range append([]*member(nil), g.order...) {
		if !m.awaitingJoin() && m.instanceID == nil {
			e.note("member %s did not rejoin in time", m.id)
			g.remove(m.id)
		}
	}
	if !g.electJoined(e) && len(g.members) > 0 {
		e.note("nobody rejoined in time; waiting for the sessions to run out")
		g.scheduleJoin(nowMillis)
		return
	}
	g.generation++
	g.clearPendingSync()
	if len(g.members) == 0 {
		g.protocol = ""
		g.transition(Empty, nowMillis)
		g.learnSubscription()
		g.save(pendingSave{}, nil, e)
		e.note("generation %d is empty", g.generation)
		return
	}
	g.protocol = g.selectProtocol()
	g.learnSubscription()
	g.transition(CompletingRebalance, nowMillis)
	e.note("generation %d has %d members, protocol %q, leader %s", g.generation, len(g.members), g.protocol, g.leader)
	for _, m := range g.order {
		g.replyJoin(m, g.joined(m), e)
		g.touch(m, nowMillis)
		m.isNew = false
		g.pendingSync[m.id] = struct{}{}
	}
	g.syncDeadlineMillis = g.wakeBy(nowMillis + max(g.rebalanceTimeout(), 1))
}

// electJoined makes sure that the leader is a member who joined.
func (g *Group) electJoined(e *Effects) bool {
	leader := g.members[g.leader]
	if leader == nil {
		return false
	}
	if leader.awaitingJoin() {
		return true
	}
	for _, m := range g.order {
		if m.awaitingJoin() {
			e.note("leader %s did not rejoin in time, %s leads now", g.leader, m.id)
			g.leader = m.id
			return true
		}
	}
	return false
}

func (g *Group) clearPendingSync() {
	clear(g.pendingSync)
	g.syncDeadlineMillis = 0
}

func (g *Group) synced(memberID string) {
	delete(g.pendingSync, memberID)
	if len(g.pendingSync) == 0 {
		g.syncDeadlineMillis = 0
	}
}

// syncExpired drops the members that joined the generation and never asked for their assignment.
func (g *Group) syncExpired(nowMillis int64, e *Effects) {
	g.syncDeadlineMillis = 0
	if g.state != CompletingRebalance && g.state != Stable || len(g.pendingSync) == 0 {
		return
	}
	for _, m := range append([]*member(nil), g.order...) {
		if _, ok := g.pendingSync[m.id]; ok {
			e.note("member %s did not sync in time", m.id)
			g.dismiss(m, e)
		}
	}
	g.prepareRebalance(nowMillis, "members did not sync in time", e)
}

// dismiss removes a member; a request that it has parked is told that the member is unknown, so that a living client joins anew.
func (g *Group) dismiss(m *member, e *Effects) {
	g.replyJoin(m, JoinReply{Err: kerr.UnknownMemberID, Generation: -1}, e)
	g.replySync(m, SyncReply{Err: kerr.UnknownMemberID}, e)
	g.remove(m.id)
}

// afterRemoval goes on after members went.
func (g *Group) afterRemoval(nowMillis int64, why string, e *Effects) {
	switch g.state {
	case Stable, CompletingRebalance:
		g.rebalanceOrComplete(nowMillis, why, e)
	case PreparingRebalance:
		g.maybeCompleteJoin(nowMillis, e)
	}
}

// propagateError takes the assignments back and answers the parked SyncGroups with an error.
func (g *Group) propagateError(nowMillis int64, err *kerr.Error, e *Effects) {
	for _, m := range g.order {
		g.assign(m, nil)
		if g.replySync(m, SyncReply{Err: err}, e) {
			g.touch(m, nowMillis)
		}
	}
}
