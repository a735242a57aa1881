package consumer

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Group is one consumer group. It is not safe for concurrent use. Times are the driver's clock in milliseconds since the Unix epoch.
type Group struct {
	id  string
	cfg *Config

	dead            bool
	epoch           int32 // of the subscriptions: grows when a new target is due
	assignmentEpoch int32 // of the target
	members         map[string]*member
	static          map[string]string             // member ids by instance id
	owners          map[TopicID]map[int32]*member // who has a partition, or has not given it up yet
	subscribers     map[string]int                // by topic name: members that name it
	regexes         map[string]*regex             // by expression
	known           map[string]Topic              // topics subscribed to that are there, as of the last look
	assignors       map[string]int                // by name: members that prefer it
	sizeBytes       int64

	look       bool // the subscriptions changed since the last look at the topics
	revision   int64
	stable     bool // every member had reached the target when it was last seen
	wakeMillis int64
}

// regex is a regular expression that members subscribe to.
type regex struct {
	members    int
	pattern    *regexp.Regexp // matches whole names
	names      []string       // that it matched, as of the last look
	generation int64          // of the topics then
	atMillis   int64          // 0 never looked
}

// New returns an empty group.
func New(cfg *Config, id string) *Group {
	return &Group{
		id: id, cfg: cfg, members: map[string]*member{}, static: map[string]string{}, owners: map[TopicID]map[int32]*member{},
		subscribers: map[string]int{}, regexes: map[string]*regex{}, known: map[string]Topic{}, assignors: map[string]int{}, look: true,
		stable: true,
	}
}

// State is the current state.
func (g *Group) State() State {
	switch {
	case g.dead:
		return Dead
	case len(g.members) == 0:
		return Empty
	case g.epoch > g.assignmentEpoch:
		return Assigning
	}
	for _, m := range g.members {
		if !m.reached(g.assignmentEpoch) {
			return Reconciling
		}
	}
	return Stable
}

// Members counts the members.
func (g *Group) Members() int { return len(g.members) }

// ProtocolType is what Kafka calls the protocol of all consumers.
func (g *Group) ProtocolType() string { return "consumer" }

// WakeMillis is when Tick wants to be called; 0 means never. It may be early.
func (g *Group) WakeMillis() int64 { return g.wakeMillis }

// Pristine tells whether forgetting the group loses nothing.
func (g *Group) Pristine() bool { return g.epoch == 0 && len(g.members) == 0 }

// Idle tells whether the group has no members.
func (g *Group) Idle() bool { return len(g.members) == 0 }

// Unload ends the group in this process. What is durable stays.
func (g *Group) Unload() { g.dead, g.wakeMillis = true, 0 }

func (g *Group) wakeBy(millis int64) int64 {
	if g.wakeMillis == 0 || millis < g.wakeMillis {
		g.wakeMillis = millis
	}
	return millis
}

// touch restarts a member's session.
func (g *Group) touch(nowMillis int64, m *member, s *Settings) {
	m.sessionMillis = g.wakeBy(nowMillis + m.sessionTimeout(s))
}

// put takes in a member, or counts it again after a change for which it was taken out.
func (g *Group) put(m *member) {
	g.members[m.id] = m
	if m.instanceID != nil {
		g.static[*m.instanceID] = m.id
	}
	for _, name := range m.names {
		g.subscribers[name]++
	}
	if m.regex != "" {
		g.regexes[m.regex].members++
	}
	if m.assignor != "" {
		g.assignors[m.assignor]++
	}
	g.own(m, m.assigned)
	g.own(m, m.revoking)
	g.sizeBytes += m.sizeBytes()
	g.look = true
}

// take takes a member out: its partitions are free.
func (g *Group) take(m *member) {
	delete(g.members, m.id)
	if m.instanceID != nil && g.static[*m.instanceID] == m.id {
		delete(g.static, *m.instanceID)
	}
	for _, name := range m.names {
		count(g.subscribers, name)
	}
	if r := g.regexes[m.regex]; r != nil {
		if r.members--; r.members == 0 {
			delete(g.regexes, m.regex)
		}
	}
	if m.assignor != "" {
		count(g.assignors, m.assignor)
	}
	g.disown(m, m.assigned)
	g.disown(m, m.revoking)
	g.sizeBytes -= m.sizeBytes()
	g.look = true
}

func count(of map[string]int, name string) {
	if of[name]--; of[name] == 0 {
		delete(of, name)
	}
}

// remove takes out a member for good: a new target is due.
func (g *Group) remove(m *member, e *Effects) {
	g.take(m)
	g.forgetUnsubscribed()
	g.bump(e)
}

func (g *Group) bump(e *Effects) {
	g.epoch++
	g.stable = false
	e.Changed = true
	e.Started++
}

// forgetUnsubscribed drops the topics that nobody subscribes to any more.
func (g *Group) forgetUnsubscribed() {
	maps.DeleteFunc(g.known, func(name string, _ Topic) bool { return !g.subscribesTo(name) })
}

func (g *Group) subscribesTo(name string) bool {
	if g.subscribers[name] > 0 {
		return true
	}
	for _, r := range g.regexes {
		if _, ok := slices.BinarySearch(r.names, name); ok || r.atMillis == 0 && r.pattern.MatchString(name) {
			return true
		}
	}
	return false
}

// sorted are the members by their ids, so that all choices are repeatable.
func (g *Group) sorted() []*member {
	return slices.SortedFunc(maps.Values(g.members), func(a, b *member) int { return cmp.Compare(a.id, b.id) })
}

// find finds a member by its id and, if it is given, its instance id.
func (g *Group) find(memberID string, instanceID *string) (*member, Refusal) {
	if instanceID == nil {
		if m := g.members[memberID]; m != nil {
			return m, Refusal{}
		}
		return nil, refuse(kerr.UnknownMemberID, "Member %s is not a member of group %s.", memberID, g.id)
	}
	id, ok := g.static[*instanceID]
	switch {
	case !ok:
		return nil, refuse(kerr.UnknownMemberID, "Instance id %s is unknown.", *instanceID)
	case id != memberID:
		return nil, refuse(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", memberID, *instanceID, id)
	}
	return g.members[id], Refusal{}
}

func refuse(err *kerr.Error, format string, args ...any) Refusal {
	return Refusal{Err: err, Message: fmt.Sprintf(format, args...)}
}

func (e *Effects) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}
