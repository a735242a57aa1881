package handler

import (
	"sync"
	"sync/atomic"
	"time"
)

// deadlineStep is how exact timeouts of Produce requests are.
const deadlineStep = 100 * time.Millisecond

// deadlineShards is how many locks the waiting requests share. Each request takes one when it begins to wait, on its connection's goroutine,
// and again when it is answered, on the committer's: with one lock for all, a thread that lost its processor while it held
// it had all other connections queue up behind it, and a thousand of them then went on one by one.
const deadlineShards = 32

// deadlines holds the Produce requests that wait for durability. A timer runs only while there are some. The zero value is
// ready.
type deadlines struct {
	shards [deadlineShards]deadlineShard
	armed  atomic.Bool
	timer  atomic.Pointer[time.Timer]
}

type deadlineShard struct {
	mu    sync.Mutex
	first *produceState
	_     [48]byte // a cache line for each
}

// nextShard deals the shards out to new states, which keep theirs.
var nextShard atomic.Uint32

func (d *deadlines) add(s *produceState) {
	shard := &d.shards[s.shard]
	shard.mu.Lock()
	s.prev, s.next, s.listed = nil, shard.first, true
	if shard.first != nil {
		shard.first.prev = s
	}
	shard.first = s
	shard.mu.Unlock()
	// After the state is in the list: a sweep that finds the list empty has disarmed before it looked.
	if !d.armed.Load() && d.armed.CompareAndSwap(false, true) {
		d.arm()
	}
}

// arm starts the timer; the caller has set armed.
func (d *deadlines) arm() {
	if t := d.timer.Load(); t != nil {
		t.Reset(deadlineStep)
		return
	}
	d.timer.Store(time.AfterFunc(deadlineStep, d.sweep))
}

// remove does nothing when s is not listed. It is for the last outcome of s: nobody lists it any more.
func (d *deadlines) remove(s *produceState) {
	if !s.listed {
		return
	}
	shard := &d.shards[s.shard]
	shard.mu.Lock()
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		shard.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next, s.listed = nil, nil, false
	shard.mu.Unlock()
}

// sweep expires what is overdue. An expired request stays listed until its last outcome; holding the shard's lock keeps it from being
// given back meanwhile.
func (d *deadlines) sweep() {
	now := time.Now()
	d.armed.Store(false)
	left := false
	for i := range d.shards {
		shard := &d.shards[i]
		shard.mu.Lock()
		for s := shard.first; s != nil; s = s.next {
			left = true
			if now.After(s.deadline) {
				s.expire()
			}
		}
		shard.mu.Unlock()
	}
	if left && d.armed.CompareAndSwap(false, true) {
		d.arm()
	}
}

// empty tells whether no request waits.
func (d *deadlines) empty() bool {
	for i := range d.shards {
		shard := &d.shards[i]
		shard.mu.Lock()
		first := shard.first
		shard.mu.Unlock()
		if first != nil {
			return false
		}
	}
	return true
}
