package handler

import (
	"sync"
	"time"
)

// deadlineStep is how exact timeouts of Produce requests are.
const deadlineStep = 100 * time.Millisecond

// deadlines holds the Produce requests that wait for durability. A timer runs only while there are some. The zero value is
// ready.
type deadlines struct {
	mu    sync.Mutex
	first *produceState
	timer *time.Timer
	armed bool
}

func (d *deadlines) add(s *produceState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.prev, s.next, s.listed = nil, d.first, true
	if d.first != nil {
		d.first.prev = s
	}
	d.first = s
	if !d.armed {
		d.arm()
	}
}

func (d *deadlines) arm() {
	d.armed = true
	if d.timer == nil {
		d.timer = time.AfterFunc(deadlineStep, d.sweep)
	} else {
		d.timer.Reset(deadlineStep)
	}
}

// remove does nothing when s is not listed.
func (d *deadlines) remove(s *produceState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.listed {
		return
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		d.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next, s.listed = nil, nil, false
}

// sweep expires what is overdue. An expired request stays listed until its last outcome; holding mu keeps it from being
// given back meanwhile.
func (d *deadlines) sweep() {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = false
	for s := d.first; s != nil; s = s.next {
		if now.After(s.deadline) {
			s.expire()
		}
	}
	if d.first != nil {
		d.arm()
	}
}
