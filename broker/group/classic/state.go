// Package classic is the PURE core of Kafka's classic consumer groups (the JoinGroup/SyncGroup protocol, KIP-62, KIP-134,
// KIP-345, KIP-394, KIP-814): a state machine that turns (now, event) into replies, a state to persist and the time at which
// it wants to be woken. It holds no goroutine, clock, lock or I/O; package group drives it. Protocol types, subscriptions and
// assignments are opaque bytes, but for the topics of a "consumer" subscription, which decide what offsets may expire.
package classic

import "github.com/twmb/franz-go/pkg/kerr"

// State is the state of a group as DescribeGroups and ListGroups name it.
type State uint8

const (
	// Empty has no members; offsets may be there.
	Empty State = iota
	// PreparingRebalance waits for all members to (re)join.
	PreparingRebalance
	// CompletingRebalance means that a generation began; the leader's assignment is awaited or being made durable.
	CompletingRebalance
	// Stable means that every member of the generation may fetch its assignment.
	Stable
	// Dead means that the group was unloaded or deleted; nothing is accepted.
	Dead
)

var stateNames = [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}

// States are all states in the order of their values.
func States() []State { return []State{Empty, PreparingRebalance, CompletingRebalance, Stable, Dead} }

// String is Kafka's name of the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "Unknown"
}

// Config bounds and times a group. Times are milliseconds.
type Config struct {
	// MaxMembers is group.max.size.
	MaxMembers int
	// MaxPendingMembers bounds the member ids handed out by MEMBER_ID_REQUIRED and not yet used.
	MaxPendingMembers int
	// MaxBytes bounds what the members of one group hold: ids, subscriptions and assignments.
	MaxBytes int64
	// InitialRebalanceDelayMillis is group.initial.rebalance.delay.ms.
	InitialRebalanceDelayMillis int64
	// NewMemberJoinTimeoutMillis bounds how long a new member may wait in a rebalance before it must retry (Kafka: 5 minutes).
	NewMemberJoinTimeoutMillis int64
}

// Ticket names a parked JoinGroup or SyncGroup request. The driver chooses it; 0 is none.
type Ticket uint64

// Protocol is one assignment protocol that a member supports, with the member's subscription for it. The core keeps Metadata
// and never changes it.
type Protocol struct {
	Name     string
	Metadata []byte
}

// JoinReply answers a JoinGroup request. Err is nil when there is no error.
type JoinReply struct {
	Ticket         Ticket
	Err            *kerr.Error
	Generation     int32
	ProtocolType   string
	Protocol       string
	Leader         string
	MemberID       string
	SkipAssignment bool
	// Members is filled for the leader only.
	Members []JoinedMember
}

// JoinedMember is what the leader learns of a member.
type JoinedMember struct {
	MemberID   string
	InstanceID *string
	Metadata   []byte
}

// SyncReply answers a SyncGroup request. Err is nil when there is no error.
type SyncReply struct {
	Ticket       Ticket
	Err          *kerr.Error
	ProtocolType string
	Protocol     string
	Assignment   []byte
}

// Save asks the driver to persist Snapshot and then to call [Group.Saved] with Seq. A later Save holds all that an earlier one
// held, so the driver may skip the earlier and report the later.
type Save struct {
	Seq      uint64
	Snapshot Snapshot
}

// Effects is what an event asks of the driver.
type Effects struct {
	Joins []JoinReply
	Syncs []SyncReply
	// Save is nil when nothing has to be persisted.
	Save *Save
	// Notes say what happened, for the log: one line each.
	Notes []string
	// Started counts rebalances that began, Completed those that reached Stable.
	Started, Completed int
}
