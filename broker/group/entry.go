package group

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/metadata"
)

// entry is a group with what surrounds its core. All fields are guarded by mu, except id, shard, and the fields of the state
// writer (rev, uncertain), which belong to whoever has set saving.
type entry struct {
	id    string
	shard *shard

	mu     sync.Mutex
	core   core
	gone   bool // no longer in the map: look the group up again
	kept   bool // it has been stored, or has had offsets: not to be forgotten on the way
	doomed bool // being deleted: nothing may begin

	ticket classic.Ticket
	joins  map[classic.Ticket]chan classic.JoinReply
	syncs  map[classic.Ticket]chan classic.SyncReply
	notes  []string

	timer      *time.Timer
	armedUntil int64 // when the timer fires, in the coordinator's milliseconds; 0 not armed

	// State writes: one at a time, the newest state next.
	saving    chan struct{} // closed at the end of a run of writes; nil when none is under way
	nextSave  *save
	saves     uint64 // number of the newest state that was to be written
	saved     []saveWaiter
	rev       metadata.Revision
	uncertain bool // the outcome of the last write is unknown
	unsaved   bool // the state in memory is ahead of the stored one, and no write is under way

	offsets  map[metadata.TopicID]map[int32]metadata.CommittedOffset
	inFlight int  // offset operations accepted and not yet ended
	stale    bool // a write's outcome is unknown: offsets must be read again before they are told
}

// saveWaiter is told when the state of this number is durable, or cannot be made so.
type saveWaiter struct {
	number uint64
	done   chan *kerr.Error
}

func (c *Coordinator) shardOf(group string) *shard { return &c.shards[ShardOf(group, len(c.shards))] }

// acquire returns the group locked; nil without an error when there is none and create is false. A group that does not fit is
// refused.
func (c *Coordinator) acquire(group string, create bool) (*entry, *kerr.Error) {
	s := c.shardOf(group)
	for {
		s.mu.RLock()
		e := s.entries[group]
		s.mu.RUnlock()
		if e == nil {
			if !create {
				return nil, nil
			}
			var err *kerr.Error
			if e, err = c.create(s, group); err != nil {
				return nil, err
			}
		}
		e.mu.Lock()
		switch {
		case e.gone:
			e.mu.Unlock()
		case s.phase.Load() != shardServing: // lost since the caller looked; its members have been told
			e.mu.Unlock()
			return nil, kerr.NotCoordinator
		case e.doomed:
			e.mu.Unlock()
			return nil, kerr.CoordinatorNotAvailable
		default:
			return e, nil
		}
	}
}

// create puts an empty group in place. Nothing is created once the shard is lost or Run unloads.
func (c *Coordinator) create(s *shard, group string) (*entry, *kerr.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[group]; e != nil {
		return e, nil
	}
	switch err := c.servingShard(s); {
	case err != nil:
		return nil, err
	case c.groups.Load() >= int64(c.opts.MaxGroups):
		return nil, kerr.GroupMaxSizeReached
	}
	return c.add(s, group), nil
}

// loading returns a group of a shard that is being loaded, locked. What is stored is loaded whatever the bound.
func (c *Coordinator) loading(group string) *entry {
	s := c.shardOf(group)
	s.mu.Lock()
	e := s.entries[group]
	if e == nil {
		e = c.add(s, group)
	}
	s.mu.Unlock()
	e.mu.Lock()
	return e
}

// add puts an empty group in place; the shard is locked.
func (c *Coordinator) add(s *shard, group string) *entry {
	e := &entry{id: group, shard: s, core: classicGroup{classic.New(&c.core, group, c.now())}}
	s.entries[group] = e
	c.groups.Add(1)
	return e
}

// release unlocks a group after an event: its timer is set, and a group that came to nothing is forgotten.
func (c *Coordinator) release(e *entry) {
	if !e.gone && !e.kept && e.inFlight == 0 && e.saving == nil && e.core.Pristine() {
		c.forget(e)
	}
	c.arm(e)
	notes := e.notes
	e.notes = nil
	e.mu.Unlock()
	for _, note := range notes {
		c.logger.Info(note, "group", e.id)
	}
}

// forget takes the group out of the map; it is locked.
func (c *Coordinator) forget(e *entry) {
	e.gone = true
	e.shard.mu.Lock()
	delete(e.shard.entries, e.id)
	e.shard.mu.Unlock()
	c.groups.Add(-1)
}

// arm makes the group's timer fire when its core wants to be woken. A timer that fires early does no harm, so deadlines that
// heartbeats push back cost nothing.
func (c *Coordinator) arm(e *entry) {
	wake := e.core.WakeMillis()
	if e.gone || wake == 0 {
		if e.timer != nil {
			e.timer.Stop()
		}
		e.armedUntil = 0
		return
	}
	if wake == e.armedUntil {
		return
	}
	e.armedUntil = wake
	wait := time.Duration(max(wake-c.now(), 0)) * time.Millisecond
	if e.timer == nil {
		e.timer = time.AfterFunc(wait, func() { c.tick(e) })
		return
	}
	e.timer.Reset(wait)
}

func (c *Coordinator) tick(e *entry) {
	e.mu.Lock()
	e.armedUntil = 0
	if !e.gone {
		c.apply(e, e.core.tick(c.now()))
		c.maybeDowngrade(e)
	}
	c.release(e)
}

// apply carries out what the core asked for; the group is locked.
func (c *Coordinator) apply(e *entry, did effects) {
	for _, r := range did.joins {
		if ch := e.joins[r.Ticket]; ch != nil {
			delete(e.joins, r.Ticket)
			ch <- r // has room for the one reply
		}
	}
	for _, r := range did.syncs {
		if ch := e.syncs[r.Ticket]; ch != nil {
			delete(e.syncs, r.Ticket)
			ch <- r
		}
	}
	e.notes = append(e.notes, did.notes...)
	c.metrics.rebalanced(did.started, did.completed)
	if did.save != nil {
		c.save(e, did.save)
	}
}

// wait returns the reply to a parked request. When ctx ends first, gone forgets the request; the member itself stays, as it
// does in Kafka, since the client may come back for it.
func wait[R any](ctx context.Context, reply <-chan R, gone func() R) R {
	select {
	case r := <-reply:
		return r
	case <-ctx.Done():
		select {
		case r := <-reply:
			return r
		default:
			return gone()
		}
	}
}
