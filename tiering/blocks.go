package tiering

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// blockCache holds blocks of objects in memory, and reads runs of them with one request each. All its memory, cached, pinned and
// being read, stays below maxBytes.
//
// Memory is reference-counted and reused rather than left to the garbage collector: a replay at 1 GB/s would otherwise allocate
// and clear as much, and what is evicted would still count until the next collection, so that the bound would be twice itself.
// The unit is the extent, one request's worth of adjacent blocks; whoever reads pins it and must release it.
type blockCache struct {
	store    objectstore.Store
	cluster  string
	maxBytes int64
	base     context.Context
	slots    chan struct{} // requests at once
	ahead    chan struct{} // of them for prefetching
	metrics  *metrics
	wg       sync.WaitGroup

	mu        sync.Mutex
	blocks    map[blockKey]*extent
	lru       list.List // of *extent, ready and unpinned, most recently released first
	usedBytes int64     // capacity of all extents
	free      map[int][][]byte
	freeBytes int64
	waiters   list.List // of chan struct{}, first in first out
}

type blockKey struct {
	object   segment.ID
	position int64
}

// extent is a run of adjacent blocks of one object.
type extent struct {
	object segment.ID
	blocks []segment.Block
	buf    []byte // exactly the blocks' bytes, a part of mem
	mem    []byte // all of the memory
	done   chan struct{}
	err    error         // set before done is closed
	refs   int           // under the cache's mutex
	place  *list.Element // in the lru
	read   bool          // somebody wanted it, as opposed to prefetched only
}

// data returns the bytes of the block at position, which must be in the extent.
func (e *extent) data(b *segment.Block) []byte {
	at := b.Position - e.blocks[0].Position
	return e.buf[at : at+int64(b.Length)]
}

func (e *extent) end() int64 { return e.blocks[len(e.blocks)-1].End() }

func newBlockCache(c *Catalog, base context.Context, maxBytes int64, concurrency int, m *metrics) *blockCache {
	return &blockCache{store: c.o.Store, cluster: c.o.Cluster, maxBytes: maxBytes, base: base, slots: make(chan struct{}, concurrency),
		ahead: make(chan struct{}, max(1, concurrency*3/4)), metrics: m, blocks: map[blockKey]*extent{}, free: map[int][][]byte{}}
}

// sizeClass rounds up, so that memory is reused among extents of similar size at a waste of less than a quarter of a mebibyte or
// an eighth.
func sizeClass(n int) int {
	step := 64 << 10
	for step*16 < n {
		step *= 2
	}
	return (n + step - 1) / step * step
}

// pin returns the extent that holds blocks[i], pinned, starting to read a run of up to runBytes from there if it is not at hand.
// It waits for memory for at most patience and then answers ErrBusy. The caller waits for done and releases.
func (c *blockCache) pin(ctx context.Context, object segment.ID, blocks []segment.Block, i, runBytes int, patience time.Duration) (*extent, error) {
	var timeout <-chan time.Time
	for {
		c.mu.Lock()
		// Only what is at hand, or fits now, is taken; a waiter that got in lets the next one try.
		if e := c.blocks[blockKey{object, blocks[i].Position}]; e != nil {
			c.pinLocked(e)
			e.read = true
			if timeout != nil {
				c.wakeLocked()
			}
			c.mu.Unlock()
			c.metrics.blockHits.Add(ctx, 1)
			return e, nil
		}
		if e := c.startLocked(object, blocks, i, runBytes, false); e != nil {
			e.refs++
			e.read = true
			if timeout != nil {
				c.wakeLocked()
			}
			c.mu.Unlock()
			c.metrics.blockMisses.Add(ctx, int64(len(e.blocks)))
			return e, nil
		}
		// All memory is pinned: wait until somebody releases. A single block that can never fit gets in when all else is out.
		turn := make(chan struct{}, 1)
		place := c.waiters.PushBack(turn)
		c.mu.Unlock()
		if timeout == nil {
			t := time.NewTimer(patience)
			defer t.Stop()
			timeout = t.C
		}
		err := error(nil)
		select {
		case <-turn:
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-timeout:
			err = ErrBusy
		}
		c.mu.Lock()
		c.waiters.Remove(place)
		select {
		case <-turn: // the turn came just now: pass it on
			c.wakeLocked()
		default:
		}
		c.mu.Unlock()
		return nil, err
	}
}

// prefetch starts reading a run from blocks[i] on unless that is at hand, without waiting for memory. It returns how many blocks
// from i on are at hand or under way, 0 when there is no room for more.
func (c *blockCache) prefetch(object segment.ID, blocks []segment.Block, i, runBytes int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocks[blockKey{object, blocks[i].Position}] != nil {
		return 1
	}
	e := c.startLocked(object, blocks, i, runBytes, true)
	if e == nil {
		return 0
	}
	return len(e.blocks)
}

// has tells whether the block is at hand or under way.
func (c *blockCache) has(object segment.ID, position int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocks[blockKey{object, position}] != nil
}

// cached pins the extent of a block if its bytes are at hand now.
func (c *blockCache) cached(object segment.ID, position int64) *extent {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.blocks[blockKey{object, position}]
	if e == nil {
		return nil
	}
	select {
	case <-e.done:
	default:
		return nil
	}
	c.pinLocked(e)
	e.read = true
	return e
}

func (c *blockCache) pinLocked(e *extent) {
	e.refs++
	if e.place != nil {
		c.lru.Remove(e.place)
		e.place = nil
	}
}

// startLocked reserves memory and starts reading; nil when there is no memory.
func (c *blockCache) startLocked(object segment.ID, blocks []segment.Block, i, runBytes int, ahead bool) *extent {
	// What is read begins and ends at multiples of pieceAlign, in memory like that: a store on a local disk reads it directly.
	from := blocks[i].Position &^ (pieceAlign - 1)
	lead := int(blocks[i].Position - from)
	need := func(n int) int { return sizeClass((lead + n + pieceAlign - 1) &^ (pieceAlign - 1)) }
	j, n := i, 0
	for j < len(blocks) {
		b := &blocks[j]
		if j > i && (n+int(b.Length) > runBytes || b.Position != blocks[j-1].End() || c.blocks[blockKey{object, b.Position}] != nil) {
			break
		}
		n += int(b.Length)
		j++
	}
	mem := c.reserveLocked(need(n), ahead)
	if mem == nil {
		// Perhaps the first block alone fits.
		if j == i+1 || ahead {
			return nil
		}
		j, n = i+1, int(blocks[i].Length)
		if mem = c.reserveLocked(need(n), ahead); mem == nil {
			return nil
		}
	}
	e := &extent{object: object, blocks: blocks[i:j], buf: mem[lead : lead+n], mem: mem, done: make(chan struct{}), refs: 1}
	for k := range e.blocks {
		c.blocks[blockKey{object, e.blocks[k].Position}] = e
	}
	c.wg.Add(1)
	go c.load(e, ahead)
	return e
}

// reserveLocked takes n bytes, which is a size class, or up to twice as many where those are free, evicting what nobody uses. For
// prefetching it leaves alone what was prefetched and not read yet.
func (c *blockCache) reserveLocked(n int, ahead bool) []byte {
	if b := c.takeFreeLocked(n); b != nil {
		return b
	}
	for c.usedBytes+int64(n) > c.maxBytes {
		last := c.lru.Back()
		if last == nil || ahead && !last.Value.(*extent).read {
			if c.usedBytes == 0 {
				break // larger than the whole budget: alone it may
			}
			return nil
		}
		c.evictLocked(last.Value.(*extent))
		if b := c.takeFreeLocked(n); b != nil {
			return b
		}
	}
	c.shedLocked(c.maxBytes - c.usedBytes - int64(n))
	c.usedBytes += int64(n)
	return alignedBytes(n)
}

// takeFreeLocked takes the smallest free piece of memory that holds n bytes, unless most of it would be idle.
func (c *blockCache) takeFreeLocked(n int) []byte {
	best := 0
	for size, bufs := range c.free {
		if len(bufs) > 0 && size >= n && size <= 2*n && (best == 0 || size < best) {
			best = size
		}
	}
	if best == 0 {
		return nil
	}
	bufs := c.free[best]
	b := bufs[len(bufs)-1]
	bufs[len(bufs)-1] = nil
	c.free[best] = bufs[:len(bufs)-1]
	c.freeBytes -= int64(best)
	c.usedBytes += int64(best)
	return b
}

// shedLocked lets the garbage collector have free memory beyond keep bytes.
func (c *blockCache) shedLocked(keep int64) {
	for n, bufs := range c.free {
		for len(bufs) > 0 && c.freeBytes > keep {
			bufs[len(bufs)-1] = nil
			bufs = bufs[:len(bufs)-1]
			c.freeBytes -= int64(n)
		}
		if c.free[n] = bufs; len(bufs) == 0 {
			delete(c.free, n)
		}
	}
}

// dropUnused evicts every extent that is not pinned, and leaves their memory to the garbage collector.
func (c *blockCache) dropUnused() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for last := c.lru.Back(); last != nil; last = c.lru.Back() {
		c.evictLocked(last.Value.(*extent))
	}
	c.shedLocked(0)
	c.wakeLocked()
}

func (c *blockCache) forgetLocked(e *extent) {
	for k := range e.blocks {
		key := blockKey{e.object, e.blocks[k].Position}
		if c.blocks[key] == e {
			delete(c.blocks, key)
		}
	}
}

// evictLocked takes an extent that nobody pins out of the cache.
func (c *blockCache) evictLocked(e *extent) {
	if e.place != nil {
		c.lru.Remove(e.place)
		e.place = nil
	}
	c.forgetLocked(e)
	n := len(e.mem)
	c.usedBytes -= int64(n)
	c.freeBytes += int64(n)
	c.free[n] = append(c.free[n], e.mem)
	e.buf, e.mem = nil, nil
}

// release gives a pin back.
func (c *blockCache) release(e *extent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.refs--
	if e.refs < 0 {
		panic("tiering: block released twice")
	}
	if e.refs > 0 {
		return
	}
	if e.err != nil {
		c.evictLocked(e)
	} else {
		e.place = c.lru.PushFront(e)
	}
	c.wakeLocked()
}

func (c *blockCache) wakeLocked() {
	if first := c.waiters.Front(); first != nil {
		c.waiters.Remove(first)
		first.Value.(chan struct{}) <- struct{}{}
	}
}

// loadPatience is how long a run is tried to be read before those who wait are told.
const loadPatience = 2 * time.Minute

// load reads an extent. It does not end with those who wait for it: what it brings serves their next attempt.
func (c *blockCache) load(e *extent, ahead bool) {
	defer c.wg.Done()
	ctx, cancel := context.WithTimeout(c.base, loadPatience)
	defer cancel()
	err := c.fetch(ctx, e, ahead)
	c.mu.Lock()
	if err != nil {
		c.forgetLocked(e) // the next one tries anew
	}
	e.err = err
	c.mu.Unlock()
	close(e.done)
	c.release(e)
}

func (c *blockCache) fetch(ctx context.Context, e *extent, ahead bool) error {
	if ahead {
		select {
		case c.ahead <- struct{}{}:
			defer func() { <-c.ahead }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	key := e.object.Key(c.cluster)
	from := e.blocks[0].Position &^ (pieceAlign - 1)
	needed := int(e.end() - from)
	whole := (needed + pieceAlign - 1) &^ (pieceAlign - 1)
	if err := getAtLeast(ctx, c.store, key, e.mem[:whole], needed, from); err != nil {
		return err
	}
	c.metrics.fetchedBytes.Add(ctx, int64(len(e.buf)))
	for k := range e.blocks {
		b := &e.blocks[k]
		if got := crcOf(e.data(b)); got != b.CRC {
			return fmt.Errorf("%w: %s: block at %d: CRC %08x, want %08x", ErrCorrupt, key, b.Position, got, b.CRC)
		}
	}
	return nil
}

// wait returns when the extent's bytes are there. It releases the extent unless it returns nil.
func (c *blockCache) wait(ctx context.Context, e *extent) error {
	var err error
	select {
	case <-e.done:
		err = e.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		c.release(e)
	}
	return err
}
