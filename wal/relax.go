package wal

import (
	"context"
	"slices"
	"time"
)

const (
	// relaxAfter is how long a slab must not have been written before its memory goes back to the system: longer than a consumer that
	// keeps up, or that restarts, stays away.
	relaxAfter = 45 * time.Second
	relaxEvery = 5 * time.Second
)

// relaxLoop gives the memory of slabs back that nothing needs.
func (l *Log) relaxLoop(ctx context.Context) {
	tick := time.NewTicker(relaxEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			l.relax(now.Add(-relaxAfter))
		}
	}
}

// relax recycles the slabs that were last written before then and whose entries are trimmed, so that they are in the object store,
// and gives their memory, and that of other slabs free since then, back to the system. What a slow stream leaves behind is
// treated like that of an idle one: the reads that would have found it in memory find it in the object store.
func (l *Log) relax(then time.Time) {
	l.mu.Lock()
	if s := l.open; s != nil && l.cur == nil && l.pool.expired(s, l.trimmed, then) {
		l.open = nil // the next group takes a new slab, which the admissions do not count on not being free
		l.pool.full = append(l.pool.full, s)
	}
	l.pool.full = slices.DeleteFunc(l.pool.full, func(s *slab) bool {
		if !l.pool.expired(s, l.trimmed, then) || !s.recycle() {
			return false
		}
		l.pool.free = append(l.pool.free, s)
		return true
	})
	l.grantLocked()
	l.mu.Unlock()
	for l.releaseOne(then) {
	}
}

// expired says that nobody misses what is in the slab.
func (p *slabPool) expired(s *slab, trimmed Position, then time.Time) bool {
	return s.unwritten == 0 && s.used > 0 && s.end <= trimmed && s.lastUse.Before(then)
}

// releaseOne gives the memory of one free slab back, outside of the lock: nobody can take the slab meanwhile.
func (l *Log) releaseOne(then time.Time) bool {
	l.mu.Lock()
	i := slices.IndexFunc(l.pool.free, func(s *slab) bool { return s.touched && s.lastUse.Before(then) })
	// What is admitted may need all free slabs: one is borrowed only while nothing is.
	if i < 0 || l.admissions > 0 {
		l.mu.Unlock()
		return false
	}
	s := l.pool.free[i]
	l.pool.free = slices.Delete(l.pool.free, i, i+1)
	l.mu.Unlock()
	relaxSlab(s.buf)
	l.mu.Lock()
	s.touched = false
	l.pool.free = slices.Insert(l.pool.free, 0, s) // taken last
	l.grantLocked()
	l.mu.Unlock()
	return true
}
