// Package consumer is the PURE core of Kafka's consumer groups of KIP-848: members send heartbeats with what they subscribe to and own,
// the group computes who should have which partitions (the target), and leads each member there in steps: first it gives up what it may
// not keep, then it gets what others have given up. No partition is ever in the assignments of two members.
//
// Members of the classic protocol may take part while a group is being migrated. The package holds no goroutine, clock, lock or I/O;
// package group drives it, and tells nobody of a state before it is durable. Behaviour follows Apache Kafka 4.3
// (GroupMetadataManager, CurrentAssignmentBuilder), KIP-848 and KIP-1251.
package consumer

import (
	"iter"

	"github.com/twmb/franz-go/pkg/kerr"
)

// TopicID is the id of a topic.
type TopicID [16]byte

// Topic is what assignors know of a topic.
type Topic struct {
	ID         TopicID
	Partitions int32
}

// Topics are the topics of the cluster at one moment.
type Topics interface {
	Topic(name string) (Topic, bool)
	Name(id TopicID) (string, bool)
	// Names are all topics' names; regular expressions choose among them.
	Names() iter.Seq[string]
	// Revision is another after every change of the metadata, Generation after changes of the set of topics at least.
	Revision() int64
	Generation() int64
}

// Settings bound and time groups; they may change at any time.
type Settings struct {
	SessionTimeoutMillis    int32 // group.consumer.session.timeout.ms, or the group's own
	HeartbeatIntervalMillis int32 // group.consumer.heartbeat.interval.ms, or the group's own
	MaxMembers              int   // group.consumer.max.size
	// Assignors are group.consumer.assignors: "uniform" and "range", the default first.
	Assignors []string
	// RegexRefreshMillis is group.consumer.regex.refresh.interval.ms.
	RegexRefreshMillis int64
}

// Config is what the groups of a coordinator share.
type Config struct {
	// Settings returns what holds for a group now. It must not block.
	Settings func(group string) Settings
	// MaxBytes bounds what the members of one group hold: ids and subscriptions.
	MaxBytes int64
}

// State is the state of a group as ConsumerGroupDescribe and ListGroups name it.
type State uint8

// The states.
const (
	Empty       State = iota // no members; offsets may be there
	Assigning                // the target is older than the subscriptions
	Reconciling              // some members are not at the target yet
	Stable
	Dead // unloaded
)

var stateNames = [...]string{"Empty", "Assigning", "Reconciling", "Stable", "Dead"}

// States are all states in the order of their values.
func States() []State { return []State{Empty, Assigning, Reconciling, Stable, Dead} }

// String is Kafka's name of the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "Unknown"
}

// MemberState is how far a member has come; the numbers are stored.
type MemberState uint8

// The states of a member.
const (
	// MemberStable has all that it is to have at its epoch.
	MemberStable MemberState = 1
	// Unrevoked must give up partitions first, and stays at its epoch.
	Unrevoked MemberState = 2
	// Unreleased waits for partitions that others have not given up yet.
	Unreleased MemberState = 3
)

// Epochs that requests carry in place of a member's epoch.
const (
	JoinEpoch  int32 = 0
	LeaveEpoch int32 = -1
	// LeaveStaticEpoch: a static member goes away and means to come back.
	LeaveStaticEpoch int32 = -2
)

// Assignment is a set of partitions by topic, each list ascending. It is never changed once it is shared.
type Assignment map[TopicID][]int32

// Effects is what an event asks of the driver.
type Effects struct {
	// Changed: Snapshot is another, and has to be durable before anybody is answered.
	Changed bool
	// Notes say what happened, for the log: one line each.
	Notes []string
	// Started counts new group epochs, Completed targets that every member reached.
	Started, Completed int
}

// Refusal is an error with the text that Kafka has for it.
type Refusal struct {
	Err     *kerr.Error
	Message string
}

func (r *Refusal) refused() bool { return r.Err != nil }
