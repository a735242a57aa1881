package consumer

// reconcile leads a member one step towards its target. reported is what the member says that it owns; known is false when it did not
// say. It tells whether anything changed.
func (g *Group) reconcile(nowMillis int64, m *member, reported Assignment, known bool) bool {
	if m.reached(g.assignmentEpoch) {
		return false
	}
	if m.state == Unrevoked && (!known || m.revoking.meets(reported)) {
		return false // it has not given up what it has to
	}
	assigned, revoking := owned{}, owned{}
	for topic, of := range m.assigned {
		wanted := m.target[topic]
		for p, epoch := range of {
			if contains(wanted, p) {
				assigned.add(topic, p, epoch)
			} else {
				revoking.add(topic, p, epoch)
			}
		}
	}
	state, epoch := MemberStable, g.assignmentEpoch
	if len(revoking) > 0 && (!known || revoking.meets(reported)) {
		state, epoch = Unrevoked, m.epoch
	} else {
		revoking = owned{}
		g.disown(m, m.revoking) // given up by now, like what it never began to own
		for topic, of := range m.assigned {
			for p := range of {
				if !assigned.has(topic, p) {
					g.release(m, topic, p)
				}
			}
		}
		for topic, wanted := range m.target {
			for _, p := range wanted {
				switch {
				case assigned.has(topic, p):
				case g.owners[topic][p] == nil:
					assigned.add(topic, p, epoch)
				default:
					state = Unreleased
				}
			}
		}
	}
	changed := state != m.state || epoch != m.epoch || m.previousEpoch != m.epoch || !assigned.equal(m.assigned) || !revoking.equal(m.revoking)
	g.disown(m, m.revoking)
	m.state, m.previousEpoch, m.epoch = state, m.epoch, epoch
	m.assigned, m.revoking = assigned, revoking
	g.own(m, assigned)
	g.own(m, revoking)
	m.rebalanceMillis = 0
	if state == Unrevoked && m.classic == nil {
		m.rebalanceMillis = g.wakeBy(nowMillis + int64(m.rebalanceTimeoutMillis))
	}
	return changed
}

// own notes that partitions are a member's: nobody else gets them.
func (g *Group) own(m *member, o owned) {
	for topic, of := range o {
		if g.owners[topic] == nil {
			g.owners[topic] = map[int32]*member{}
		}
		for p := range of {
			g.owners[topic][p] = m
		}
	}
}

func (g *Group) disown(m *member, o owned) {
	for topic, of := range o {
		for p := range of {
			g.release(m, topic, p)
		}
	}
}

func (g *Group) release(m *member, topic TopicID, partition int32) {
	if g.owners[topic][partition] != m {
		return
	}
	delete(g.owners[topic], partition)
	if len(g.owners[topic]) == 0 {
		delete(g.owners, topic)
	}
}

// waits tells whether a partition of the member's target is still somebody else's.
func (g *Group) waits(m *member) bool {
	for topic, wanted := range m.target {
		for _, p := range wanted {
			if owner := g.owners[topic][p]; owner != nil && owner != m {
				return true
			}
		}
	}
	return false
}
