package classic

import "slices"

// Snapshot is the persisted state of a group: what survives a restart of the broker or a move of the group. FORMAT.md says how
// it is stored.
type Snapshot struct {
	// Incarnation and Sequence say who wrote it: a writer that does not know whether a write took place recognises its own.
	Incarnation int64
	Sequence    uint64

	SinceMillis  int64 // when the state was entered
	Generation   int32
	ProtocolType string
	Protocol     string
	Leader       string
	// Members is empty for an Empty group; a group with members is Stable when it is restored.
	Members []SnapshotMember
}

// SnapshotMember is a member in a Snapshot.
type SnapshotMember struct {
	MemberID               string
	InstanceID             *string
	ClientID               string
	ClientHost             string
	RebalanceTimeoutMillis int32
	SessionTimeoutMillis   int32
	Protocols              []Protocol
	Assignment             []byte
}

// Snapshot is the current state.
func (g *Group) Snapshot() Snapshot { return g.snapshot(false, nil) }

// snapshot is the current state, with assignments that are not the members' yet if override is set.
func (g *Group) snapshot(override bool, assignments map[string][]byte) Snapshot {
	s := Snapshot{
		SinceMillis: g.sinceMillis, Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol, Leader: g.leader,
		Members: make([]SnapshotMember, 0, len(g.order)),
	}
	for _, m := range g.order {
		assignment := m.assignment
		if override {
			assignment = assignments[m.id]
		}
		s.Members = append(s.Members, SnapshotMember{
			MemberID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost,
			RebalanceTimeoutMillis: m.rebalanceTimeoutMillis, SessionTimeoutMillis: m.sessionTimeoutMillis,
			Protocols: m.protocols, Assignment: assignment,
		})
	}
	return s
}

// Restore returns the group that a snapshot describes, its sessions starting now. A group that has more members than may be
// begins to rebalance, so that its consumers can commit before some are turned away.
func Restore(cfg *Config, id string, nowMillis int64, s Snapshot) (*Group, Effects) {
	var e Effects
	g := New(cfg, id, nowMillis)
	g.generation, g.protocol, g.sinceMillis = s.Generation, s.Protocol, s.SinceMillis
	for i := range s.Members {
		sm := &s.Members[i]
		if g.members[sm.MemberID] != nil {
			continue
		}
		m := &member{
			id: sm.MemberID, instanceID: sm.InstanceID, clientID: sm.ClientID, clientHost: sm.ClientHost,
			rebalanceTimeoutMillis: sm.RebalanceTimeoutMillis, sessionTimeoutMillis: sm.SessionTimeoutMillis,
			protocols: slices.Clone(sm.Protocols), assignment: sm.Assignment,
		}
		g.add(m, s.ProtocolType)
		g.touch(m, nowMillis)
	}
	g.protocolType = s.ProtocolType
	if len(g.members) > 0 {
		g.state = Stable
		if g.members[s.Leader] != nil {
			g.leader = s.Leader
		}
	}
	g.learnSubscription()
	if len(g.members) > cfg.MaxMembers {
		g.prepareRebalance(nowMillis, "the restored group is larger than allowed", &e)
	}
	return g, e
}

// ChosenOnly is the snapshot with nothing but the chosen protocol's subscription for each member.
func (s *Snapshot) ChosenOnly() *Snapshot {
	out := *s
	out.Members = slices.Clone(s.Members)
	for i := range out.Members {
		m := &out.Members[i]
		m.Protocols = slices.DeleteFunc(slices.Clone(m.Protocols), func(p Protocol) bool { return p.Name != s.Protocol })
	}
	return &out
}
