package consumer

import (
	"fmt"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// FromClassic makes a consumer group of a classic group that consumers share: its members keep their places, partitions and epoch, and
// go on with the classic protocol until they are replaced. It fails when the members are not consumers whose bytes can be read.
func FromClassic(cfg *Config, id string, nowMillis int64, topics Topics, s *classic.Snapshot) (*Group, error) {
	g := New(cfg, id)
	settings := cfg.Settings(id)
	switch {
	case s.ProtocolType != g.ProtocolType():
		return nil, fmt.Errorf("group %q has protocol type %q", id, s.ProtocolType)
	case len(s.Members) > settings.MaxMembers:
		return nil, fmt.Errorf("group %q has %d members, at most %d are allowed", id, len(s.Members), settings.MaxMembers)
	}
	for i := range s.Members {
		sm := &s.Members[i]
		sub, err := parseSubscription(chosen(sm, s.Protocol))
		if err != nil {
			return nil, fmt.Errorf("subscription of member %q: %w", sm.MemberID, err)
		}
		named, err := parseAssignment(sm.Assignment)
		if err != nil {
			return nil, fmt.Errorf("assignment of member %q: %w", sm.MemberID, err)
		}
		assigned := g.unowned(ownedOf(byID(named, topics), s.Generation))
		m := &member{
			id: sm.MemberID, instanceID: sm.InstanceID, rackID: sub.rackID, clientID: sm.ClientID, clientHost: sm.ClientHost,
			rebalanceTimeoutMillis: sm.RebalanceTimeoutMillis, names: distinct(sub.topics), state: MemberStable,
			epoch: s.Generation, previousEpoch: s.Generation, assigned: assigned, revoking: owned{}, target: assigned.assignment(),
			classic: &classicMember{sessionTimeoutMillis: sm.SessionTimeoutMillis, protocols: sm.Protocols},
		}
		var e Effects
		g.update(m, m, &e)
		g.touch(nowMillis, m, &settings)
	}
	g.epoch, g.assignmentEpoch = s.Generation, s.Generation
	return g, nil
}

// OnlyClassic tells whether the group has members and all of them use the classic protocol, so that it can become a classic group.
func (g *Group) OnlyClassic() bool {
	for _, m := range g.members {
		if m.classic == nil {
			return false
		}
	}
	return len(g.members) > 0
}

// ToClassic is the group as a classic one: its members as they are, with the protocol that all of them share.
func (g *Group) ToClassic(nowMillis int64, topics Topics) classic.Snapshot {
	s := classic.Snapshot{SinceMillis: nowMillis, Generation: g.epoch, ProtocolType: g.ProtocolType()}
	supported := map[string]int{}
	for _, m := range g.sorted() {
		s.Members = append(s.Members, classic.SnapshotMember{
			MemberID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost,
			RebalanceTimeoutMillis: m.rebalanceTimeoutMillis, SessionTimeoutMillis: m.classic.sessionTimeoutMillis,
			Protocols: m.classic.protocols, Assignment: encodeAssignment(m, topics),
		})
		for _, p := range m.classic.protocols {
			supported[p.Name]++
		}
	}
	if len(s.Members) == 0 {
		return s
	}
	s.Leader = s.Members[0].MemberID
	for _, p := range s.Members[0].Protocols {
		if supported[p.Name] == len(s.Members) {
			s.Protocol = p.Name
			break
		}
	}
	return s
}
