package wire

import (
	"math/bits"
	"sync"
)

// Frame is a byte buffer of a size class, from a FramePool.
type Frame struct {
	B     []byte // length as asked for; contents are arbitrary
	class int
	state frameState
}

// Size classes: four per doubling from 4 KiB (class 0) on, so that a frame is at most a quarter bigger than needed. Larger frames than
// the last class (128 MiB) are not pooled.
const (
	minClassBits = 12
	maxClassBits = 27
	frameClasses = (maxClassBits-minClassBits)*4 + 1

	// From largeClass (1 MiB) on, a frame also serves for half its size: a producer's requests differ in size from one to the next,
	// and with a frame of each class kept for it, one connection would hold several times its largest request.
	largeClass = (20 - minClassBits) * 4
	perDouble  = 4

	// Up to smallClass (64 KiB) frames are kept per processor, without a lock: every request takes one and gives it back, and with many
	// connections a thread that lost its processor in between had all others queue up.
	smallClass = (16 - minClassBits) * 4
)

func classOf(n int) int {
	if n <= 1<<minClassBits {
		return 0
	}
	b := bits.Len(uint(n - 1)) // 1<<(b-1) < n <= 1<<b
	quarter := 1 << (b - 3)
	q := (n - 1<<(b-1) + quarter - 1) / quarter // 1..4
	return (b-1-minClassBits)*4 + q
}

func classBytes(c int) int {
	base := 1 << (minClassBits + c/4)
	return base + base/4*(c%4)
}

// FramePool recycles frames, last in first out so that they are still in cache. Of those over 64 KiB it keeps at most KeepBytes unused;
// of smaller ones it keeps what was in use at the same time, until the garbage collector has come by twice. Concurrency: safe.
// Under the build tag framecheck, frames are poisoned when put back and double puts and late writes panic.
type FramePool struct {
	KeepBytes int64 // set before use

	small [smallClass + 1]sync.Pool // of *Frame

	mu   sync.Mutex
	kept int64
	free [frameClasses][]*Frame
	low  [frameClasses]int // fewest unused since the last Trim
}

// Get returns a frame of n bytes. n must be bounded by the caller.
func (p *FramePool) Get(n int) *Frame {
	c := classOf(n)
	if c >= frameClasses {
		return &Frame{B: make([]byte, n), class: -1}
	}
	f := p.take(c)
	if f == nil {
		return &Frame{B: make([]byte, n, classBytes(c)), class: c}
	}
	f.B = f.B[:n]
	f.checkOut()
	return f
}

// take returns an unused frame that serves for class c, or nil.
func (p *FramePool) take(c int) *Frame {
	if c <= smallClass {
		f, _ := p.small[c].Get().(*Frame)
		return f
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.takeLocked(c)
	if c >= largeClass {
		for k := c + 1; f == nil && k < min(c+perDouble, frameClasses); k++ {
			f = p.takeLocked(k)
		}
		if f == nil {
			p.dropSmallerLocked(c)
		}
	}
	return f
}

// takeLocked returns the unused frame of the class that was put back last, or nil.
func (p *FramePool) takeLocked(c int) *Frame {
	k := len(p.free[c])
	if k == 0 {
		return nil
	}
	f := p.free[c][k-1]
	p.free[c][k-1] = nil
	p.free[c] = p.free[c][:k-1]
	p.low[c] = min(p.low[c], k-1)
	p.kept -= int64(cap(f.B))
	return f
}

// dropSmallerLocked lets go of an unused frame in whose place a new one of class c will serve.
func (p *FramePool) dropSmallerLocked(c int) {
	for k := c - 1; k > max(c-perDouble, largeClass-1); k-- {
		if p.takeLocked(k) != nil {
			return
		}
	}
}

// Put gives a frame back. Nothing may read or write its bytes afterwards.
func (p *FramePool) Put(f *Frame) {
	f.checkIn()
	switch {
	case f.class < 0:
		return
	case f.class <= smallClass:
		p.small[f.class].Put(f)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept+int64(cap(f.B)) > p.KeepBytes {
		return
	}
	p.kept += int64(cap(f.B))
	p.free[f.class] = append(p.free[f.class], f)
}

// Trim lets go of the frames that were not needed since the last Trim. Call it every some seconds.
func (p *FramePool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.free {
		drop := min(p.low[c], len(p.free[c]))
		for i := range drop {
			p.kept -= int64(cap(p.free[c][i].B))
		}
		rest := copy(p.free[c], p.free[c][drop:])
		clear(p.free[c][rest:])
		p.free[c] = p.free[c][:rest]
		p.low[c] = rest
	}
}

// KeptBytes is how much is pooled and unused in frames over 64 KiB.
func (p *FramePool) KeptBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept
}
