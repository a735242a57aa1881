package classic

// Tick handles every deadline that has passed, the earliest first.
func (g *Group) Tick(nowMillis int64) Effects {
	var e Effects
	for g.tickOne(nowMillis, &e) {
	}
	return e
}

// tickOne handles the earliest deadline if it has passed; else it notes when to be woken next.
func (g *Group) tickOne(nowMillis int64, e *Effects) bool {
	if g.state == Dead {
		return false
	}
	const none = int64(1<<63 - 1)
	var fire func(int64, *Effects)
	earliest := none
	consider := func(deadlineMillis int64, fn func(int64, *Effects)) {
		if deadlineMillis != 0 && deadlineMillis < earliest {
			earliest, fire = deadlineMillis, fn
		}
	}
	consider(g.joinDeadlineMillis, g.joinExpired)
	consider(g.syncDeadlineMillis, g.syncExpired)
	var first *member
	for _, m := range g.order {
		if m.deadlineMillis != 0 && m.deadlineMillis < earliest {
			first, earliest, fire = m, m.deadlineMillis, nil
		}
	}
	pending := ""
	for id, deadlineMillis := range g.pendingJoin {
		if deadlineMillis < earliest || deadlineMillis == earliest && pending != "" && id < pending {
			pending, first, earliest, fire = id, nil, deadlineMillis, nil
		}
	}
	if earliest > nowMillis {
		g.wakeMillis = 0
		if earliest != none {
			g.wakeMillis = earliest
		}
		return false
	}
	switch {
	case fire != nil:
		fire(nowMillis, e)
	case first != nil:
		g.sessionExpired(nowMillis, first, e)
	default:
		e.note("member id %s was never used", pending)
		g.remove(pending)
		g.pendingGone(nowMillis, e)
	}
	return true
}

// pendingGone ends the join phase if a member that was asked to come again was the last one missing.
func (g *Group) pendingGone(nowMillis int64, e *Effects) {
	if g.state == PreparingRebalance && g.allJoined() {
		g.completeJoin(nowMillis, e)
	}
}

func (g *Group) sessionExpired(nowMillis int64, m *member, e *Effects) {
	m.deadlineMillis = 0
	if m.heartbeatSatisfied() {
		return // its session starts again with the answer to its parked request
	}
	e.note("session of member %s ran out", m.id)
	g.dismiss(m, e)
	if g.state == PreparingRebalance {
		g.pendingGone(nowMillis, e)
		return
	}
	g.afterRemoval(nowMillis, "session of member "+m.id+" ran out", e)
}
