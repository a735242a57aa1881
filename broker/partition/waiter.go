package partition

import "sync/atomic"

// Waiter waits for bytes to be committed to any of many partitions: one per connection, used again for every long poll.
// Arm, Watch and Disarm are for one goroutine; commits come from any.
type Waiter struct {
	c    chan struct{}
	need atomic.Int64
	regs []*registration // those in use, then free ones up to its capacity
	used int
}

// registration is a waiter's place in one partition's list.
type registration struct {
	w          *Waiter
	p          *Partition
	prev, next *registration
}

// NewWaiter returns a waiter that watches nothing.
func NewWaiter() *Waiter { return &Waiter{c: make(chan struct{}, 1)} }

// C receives when the bytes asked for were committed, or when a watched partition has changed otherwise.
func (w *Waiter) C() <-chan struct{} { return w.c }

// Arm sets how many bytes must be committed before C receives, at least 1.
func (w *Waiter) Arm(needBytes int64) { w.need.Store(max(needBytes, 1)) }

func (w *Waiter) committed(n int64) {
	if w.need.Add(-n) <= 0 {
		w.wake()
	}
}

func (w *Waiter) wake() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

// Watch adds p to what w watches. It reports true when p's high watermark is no longer seen or p is closed: then there is
// something to answer at once. Watching twice is harmless for correctness but counts bytes twice.
func (w *Waiter) Watch(p *Partition, seen int64) bool {
	if w.used == len(w.regs) {
		w.regs = append(w.regs, &registration{w: w})
	}
	r := w.regs[w.used]
	w.used++
	r.p = p
	p.waitMu.Lock()
	r.prev, r.next = nil, p.waiters
	if p.waiters != nil {
		p.waiters.prev = r
	}
	p.waiters = r
	p.watched.Add(1)
	p.waitMu.Unlock()
	// A failed log stays readable and never moves: it is no reason to look again.
	return p.hw.Load() != seen || p.state.Load() == stateClosed
}

// maxKeptRegistrations bounds what a waiter holds on to between two long polls.
const maxKeptRegistrations = 1024

// Disarm watches nothing any more and forgets wakes that came meanwhile.
func (w *Waiter) Disarm() {
	for _, r := range w.regs[:w.used] {
		r.p.waitMu.Lock()
		if r.prev != nil {
			r.prev.next = r.next
		} else {
			r.p.waiters = r.next
		}
		if r.next != nil {
			r.next.prev = r.prev
		}
		r.p.watched.Add(-1)
		r.p.waitMu.Unlock()
		r.p, r.prev, r.next = nil, nil, nil
	}
	w.used = 0
	if len(w.regs) > maxKeptRegistrations {
		clear(w.regs[maxKeptRegistrations:])
		w.regs = w.regs[:maxKeptRegistrations]
	}
	select {
	case <-w.c:
	default:
	}
}
