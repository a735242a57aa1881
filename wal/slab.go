package wal

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	pinBits = 24
	pinMask = 1<<pinBits - 1
)

// slab is a piece of memory that groups are built in, one after the other, and that keeps them readable until it is
// recycled. Its state word holds the generation, which grows with each recycling, above the number of pins.
type slab struct {
	state atomic.Uint64
	buf   []byte
	pool  *slabPool

	// Guarded by Log.mu.
	used      int       // bytes taken by closed groups
	unwritten int       // groups not completed yet, the open one included
	end       Position  // of its last completed group
	lastUse   time.Time // when that was completed
	touched   bool      // its memory may be more than address space
}

func (s *slab) generation() uint64 { return s.state.Load() >> pinBits }

// slabPool owns the slabs. Everything but the atomics is guarded by Log.mu.
type slabPool struct {
	mem  []byte
	all  []slab
	free []*slab // last in, first out
	full []*slab // filled ones, oldest first, written or not

	// pinned counts slabs with at least one pin; Acquire keeps it at maxPinned or below, so that readers, however slow,
	// never hold what producers need.
	pinned    atomic.Int32
	maxPinned int32
	// starved says that an admission waits for a slab to become unpinned; the Release that unpins one calls wake.
	starved atomic.Bool
	wake    func()

	// What the uploader has not seen yet, from wanted on, is not recycled while patient; see Log.Want.
	wanted  Position
	patient bool
	since   time.Time // when an admission began to wait for that; zero: none does
	armed   bool      // a timer looks after the one that waits
}

func newSlabPool(slabBytes, count int, wake func()) (*slabPool, error) {
	mem, err := allocSlabs(slabBytes * count)
	if err != nil {
		return nil, err
	}
	p := &slabPool{mem: mem, all: make([]slab, count), wake: wake}
	p.maxPinned = int32(count - max(3, count/4))
	for i := range p.all {
		s := &p.all[count-1-i]
		s.buf = mem[(count-1-i)*slabBytes : (count-i)*slabBytes : (count-i)*slabBytes]
		s.pool = p
		p.free = append(p.free, s)
		checkRecycled(s)
	}
	return p, nil
}

// take returns an empty slab. The caller knows from admission that there is one.
func (p *slabPool) take() *slab {
	if len(p.free) == 0 {
		panic("wal: no free slab for an admitted entry: Append without its own admission")
	}
	s := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	checkTaken(s)
	s.touched = true
	return s
}

// reserve recycles slabs, oldest first and skipping those that are pinned or not written, until n are free.
func (p *slabPool) reserve(n int) bool {
	for i := 0; len(p.free) < n && i < len(p.full); {
		s := p.full[i]
		if s.unwritten > 0 || p.patient && s.end > p.wanted || !s.recycle() {
			i++
			continue
		}
		p.full = append(p.full[:i], p.full[i+1:]...)
		p.free = append(p.free, s)
	}
	return len(p.free) >= n
}

// recycle makes all refs to the slab stale, unless it is pinned. Log.mu is held.
func (s *slab) recycle() bool {
	st := s.state.Load()
	if st&pinMask != 0 || !s.state.CompareAndSwap(st, (st>>pinBits+1)<<pinBits) {
		return false
	}
	checkRecycled(s)
	s.used = 0
	return true
}

// pin keeps the slab from being recycled if it is still of the generation.
func (s *slab) pin(gen uint64) bool { return s.pinBelow(gen, s.pool.maxPinned) }

// pinBelow is pin for somebody who may only have one of the first limit pinned slabs.
func (s *slab) pinBelow(gen uint64, limit int32) bool {
	for {
		st := s.state.Load()
		if st>>pinBits != gen || st&pinMask == pinMask-1 {
			return false
		}
		first := st&pinMask == 0
		if first && s.pool.pinned.Add(1) > limit {
			s.pool.pinned.Add(-1)
			return false
		}
		if s.state.CompareAndSwap(st, st+1) {
			return true
		}
		if first {
			s.pool.pinned.Add(-1)
		}
	}
}

func (s *slab) unpin() {
	st := s.state.Add(^uint64(0))
	switch st & pinMask {
	case pinMask:
		panic("wal: Ref.Release without Acquire")
	case 0:
		s.pool.pinned.Add(-1)
		if s.pool.starved.Load() && s.pool.starved.CompareAndSwap(true, false) {
			s.pool.wake()
		}
	}
}

// close makes all refs stale and frees the memory, except while somebody holds a pin: then it stays mapped.
func (p *slabPool) close() error {
	held := 0
	for i := range p.all {
		if !p.all[i].recycle() {
			held++
		}
	}
	if held > 0 {
		return fmt.Errorf("wal close: %d slabs are still held by readers%s", held, checkHolders())
	}
	mem := p.mem
	p.mem, p.free, p.full = nil, nil, nil
	return freeSlabs(mem)
}

// Ref names the data of an entry in the stream and, while its slab lives, in memory. It is a small value and may be
// copied and kept for ever; the zero Ref names nothing. Methods may be called concurrently.
type Ref struct {
	Pos Position // of the entry's data
	Len int32    // of the entry's data
	off int32    // in the slab
	gen uint64
	s   *slab
}

// Acquire pins the entry's slab and returns the entry's data, to be left unchanged and not used after Release. It
// reports false when the data is not to be had in memory: the slab was recycled, or readers hold as many slabs as they
// may. Then Log.ReadEntry reads it from the file, once it is durable. It takes no lock and never blocks.
func (r Ref) Acquire() ([]byte, bool) {
	if r.s == nil || !r.s.pin(r.gen) {
		return nil, false
	}
	checkAcquired(r)
	end := int(r.off) + int(r.Len)
	return r.s.buf[r.off:end:end], true
}

// Hold pins the entry's slab as Acquire does, for somebody who holds many slabs at once: a quarter of what readers may pin stays with
// the others. While it is held, Entry.Data of all the slab's entries stays as it is. Release gives it back.
func (r Ref) Hold() bool {
	if r.s == nil || !r.s.pinBelow(r.gen, r.s.pool.maxPinned-(r.s.pool.maxPinned+3)/4) {
		return false
	}
	checkAcquired(r)
	return true
}

// SameSlab says whether both entries lie in one slab, so that holding one of them holds the other.
func (r Ref) SameSlab(o Ref) bool { return r.s != nil && r.s == o.s && r.gen == o.gen }

// Release gives back one successful Acquire or Hold of this Ref or a copy of it.
func (r Ref) Release() {
	checkReleased(r)
	r.s.unpin()
}

// alignedBytes returns n bytes of heap memory aligned for direct I/O.
func alignedBytes(n int) []byte {
	b := make([]byte, n+blockBytes)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (blockBytes - 1)
	return b[skip : skip+n : skip+n]
}
