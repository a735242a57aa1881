package wal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Admission is the right to append one entry. It must be used by Append, or cancelled, soon: it holds slab space, and
// Run does not return before. The zero Admission is invalid.
type Admission struct {
	log    *Log
	nBytes int32
	charge int32
}

// chargeOf is the most slab and file space that an entry of n bytes can cost: as if it were alone in its group.
func chargeOf(n int) int { return alignUp(groupHeaderBytes + entryHeaderBytes + n) }

// MaxEntryBytes is the length of the largest entry that Admit accepts.
func (l *Log) MaxEntryBytes() int { return l.maxCharge - groupHeaderBytes - entryHeaderBytes }

// Admit waits until an entry of nBytes (≥ 1) may be appended: until a slab has room for it, whatever else was admitted,
// and untrimmed bytes are below Options.MaxBytes. Callers are served first come, first served. It gives up when ctx is
// done. A caller that still holds another admission, or a Region without Done, must not wait here: what it waits for may
// be waiting for that. Errors: ErrTooLarge, ErrClosed, ErrFailed, ErrFull, or the cause of ctx.
func (l *Log) Admit(ctx context.Context, nBytes int) (Admission, error) {
	if nBytes < 1 {
		return Admission{}, fmt.Errorf("wal admit: entry of %d bytes", nBytes)
	}
	if nBytes > l.MaxEntryBytes() {
		return Admission{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, nBytes, l.MaxEntryBytes())
	}
	a := Admission{log: l, nBytes: int32(nBytes), charge: int32(chargeOf(nBytes))}
	l.mu.Lock()
	if err := l.refusal(int64(a.charge)); err != nil {
		l.mu.Unlock()
		return Admission{}, err
	}
	if l.waiters.head == nil && l.admitLocked(int64(a.charge)) {
		l.mu.Unlock()
		return a, nil
	}
	w := l.waiters.push(int64(a.charge))
	l.mu.Unlock()
	start := time.Now()
	err := l.await(ctx, w)
	l.metrics.admissionWait(time.Since(start))
	if err != nil {
		return Admission{}, err
	}
	return a, nil
}

// await waits for the waiter's turn. A grant that comes together with the end of ctx is taken.
func (l *Log) await(ctx context.Context, w *waiter) error {
	var err error
	select {
	case err = <-w.ch:
	case <-ctx.Done():
		l.mu.Lock()
		queued := w.queued
		if queued {
			l.waiters.remove(w)
			l.grantLocked() // the next one may need less
		}
		l.mu.Unlock()
		if queued {
			err = fmt.Errorf("wal admit: %w", context.Cause(ctx))
		} else {
			err = <-w.ch
		}
	}
	l.mu.Lock()
	l.waiters.spare = append(l.waiters.spare, w)
	l.mu.Unlock()
	return err
}

// Cancel gives back an admission that will not be used. It does nothing on a zero or cancelled one; it must not be
// called after Append.
func (a *Admission) Cancel() {
	l := a.log
	if l == nil {
		return
	}
	l.mu.Lock()
	l.admitted -= int64(a.charge)
	l.admissions--
	l.grantLocked()
	last := l.admissions == 0
	l.mu.Unlock()
	*a = Admission{}
	if last {
		l.notify() // Run may be waiting for this to return
	}
}

// refusal says why nothing is admitted at present.
func (l *Log) refusal(charge int64) error {
	switch {
	case l.err != nil:
		return l.err
	case l.closing:
		return ErrClosed
	case l.fullErr != nil && int64(l.nextPos)+l.openBytes()+l.admitted+charge > int64(l.preparedTo):
		return l.fullErr
	}
	return nil
}

// openBytes is the length of the open group so far.
func (l *Log) openBytes() int64 {
	if l.cur == nil {
		return 0
	}
	return int64(alignUp(l.cur.length))
}

// admitLocked takes the charge if there is room: the entries admitted and not yet appended, in whatever order they come,
// must find enough slabs free. When they go into slabs one after the other, two neighbouring new slabs together hold
// more than one slab's worth, so that entries of t bytes open at most ceil(2t/slab) new ones, nor more than their number.
func (l *Log) admitLocked(charge int64) bool {
	bytes := l.admitted + charge
	untrimmed := int64(l.nextPos-l.trimmed) + l.openBytes()
	if charged := untrimmed + l.surcharge.untrimmed(); charged+bytes > l.o.MaxBytes && charged+l.admitted > 0 {
		return false
	}
	slabBytes := int64(l.o.SlabBytes)
	need := int(min(int64(l.admissions+1), (2*bytes+slabBytes-1)/slabBytes))
	if need > len(l.pool.free) && !l.pool.reserve(need) {
		// A reader may let go right now: look again after saying so, because from then on it will call.
		l.pool.starved.Store(true)
		if !l.pool.reserve(need) {
			l.waitForUploads()
			return false
		}
	}
	l.pool.since = time.Time{}
	l.admitted = bytes
	l.admissions++
	return true
}

// grantLocked admits waiters in order while there is room, or turns them away.
func (l *Log) grantLocked() {
	for w := l.waiters.head; w != nil; w = l.waiters.head {
		err := l.refusal(w.charge)
		if err == nil && !l.admitLocked(w.charge) {
			return
		}
		l.waiters.remove(w)
		w.ch <- err // has room for one
	}
}

// unstarve is called by the reader that unpinned a slab while an admission waited.
func (l *Log) unstarve() {
	l.mu.Lock()
	l.grantLocked()
	l.mu.Unlock()
}

// waiter is a caller in Admit.
type waiter struct {
	ch         chan error
	charge     int64
	queued     bool
	prev, next *waiter
}

// waiterQueue is a first-in-first-out list that waiters may leave anywhere. Guarded by Log.mu.
type waiterQueue struct {
	head, tail *waiter
	count      int
	spare      []*waiter
}

func (q *waiterQueue) push(charge int64) *waiter {
	var w *waiter
	if n := len(q.spare); n > 0 {
		w, q.spare = q.spare[n-1], q.spare[:n-1]
	} else {
		w = &waiter{ch: make(chan error, 1)}
	}
	w.charge, w.queued, w.prev, w.next = charge, true, q.tail, nil
	if q.tail == nil {
		q.head = w
	} else {
		q.tail.next = w
	}
	q.tail = w
	q.count++
	return w
}

func (q *waiterQueue) remove(w *waiter) {
	if w.prev == nil {
		q.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.count--
}

// failLocked makes err the end of the stream, unless it ended before, and turns all waiters away.
func (l *Log) failLocked(cause error) {
	if l.err != nil {
		return
	}
	if !errors.Is(cause, ErrFailed) {
		cause = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	l.err = cause
	l.grantLocked()
}
