package classic

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Group is one classic group. It is not safe for concurrent use. Every method that takes nowMillis takes the driver's clock in
// milliseconds since the Unix epoch; it must not run backwards by much, or sessions last longer.
type Group struct {
	id  string
	cfg *Config

	state         State
	previous      State
	sinceMillis   int64 // when the state was entered; -1 unknown
	generation    int32
	protocolType  string // "" : a simple group, which only keeps offsets
	protocol      string
	leader        string
	members       map[string]*member
	order         []*member // in order of arrival, so that all choices are repeatable
	static        map[string]string
	pendingJoin   map[string]int64 // member ids handed out, with their deadlines
	pendingSync   map[string]struct{}
	awaitingJoins int
	supported     map[string]int // by protocol name: how many members support it
	sizeBytes     int64

	subscribed      map[string]struct{}
	knowsSubscribed bool

	joinDeadlineMillis int64 // 0 none
	syncDeadlineMillis int64
	initial            bool // the join deadline belongs to the initial delay
	initialDelay       int64
	initialRemaining   int64
	newMemberAdded     bool
	wakeMillis         int64 // not later than the earliest deadline; 0 none

	seq     uint64
	pending []pendingSave
}

// New returns an empty group of generation 0 without a protocol type.
func New(cfg *Config, id string, nowMillis int64) *Group {
	return &Group{
		id: id, cfg: cfg, state: Empty, previous: Dead, sinceMillis: nowMillis,
		members: map[string]*member{}, static: map[string]string{}, pendingJoin: map[string]int64{},
		pendingSync: map[string]struct{}{}, supported: map[string]int{},
	}
}

// ID is the group id.
func (g *Group) ID() string { return g.id }

// State is the current state.
func (g *Group) State() State { return g.state }

// Generation is the current generation; it grows by one per rebalance.
func (g *Group) Generation() int32 { return g.generation }

// ProtocolType is "" for a group that only keeps offsets.
func (g *Group) ProtocolType() string { return g.protocolType }

// Members counts the members of the group; ids handed out and not yet used do not count.
func (g *Group) Members() int { return len(g.members) }

// SizeBytes estimates what the members hold in memory.
func (g *Group) SizeBytes() int64 { return g.sizeBytes }

// WakeMillis is when [Group.Tick] wants to be called, in the time of nowMillis; 0 means never. It may be early.
func (g *Group) WakeMillis() int64 { return g.wakeMillis }

// Pristine tells whether forgetting the group loses nothing: it has never had a generation, a member or a pending member.
func (g *Group) Pristine() bool {
	return g.state == Empty && g.generation == 0 && g.protocolType == "" && len(g.pendingJoin) == 0 && len(g.pending) == 0
}

// Idle tells whether the group has neither members nor member ids handed out.
func (g *Group) Idle() bool { return g.state == Empty && len(g.pendingJoin) == 0 }

func (g *Group) transition(to State, nowMillis int64) {
	g.previous, g.state, g.sinceMillis = g.state, to, nowMillis
}

// add takes in a member, whose request may be parked already. The first of a group sets its protocol type and leads it.
func (g *Group) add(m *member, protocolType string) {
	if m.instanceID != nil {
		g.static[*m.instanceID] = m.id
	}
	if len(g.members) == 0 {
		g.protocolType = protocolType
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.members[m.id] = m
	g.order = append(g.order, m)
	g.count(m, +1)
	if m.awaitingJoin() {
		g.awaitingJoins++
	}
	delete(g.pendingJoin, m.id)
}

// remove forgets a member or pending member, and hands on the leadership. The caller has answered its parked requests.
func (g *Group) remove(id string) {
	delete(g.pendingJoin, id)
	delete(g.pendingSync, id)
	m := g.members[id]
	if m == nil {
		return
	}
	delete(g.members, id)
	g.order = slices.DeleteFunc(g.order, func(o *member) bool { return o == m })
	g.count(m, -1)
	if m.awaitingJoin() {
		g.awaitingJoins--
	}
	if m.instanceID != nil {
		delete(g.static, *m.instanceID)
	}
	if g.leader == id {
		g.leader = ""
		if len(g.order) > 0 {
			g.leader = g.order[0].id
		}
	}
}

func (g *Group) count(m *member, by int) {
	g.sizeBytes += int64(by) * m.sizeBytes()
	for i := range m.protocols {
		name := m.protocols[i].Name
		if g.supported[name] += by; g.supported[name] == 0 {
			delete(g.supported, name)
		}
	}
}

// update takes over a rejoining member's new subscription and parks its request; a request parked before is superseded.
func (g *Group) update(m *member, r *JoinRequest, e *Effects) {
	g.supersedeJoin(m, r.Ticket, e)
	g.change(m, r.Protocols, r.RebalanceTimeoutMillis, r.SessionTimeoutMillis)
}

func (g *Group) change(m *member, protocols []Protocol, rebalanceTimeoutMillis, sessionTimeoutMillis int32) {
	g.count(m, -1)
	m.protocols, m.rebalanceTimeoutMillis, m.sessionTimeoutMillis = protocols, rebalanceTimeoutMillis, sessionTimeoutMillis
	g.count(m, +1)
}

func (g *Group) assign(m *member, assignment []byte) {
	g.sizeBytes += int64(len(assignment) - len(m.assignment))
	m.assignment = assignment
}

// supersedeJoin parks a new request in place of an older one. The older is answered, so that nobody waits for ever: its
// connection is most likely gone, since no client sends two at once.
func (g *Group) supersedeJoin(m *member, t Ticket, e *Effects) {
	if m.join != 0 {
		e.Joins = append(e.Joins, JoinReply{Ticket: m.join, Err: kerr.RebalanceInProgress, Generation: -1, MemberID: m.id})
	} else {
		g.awaitingJoins++
	}
	m.join = t
}

func (g *Group) supersedeSync(m *member, t Ticket, e *Effects) {
	if m.sync != 0 {
		e.Syncs = append(e.Syncs, SyncReply{Ticket: m.sync, Err: kerr.RebalanceInProgress})
	}
	m.sync = t
}

// replyJoin answers the member's parked JoinGroup, if there is one.
func (g *Group) replyJoin(m *member, r JoinReply, e *Effects) bool {
	if m.join == 0 {
		return false
	}
	r.Ticket, m.join = m.join, 0
	g.awaitingJoins--
	e.Joins = append(e.Joins, r)
	return true
}

// replySync answers the member's parked SyncGroup, if there is one.
func (g *Group) replySync(m *member, r SyncReply, e *Effects) bool {
	if m.sync == 0 {
		return false
	}
	r.Ticket, m.sync = m.sync, 0
	e.Syncs = append(e.Syncs, r)
	return true
}

func (g *Group) allJoined() bool {
	return len(g.members) == g.awaitingJoins && len(g.pendingJoin) == 0
}

func (g *Group) canRebalance() bool {
	return g.state == Stable || g.state == CompletingRebalance || g.state == Empty
}

// rebalanceTimeout is the longest of the members'.
func (g *Group) rebalanceTimeout() (millis int64) {
	for _, m := range g.order {
		millis = max(millis, int64(m.rebalanceTimeoutMillis))
	}
	return millis
}

// supports tells whether a member with these protocols may join: in an empty group any that names a type and a protocol, else
// one of the group's type that shares a protocol with all members.
func (g *Group) supports(protocolType string, protocols []Protocol) bool {
	if g.state == Empty {
		return protocolType != "" && len(protocols) > 0
	}
	return protocolType == g.protocolType && slices.ContainsFunc(protocols, func(p Protocol) bool {
		return g.supported[p.Name] == len(g.members)
	})
}

// selectProtocol lets every member vote for the protocol it likes best among those that all support. Of equally many votes
// the one that got its first vote earlier wins.
func (g *Group) selectProtocol() string {
	candidates := map[string]bool{}
	for name, n := range g.supported {
		candidates[name] = n == len(g.members)
	}
	votes := map[string]int{}
	for _, m := range g.order {
		votes[m.vote(candidates)]++
	}
	best := ""
	for _, m := range g.order {
		if v := m.vote(candidates); votes[v] > votes[best] {
			best = v
		}
	}
	return best
}

// validate checks a member id, and the instance id with it: KIP-345 fences the older of two members with one instance id.
func (g *Group) validate(memberID string, instanceID *string) *kerr.Error {
	if instanceID != nil {
		switch current, ok := g.static[*instanceID]; {
		case !ok:
			return kerr.UnknownMemberID
		case current != memberID:
			return kerr.FencedInstanceID
		}
	}
	if g.members[memberID] == nil {
		return kerr.UnknownMemberID
	}
	return nil
}

// wakeBy makes sure that the driver calls Tick by then.
func (g *Group) wakeBy(millis int64) int64 {
	if g.wakeMillis == 0 || millis < g.wakeMillis {
		g.wakeMillis = millis
	}
	return millis
}

// touch restarts a member's session.
func (g *Group) touch(m *member, nowMillis int64) {
	m.deadlineMillis = g.wakeBy(nowMillis + int64(m.sessionTimeoutMillis))
}

func (e *Effects) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}
