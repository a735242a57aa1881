package wal

import (
	"fmt"
	"hash/crc32"
	"sync/atomic"
	"time"
)

// copyStep is how much is copied before its CRC is computed: small enough to be still in the core's cache.
const copyStep = 64 << 10

// group is what one write makes durable: entries that lie next to each other in one slab and in one segment.
type group struct {
	// Guarded by Log.mu while open, then the committer's.
	slab        *slab
	off         int // in the slab
	length      int // header and entries, without padding
	pos         Position
	seq         uint64 // of the segment
	completions []Completion

	// pending counts regions not done, plus one while the group is open. Whoever brings it to zero sends on ready.
	pending atomic.Int32
	ready   chan struct{}

	// The committer's.
	segment *segment
	written bool
	solo    bool // no other write was in flight with it
	took    time.Duration
	err     error
}

// bytes is the group as it is written, padding included.
func (g *group) bytes() []byte { return g.slab.buf[g.off : g.off+alignUp(g.length)] }

func (g *group) end() Position { return g.pos + Position(alignUp(g.length)) }

func (g *group) settle() {
	if g.pending.Add(-1) == 0 {
		g.ready <- struct{}{}
	}
}

// Region is an appended entry that waits for its bytes. Fill it with Write, then call Done, at once and from one
// goroutine: the group, and all entries after it, wait for that.
type Region struct {
	log    *Log
	g      *group // nil after Done
	slab   *slab
	gen    uint64
	data   []byte
	filled int
	crc    uint32
	off    int
	pos    Position
}

// Append gives the entry its place in the stream: the order of calls is the order of positions and of completions. It
// uses up the admission, which must be for at least nBytes (≥ 1) and not used before. It never blocks, so callers may
// hold locks of their own. c may be nil. Safe for concurrent use, without heap allocation.
func (l *Log) Append(a Admission, nBytes int, c Completion) Region {
	if a.log != l || nBytes < 1 || nBytes > int(a.nBytes) {
		panic(fmt.Sprintf("wal: Append of %d bytes with an admission for %d", nBytes, a.nBytes))
	}
	l.mu.Lock()
	l.admitted -= int64(a.charge)
	l.admissions--
	g := l.cur
	if g == nil || !l.fitsLocked(g, nBytes) {
		g = l.openGroup(nBytes)
	}
	off := g.off + g.length + entryHeaderBytes
	r := Region{log: l, g: g, slab: g.slab, gen: g.slab.generation(), off: off, pos: g.pos + Position(off-g.off)}
	r.data = g.slab.buf[off : off+nBytes : off+nBytes]
	g.length += entryHeaderBytes + nBytes
	l.surcharge.total += int64(max(0, l.o.MinEntryBytes-entryHeaderBytes-nBytes))
	g.completions = append(g.completions, c)
	g.pending.Add(1)
	if l.waiters.head != nil {
		l.grantLocked()
	}
	l.mu.Unlock()
	return r
}

// fitsLocked says whether the open group takes another entry of n bytes.
func (l *Log) fitsLocked(g *group, n int) bool {
	length := g.length + entryHeaderBytes + n
	return length <= maxGroupBytes && g.off+length <= len(g.slab.buf) && g.pos+Position(alignUp(length)) <= l.segLimit
}

// openGroup closes the open group and begins one that takes an entry of n bytes, in the next slab or segment if need be.
func (l *Log) openGroup(n int) *group {
	if l.cur != nil {
		l.closed = append(l.closed, l.closeGroup())
	}
	need := chargeOf(n)
	if l.open == nil || l.open.used+need > len(l.open.buf) {
		if l.open != nil {
			l.pool.full = append(l.pool.full, l.open)
		}
		l.open = l.pool.take()
	}
	if l.nextPos+Position(need) > l.segLimit {
		l.segSeq++
		l.nextPos = l.segLimit
		l.segLimit += Position(l.o.SegmentBytes - blockBytes)
	}
	var g *group
	if k := len(l.spare); k > 0 {
		g, l.spare = l.spare[k-1], l.spare[:k-1]
	} else {
		g = &group{ready: make(chan struct{}, 1)}
	}
	g.slab, g.off, g.length, g.pos, g.seq = l.open, l.open.used, groupHeaderBytes, l.nextPos, l.segSeq
	g.segment, g.written, g.solo, g.took, g.err = nil, false, false, 0, nil
	g.pending.Store(1)
	l.open.unwritten++
	l.cur = g
	l.surcharge.group(g.pos)
	return g
}

// closeGroup ends the open group: its length and the next group's position are fixed.
func (l *Log) closeGroup() *group {
	g := l.cur
	l.cur = nil
	g.slab.used = g.off + alignUp(g.length)
	l.nextPos = g.end()
	g.settle()
	return g
}

// Write copies p to the entry, after what was written before. It panics when the entry would become longer than what
// was appended. The caller keeps p.
func (r *Region) Write(p []byte) {
	if len(p) > len(r.data)-r.filled {
		panic(fmt.Sprintf("wal: Region.Write of %d bytes with room for %d", len(p), len(r.data)-r.filled))
	}
	for len(p) > 0 {
		k := min(len(p), copyStep)
		dst := r.data[r.filled : r.filled+k]
		copy(dst, p)
		r.crc = crc32.Update(r.crc, castagnoli, dst)
		r.filled += k
		p = p[k:]
	}
}

// WriteSummed is Write for a caller who knows the CRC32C of all that is written to the entry so far and of p after it: p is copied
// without being summed again. A wrong CRC is not noticed here; it makes the entry unreadable (recovery takes it for rot).
func (r *Region) WriteSummed(p []byte, crc uint32) {
	if len(p) > len(r.data)-r.filled {
		panic(fmt.Sprintf("wal: Region.WriteSummed of %d bytes with room for %d", len(p), len(r.data)-r.filled))
	}
	r.filled += copy(r.data[r.filled:], p)
	r.crc = crc
}

// Ref is what Done returns, for callers whose completion needs it: that may be called before Done returns.
func (r *Region) Ref() Ref {
	return Ref{Pos: r.pos, Len: int32(len(r.data)), off: int32(r.off), gen: r.gen, s: r.slab}
}

// Done says that all bytes are written, and lets the group be committed. It panics when bytes are missing. The returned
// Ref is readable at once; the entry is durable when its completion says so.
func (r *Region) Done() Ref {
	if r.filled != len(r.data) || r.g == nil {
		panic(fmt.Sprintf("wal: Region.Done after %d of %d bytes", r.filled, len(r.data)))
	}
	g, l := r.g, r.log
	ref := r.Ref()
	putEntryHeader(r.slab.buf[r.off-entryHeaderBytes:], len(r.data), r.crc)
	r.g = nil
	g.settle() // from here on the group may be gone
	if l.idle.Load() && l.idle.CompareAndSwap(true, false) {
		l.notify()
	}
	return ref
}
