package consumer

import (
	"maps"
	"slices"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// owned are partitions with the epoch at which each was assigned (KIP-1251).
type owned map[TopicID]map[int32]int32

// member is one member of a group.
type member struct {
	id         string
	instanceID *string
	rackID     *string
	clientID   string
	clientHost string

	rebalanceTimeoutMillis int32
	names                  []string // subscribed to by name; sorted, distinct
	regex                  string   // subscribed to by regular expression; "" none
	assignor               string   // "" none preferred

	state         MemberState
	epoch         int32
	previousEpoch int32
	assigned      owned
	revoking      owned
	target        Assignment

	classic *classicMember // nil: it speaks the consumer protocol

	// Deadlines; 0 none.
	sessionMillis   int64
	rebalanceMillis int64 // to give up partitions
	joinMillis      int64 // of the classic protocol: to rejoin
	syncMillis      int64 // of the classic protocol: to fetch the assignment
}

// classicMember is what a member of the classic protocol has besides.
type classicMember struct {
	sessionTimeoutMillis int32
	protocols            []classic.Protocol // in its order of preference
}

// memberOverheadBytes stands for the fixed part of a member in memory.
const memberOverheadBytes = 512

func (m *member) sizeBytes() int64 {
	n := memberOverheadBytes + len(m.id) + len(m.clientID) + len(m.clientHost) + len(m.regex)
	for _, name := range m.names {
		n += 16 + len(name)
	}
	if m.classic != nil {
		for _, p := range m.classic.protocols {
			n += len(p.Name) + len(p.Metadata)
		}
	}
	return int64(n)
}

// reached tells whether the member has what the target of this epoch gives it.
func (m *member) reached(assignmentEpoch int32) bool {
	return m.state == MemberStable && m.epoch == assignmentEpoch
}

// sessionTimeout is the member's own in the classic protocol, else the group's.
func (m *member) sessionTimeout(s *Settings) int64 {
	if m.classic != nil {
		return int64(m.classic.sessionTimeoutMillis)
	}
	return int64(s.SessionTimeoutMillis)
}

func (m *member) copyAs(id string) *member {
	c := *m
	c.id = id
	return &c
}

func (o owned) has(topic TopicID, partition int32) bool {
	_, ok := o[topic][partition]
	return ok
}

func (o owned) add(topic TopicID, partition, epoch int32) {
	if o[topic] == nil {
		o[topic] = map[int32]int32{}
	}
	o[topic][partition] = epoch
}

// assignment lists the partitions.
func (o owned) assignment() Assignment {
	a := make(Assignment, len(o))
	for topic, of := range o {
		a[topic] = slices.Sorted(maps.Keys(of))
	}
	return a
}

func (o owned) equal(p owned) bool {
	return maps.EqualFunc(o, p, func(a, b map[int32]int32) bool { return maps.Equal(a, b) })
}

func (a Assignment) equal(b Assignment) bool {
	return maps.EqualFunc(a, b, func(x, y []int32) bool { return slices.Equal(x, y) })
}

// covers tells whether every partition of a is in o.
func (o owned) covers(a Assignment) bool {
	for topic, partitions := range a {
		for _, p := range partitions {
			if !o.has(topic, p) {
				return false
			}
		}
	}
	return true
}

// meets tells whether a has any partition of o.
func (o owned) meets(a Assignment) bool {
	for topic, partitions := range a {
		for _, p := range partitions {
			if o.has(topic, p) {
				return true
			}
		}
	}
	return false
}

// distinct sorts names and drops those that stand there twice.
func distinct(names []string) []string {
	out := slices.Clone(names)
	slices.Sort(out)
	return slices.Compact(out)
}

// contains searches an ascending list.
func contains(list []int32, p int32) bool {
	_, ok := slices.BinarySearch(list, p)
	return ok
}

// ascending sorts numbers and drops those that stand there twice.
func ascending(partitions []int32) []int32 {
	out := slices.Clone(partitions)
	slices.Sort(out)
	return slices.Compact(out)
}

// Topics are the assignment's topics, ascending.
func (a Assignment) Topics() []TopicID { return sortedTopics(a) }
