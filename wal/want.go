package wal

import "time"

// patience is how long an admission waits at most for the uploader to come by what is in memory, before it is recycled unseen.
const patience = 100 * time.Millisecond

// Want says that somebody will read the stream from pos on, in order, and soon: it should be found in memory, because what has to be
// read back from the disk slows down the writes. As long as the caller comes by, an admission rather waits a little than
// recycles a slab that ends after pos. Once one has waited for a tenth of a second, nothing is kept until Want names a position
// that is in memory. It may be called concurrently, with positions that grow.
func (l *Log) Want(pos Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pool
	p.wanted = max(p.wanted, pos)
	if !p.patient {
		x, ok := l.extents.find(p.wanted)
		p.patient = p.wanted >= l.Durable() || ok && x.slab.generation() == x.gen
	}
	l.grantLocked()
}

// waitForUploads notes that an admission waits, perhaps for what is wanted. Log.mu is held.
func (l *Log) waitForUploads() {
	p := l.pool
	if !p.patient {
		return
	}
	now := time.Now()
	if p.since.IsZero() {
		p.since = now
	}
	if !p.armed {
		p.armed = true
		time.AfterFunc(patience-now.Sub(p.since), l.losePatience)
	}
}

// losePatience lets the admission that has waited long enough take what is wanted.
func (l *Log) losePatience() {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pool
	p.armed = false
	if p.since.IsZero() || l.waiters.head == nil {
		p.since = time.Time{}
		return
	}
	if time.Since(p.since) < patience {
		l.waitForUploads()
		return
	}
	p.patient, p.since = false, time.Time{}
	l.grantLocked()
}
