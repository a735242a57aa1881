package consumer

import (
	"maps"
	"slices"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// Snapshot is the stored state of a group: what survives a restart of the broker or a move of the group.
type Snapshot struct {
	Incarnation int64
	Sequence    uint64

	Epoch           int32
	AssignmentEpoch int32
	Topics          map[string]Topic // subscribed to, as of the last look
	Members         []SnapshotMember // by id
}

// SnapshotMember is a member in a Snapshot.
type SnapshotMember struct {
	MemberID               string
	InstanceID, RackID     *string
	ClientID, ClientHost   string
	RebalanceTimeoutMillis int32
	Names                  []string
	Regex                  string
	Assignor               string
	State                  MemberState
	Epoch, PreviousEpoch   int32
	Target                 Assignment
	Assigned, Revoking     map[TopicID]map[int32]int32 // epochs of assignment by partition
	// Classic is nil for a member of the consumer protocol.
	Classic *SnapshotClassic
}

// SnapshotClassic is what a member of the classic protocol has besides.
type SnapshotClassic struct {
	SessionTimeoutMillis int32
	Protocols            []classic.Protocol
}

// Snapshot is the current state. It shares nothing that changes.
func (g *Group) Snapshot() Snapshot {
	s := Snapshot{Epoch: g.epoch, AssignmentEpoch: g.assignmentEpoch, Topics: maps.Clone(g.known)}
	for _, m := range g.sorted() {
		sm := SnapshotMember{
			MemberID: m.id, InstanceID: m.instanceID, RackID: m.rackID, ClientID: m.clientID, ClientHost: m.clientHost,
			RebalanceTimeoutMillis: m.rebalanceTimeoutMillis, Names: m.names, Regex: m.regex, Assignor: m.assignor,
			State: m.state, Epoch: m.epoch, PreviousEpoch: m.previousEpoch, Target: m.target, Assigned: m.assigned, Revoking: m.revoking,
		}
		if m.classic != nil {
			sm.Classic = &SnapshotClassic{SessionTimeoutMillis: m.classic.sessionTimeoutMillis, Protocols: m.classic.protocols}
		}
		s.Members = append(s.Members, sm)
	}
	return s
}

// Restore returns the group that a snapshot describes, its members' timers starting now.
func Restore(cfg *Config, id string, nowMillis int64, s *Snapshot) *Group {
	g := New(cfg, id)
	settings := cfg.Settings(id)
	for i := range s.Members {
		sm := &s.Members[i]
		if g.members[sm.MemberID] != nil {
			continue
		}
		m := &member{
			id: sm.MemberID, instanceID: sm.InstanceID, rackID: sm.RackID, clientID: sm.ClientID, clientHost: sm.ClientHost,
			rebalanceTimeoutMillis: sm.RebalanceTimeoutMillis, names: distinct(sm.Names), regex: sm.Regex, assignor: sm.Assignor,
			state: sm.State, epoch: sm.Epoch, previousEpoch: sm.PreviousEpoch, target: sm.Target,
			assigned: g.unowned(sm.Assigned), revoking: owned{},
		}
		if sm.Classic != nil {
			m.classic = &classicMember{sessionTimeoutMillis: sm.Classic.SessionTimeoutMillis, protocols: slices.Clone(sm.Classic.Protocols)}
		}
		g.own(m, m.assigned)
		m.revoking = g.unowned(sm.Revoking)
		var e Effects
		g.update(m, m, &e)
		g.touch(nowMillis, m, &settings)
		if m.state == Unrevoked && m.classic == nil {
			m.rebalanceMillis = g.wakeBy(nowMillis + int64(m.rebalanceTimeoutMillis))
		}
	}
	g.epoch, g.assignmentEpoch = s.Epoch, s.AssignmentEpoch
	maps.Copy(g.known, s.Topics)
	g.stable = g.State() == Stable
	return g
}

// unowned leaves out what another member has: a damaged state must not give a partition to two.
func (g *Group) unowned(places map[TopicID]map[int32]int32) owned {
	o := owned{}
	for topic, of := range places {
		for p, epoch := range of {
			if g.owners[topic][p] == nil {
				o.add(topic, p, epoch)
			}
		}
	}
	return o
}
