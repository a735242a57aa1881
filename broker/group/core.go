package group

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// core is the state machine of a group of one kind; the entry's lock guards it. What only one kind can do is asked of its type.
type core interface {
	// Type is the group's type as ListGroups names it, State the state as it and DescribeGroups do.
	Type() string
	State() string
	ProtocolType() string
	Members() int

	// Pristine tells whether forgetting the group loses nothing; Idle whether it has neither members nor any to come.
	Pristine() bool
	Idle() bool
	// WakeMillis is when tick wants to be called; 0 never.
	WakeMillis() int64
	tick(nowMillis int64) effects
	// saved tells that the state of this number of the core is durable (err nil), or could not be made so.
	saved(nowMillis int64, seq uint64, err *kerr.Error) effects
	// unload ends the group in this process.
	unload(nowMillis int64, err *kerr.Error) effects

	CheckCommit(nowMillis int64, memberID string, instanceID *string, generation int32) *kerr.Error
	CheckOffsetDelete() *kerr.Error
	CheckDelete() *kerr.Error
	Subscribes(topic string) bool
	Expires(nowMillis int64, topic string, commitMillis, expireMillis, retentionMillis int64) bool
}

// effects are what an event of a core asks of the coordinator.
type effects struct {
	joins              []classic.JoinReply
	syncs              []classic.SyncReply
	save               *save
	notes              []string
	started, completed int
}

// save is a state that a core wants to be durable.
type save struct {
	core   core
	seq    uint64 // the core's
	number uint64 // the entry's, whichever core it has
	// prepare, if there is one, is called under the entry's lock when the write begins.
	prepare func()
	// encode returns the stored form, with who writes it.
	encode func(incarnation int64, sequence uint64) ([]byte, error)
}

// ClassicType is the type of classic groups in ListGroups (KIP-848).
const ClassicType = "classic"

// classicGroup makes a core of a classic group.
type classicGroup struct{ *classic.Group }

func (g classicGroup) Type() string  { return ClassicType }
func (g classicGroup) State() string { return g.Group.State().String() }

func (g classicGroup) tick(nowMillis int64) effects { return g.effects(g.Tick(nowMillis)) }

func (g classicGroup) saved(nowMillis int64, seq uint64, err *kerr.Error) effects {
	return g.effects(g.Saved(nowMillis, seq, err))
}

func (g classicGroup) unload(nowMillis int64, err *kerr.Error) effects {
	return g.effects(g.Unload(nowMillis, err))
}

func (g classicGroup) effects(e classic.Effects) effects {
	out := effects{joins: e.Joins, syncs: e.Syncs, notes: e.Notes, started: e.Started, completed: e.Completed}
	if e.Save != nil {
		snapshot := &e.Save.Snapshot
		out.save = &save{core: g, seq: e.Save.Seq, encode: func(incarnation int64, sequence uint64) ([]byte, error) {
			snapshot.Incarnation, snapshot.Sequence = incarnation, sequence
			return encodeClassic(snapshot)
		}}
	}
	return out
}

// foreignGroup stands for a state that only a later program can read. It answers nothing and is never written, so that the
// broker that can read it finds it as it was.
type foreignGroup struct{}

func (foreignGroup) Type() string                                    { return "unknown" }
func (foreignGroup) State() string                                   { return "Unknown" }
func (foreignGroup) ProtocolType() string                            { return "" }
func (foreignGroup) Members() int                                    { return 0 }
func (foreignGroup) Pristine() bool                                  { return false }
func (foreignGroup) Idle() bool                                      { return false }
func (foreignGroup) WakeMillis() int64                               { return 0 }
func (foreignGroup) tick(int64) effects                              { return effects{} }
func (foreignGroup) saved(int64, uint64, *kerr.Error) effects        { return effects{} }
func (foreignGroup) unload(int64, *kerr.Error) effects               { return effects{} }
func (foreignGroup) CheckOffsetDelete() *kerr.Error                  { return kerr.CoordinatorNotAvailable }
func (foreignGroup) CheckDelete() *kerr.Error                        { return kerr.CoordinatorNotAvailable }
func (foreignGroup) Subscribes(string) bool                          { return true }
func (foreignGroup) Expires(int64, string, int64, int64, int64) bool { return false }
func (foreignGroup) CheckCommit(int64, string, *string, int32) *kerr.Error {
	return kerr.CoordinatorNotAvailable
}
