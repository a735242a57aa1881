package consumer

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// memberIDVersion is the ConsumerGroupHeartbeat version from which members make their ids themselves (KIP-1082).
const memberIDVersion = 1

// HeartbeatRequest is a ConsumerGroupHeartbeat. What is nil has not changed since the member's last one. The group keeps the slices.
type HeartbeatRequest struct {
	Version              int16
	MemberID             string
	NewMemberID          string // used if MemberID is empty; unique
	Epoch                int32
	InstanceID, RackID   *string
	ClientID, ClientHost string
	// RebalanceTimeoutMillis is −1 if it has not changed.
	RebalanceTimeoutMillis int32
	Names                  []string // nil: not changed
	Regex                  *string
	Assignor               *string
	// Owned is what the member says that it owns, if OwnedKnown; the lists need not be sorted.
	Owned      Assignment
	OwnedKnown bool
}

// HeartbeatReply answers a heartbeat.
type HeartbeatReply struct {
	Refusal
	MemberID                string
	Epoch                   int32
	HeartbeatIntervalMillis int32
	// Assignment is nil when it has not changed and was not asked for.
	Assignment Assignment
}

// Check refuses what no group accepts.
func (r *HeartbeatRequest) Check(s *Settings) Refusal {
	invalid := func(what string) Refusal { return refuse(kerr.InvalidRequest, "%s", what) }
	empty := func(v *string) bool { return v != nil && strings.TrimSpace(*v) == "" }
	switch {
	case (r.Version >= memberIDVersion || r.Epoch != JoinEpoch) && strings.TrimSpace(r.MemberID) == "":
		return invalid("MemberId can't be empty.")
	case empty(r.InstanceID):
		return invalid("InstanceId can't be empty.")
	case empty(r.RackID):
		return invalid("RackId can't be empty.")
	case r.Epoch == JoinEpoch && r.RebalanceTimeoutMillis == -1:
		return invalid("RebalanceTimeoutMs must be provided in first request.")
	case r.Epoch == JoinEpoch && (!r.OwnedKnown || len(r.Owned) > 0):
		return invalid("TopicPartitions must be empty when (re-)joining.")
	case r.Epoch == JoinEpoch && r.Names == nil && r.Regex == nil:
		return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	case r.Epoch == LeaveStaticEpoch && r.InstanceID == nil:
		return invalid("InstanceId can't be null.")
	case r.Epoch < LeaveStaticEpoch:
		return invalid("MemberEpoch is invalid.")
	}
	if r.Assignor != nil && !slices.Contains(s.Assignors, *r.Assignor) {
		return refuse(kerr.UnsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.",
			*r.Assignor, strings.Join(s.Assignors, ", "))
	}
	return Refusal{}
}

// Heartbeat handles a ConsumerGroupHeartbeat that has passed Check.
func (g *Group) Heartbeat(nowMillis int64, topics Topics, r *HeartbeatRequest) (HeartbeatReply, Effects) {
	var e Effects
	refused := func(why Refusal) (HeartbeatReply, Effects) {
		return HeartbeatReply{Refusal: why, MemberID: r.MemberID, Epoch: r.Epoch}, Effects{}
	}
	if g.dead {
		return refused(Refusal{Err: kerr.CoordinatorNotAvailable})
	}
	if r.Epoch < 0 {
		return g.leave(r)
	}
	s := g.cfg.Settings(g.id)
	if len(g.members) >= s.MaxMembers && g.members[r.MemberID] == nil {
		return refused(refuse(kerr.GroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", s.MaxMembers))
	}
	id := r.MemberID
	if id == "" {
		id = r.NewMemberID
	}
	old, replaced, why := g.admit(id, r)
	if why.refused() {
		return refused(why)
	}
	m := r.apply(old, id)
	if why := g.fits(old, m); why.refused() {
		return refused(why)
	}
	before := old
	if replaced != nil {
		before = replaced
		e.Changed = true
		e.note("static member %s comes back as %s", *m.instanceID, m.id)
	}
	had := old.assigned
	m = g.update(before, m, &e)
	if g.observe(nowMillis, topics) && !e.bumped() {
		g.bump(&e)
	}
	g.advance(nowMillis, m, r.Owned, r.OwnedKnown, &s, &e)
	m.joinMillis, m.syncMillis = 0, 0
	g.touch(nowMillis, m, &s)
	reply := HeartbeatReply{MemberID: m.id, Epoch: m.epoch, HeartbeatIntervalMillis: s.HeartbeatIntervalMillis}
	full := r.Epoch == JoinEpoch || r.RebalanceTimeoutMillis != -1 && (r.Names != nil || r.Regex != nil) && r.OwnedKnown
	if full || !samePlaces(had, m.assigned) {
		reply.Assignment = m.assigned.assignment()
	}
	return reply, e
}

func (e *Effects) bumped() bool { return e.Started > 0 }

// advance computes the target if it is due, and leads the member towards it.
func (g *Group) advance(nowMillis int64, m *member, reported Assignment, known bool, s *Settings, e *Effects) {
	if g.epoch > g.assignmentEpoch {
		g.retarget(s)
		e.Changed = true
	}
	if g.reconcile(nowMillis, m, reported, known) {
		e.Changed = true
	}
	g.completed(e)
}

// admit finds the member that a heartbeat is of, or makes one for a heartbeat that joins. replaced is the static member whose place it
// takes under a new id.
func (g *Group) admit(id string, r *HeartbeatRequest) (m, replaced *member, why Refusal) {
	joining := r.Epoch == JoinEpoch
	if r.InstanceID != nil {
		current, ok := g.static[*r.InstanceID]
		switch {
		case !joining || ok && current == id:
		case !ok:
			if m := g.members[id]; m != nil {
				return m, nil, Refusal{}
			}
			return &member{id: id, state: MemberStable}, nil, Refusal{}
		default:
			was := g.members[current]
			if was.classic == nil && was.epoch != LeaveStaticEpoch {
				return nil, nil, refuse(kerr.UnreleasedInstanceID, "Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.", id, *r.InstanceID, current)
			}
			m := was.copyAs(id)
			m.epoch, m.previousEpoch = 0, 0
			return m, was, Refusal{}
		}
	}
	m, why = g.find(id, r.InstanceID)
	switch {
	case m == nil && joining && r.InstanceID == nil:
		return &member{id: id, state: MemberStable}, nil, Refusal{}
	case why.refused():
		return nil, nil, why
	}
	return m, nil, m.checkEpoch(r)
}

// checkEpoch fences a member that is not where the group thinks it is. Its previous epoch will do, since the answer with the new one may
// have been lost.
func (m *member) checkEpoch(r *HeartbeatRequest) Refusal {
	const rejoin = "The member must abandon all its partitions and rejoin."
	switch {
	case r.Epoch == JoinEpoch || r.Epoch == m.epoch:
		return Refusal{}
	case r.Epoch > m.epoch:
		return refuse(kerr.FencedMemberEpoch, "The consumer group member has a greater member epoch (%d) than the one known by the group coordinator (%d). %s", r.Epoch, m.epoch, rejoin)
	case r.Epoch != m.previousEpoch || !r.OwnedKnown || !m.assigned.covers(r.Owned):
		return refuse(kerr.FencedMemberEpoch, "The consumer group member has a smaller member epoch (%d) than the one known by the group coordinator (%d). %s", r.Epoch, m.epoch, rejoin)
	}
	return Refusal{}
}

// apply is the member with what the heartbeat says of it. The member itself stays as it is.
func (r *HeartbeatRequest) apply(old *member, id string) *member {
	m := old.copyAs(id)
	m.clientID, m.clientHost, m.classic = r.ClientID, r.ClientHost, nil
	if r.InstanceID != nil {
		m.instanceID = r.InstanceID
	}
	if r.RackID != nil {
		m.rackID = r.RackID
	}
	if r.RebalanceTimeoutMillis != -1 {
		m.rebalanceTimeoutMillis = r.RebalanceTimeoutMillis
	}
	if r.Assignor != nil {
		m.assignor = *r.Assignor
	}
	if r.Names != nil {
		m.names = distinct(r.Names)
	}
	if r.Regex != nil {
		m.regex = *r.Regex
	}
	return m
}
