package handler

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
)

const (
	// slowReadsPerConn is how many partitions of one connection are read from files or the object store at the same time.
	slowReadsPerConn = 8
	// maxSlowReadBytes bounds one such read, but for a batch that is larger.
	maxSlowReadBytes = 8 << 20
	// slowBudgetBytes bounds what all connections read so, from the start of a read until its bytes are written, unless the broker says otherwise.
	slowBudgetBytes = 256 << 20
	// slowKeep is how long what was read is kept for a client that does not come back for it.
	slowKeep = 5 * time.Second
)

// slowReads is the budget that all connections share, and what must end before the log is closed: reads may have slabs pinned.
// The server copies out what a client does not take and lets go of it after about a second, so stuck clients hold no share either.
type slowReads struct {
	budget  *semaphore.Weighted
	life    context.Context
	end     context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	ended  bool
	states map[*fetchState]struct{} // of open connections
}

func newSlowReads(budgetBytes int64) *slowReads {
	s := &slowReads{budget: semaphore.NewWeighted(budgetBytes), states: map[*fetchState]struct{}{}}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// spawn runs read until ctx is done or stop is called; false: stop was called before.
func (s *slowReads) spawn(ctx context.Context, read func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.running.Go(func() {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(s.life, func() { cancel(context.Canceled) })()
		read(ctx)
	})
	return true
}

// stop ends the reads that are under way, waits for them, and lets go of what was read.
func (s *slowReads) stop() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.end()
	s.running.Wait()
	s.mu.Lock()
	states := slices.Collect(maps.Keys(s.states))
	s.mu.Unlock()
	for _, f := range states {
		f.close()
	}
}

func (s *slowReads) remember(f *fetchState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[f] = struct{}{}
}

func (s *slowReads) forget(f *fetchState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.states, f)
}

// slowRead is one read on its way, or its outcome.
type slowRead struct {
	offset   int64
	maxBytes int
	started  int64 // the fetch, counted per connection, that asked for it last
	done     bool
	chunk    partition.Chunk
	err      error
}

// fetchState is a connection's state for Fetch. Only its fields below mu are touched by other goroutines.
type fetchState struct {
	b         *Broker
	waiter    *partition.Waiter
	timer     *time.Timer
	slowReady chan struct{} // capacity 1: a slow read has finished
	asks      []fetchAsk
	parts     []fetchPart
	fetches   int64
	idle      *time.Timer // drops finished reads that nobody comes for

	mu       sync.Mutex
	closed   bool
	fetching bool
	slow     map[metadata.PartitionID]*slowRead
}

// connFetch returns the connection's state; ctx ends with the connection.
func (b *Broker) connFetch(ctx context.Context, c *server.Conn) *fetchState {
	if f, ok := c.Local.(*fetchState); ok && f.b == b && !f.isClosed() {
		return f
	}
	f := &fetchState{b: b, waiter: partition.NewWaiter(), timer: time.NewTimer(time.Hour), slowReady: make(chan struct{}, 1), slow: make(map[metadata.PartitionID]*slowRead)}
	f.timer.Stop()
	f.idle = time.AfterFunc(time.Hour, f.dropIdle)
	f.idle.Stop()
	b.log.slow.remember(f)
	context.AfterFunc(ctx, f.close)
	c.Local = f
	return f
}

func (f *fetchState) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// close lets go of everything; reads on their way do so when they finish.
func (f *fetchState) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.drop(func(*slowRead) bool { return true })
	f.b.log.slow.forget(f)
}

// drop forgets the finished reads that which names.
func (f *fetchState) drop(which func(*slowRead) bool) {
	var chunks []partition.Chunk
	f.mu.Lock()
	for id, r := range f.slow {
		if r.done && which(r) {
			chunks = append(chunks, r.chunk)
			delete(f.slow, id)
		}
	}
	f.mu.Unlock()
	for _, c := range chunks {
		release(c)
	}
}

func release(c partition.Chunk) {
	if c.Release != nil {
		c.Release()
	}
}

func (f *fetchState) begin() {
	f.fetches++
	f.mu.Lock()
	f.fetching = true
	f.mu.Unlock()
	f.idle.Stop()
}

// end drops the finished reads that this fetch did not ask for, and lets the others wait a while for the next fetch.
func (f *fetchState) end() {
	f.drop(func(r *slowRead) bool { return r.started != f.fetches })
	clear(f.parts)
	if cap(f.parts) > maxKeptParts {
		f.parts, f.asks = nil, nil
	}
	f.mu.Lock()
	f.fetching = false
	left := len(f.slow)
	f.mu.Unlock()
	if left > 0 {
		f.idle.Reset(slowKeep)
	}
}

func (f *fetchState) dropIdle() {
	f.drop(func(*slowRead) bool { return !f.fetching })
}

// readSlow takes the outcome of the part's slow read, or starts one. It returns 0 while that is on its way, and when what
// was read does not fit in maxBytes: then it is kept for the next fetch.
func (f *fetchState) readSlow(ctx context.Context, part *fetchPart, maxBytes int, atLeastOne bool, into *partition.Batches) (int, error) {
	f.mu.Lock()
	r, moved := f.slowRead(ctx, part)
	if r == nil || !r.done {
		f.mu.Unlock()
		release(moved)
		return 0, nil
	}
	n, err := 0, r.err
	if err == nil {
		n = into.AddChunk(r.chunk, maxBytes, atLeastOne)
	}
	useless := err != nil || len(r.chunk.Batches) == 0 // nothing is left there: compacted
	if n > 0 || useless {
		delete(f.slow, part.p.ID())
	}
	f.mu.Unlock()
	if useless {
		release(r.chunk)
	}
	if errors.Is(err, tiering.ErrBusy) {
		return 0, nil // the client asks again
	}
	return n, err
}

// slowRead returns the part's read, after starting it if need be; nil when there are too many. A finished read of another
// offset makes room and is the caller's to release: the client has moved. The caller holds mu.
func (f *fetchState) slowRead(ctx context.Context, part *fetchPart) (r *slowRead, moved partition.Chunk) {
	id := part.p.ID()
	r = f.slow[id]
	switch {
	case r == nil:
	case r.offset == part.ask.offset:
		r.started = f.fetches
		return r, moved
	case !r.done:
		return nil, moved
	default:
		moved = r.chunk
		delete(f.slow, id)
	}
	if len(f.slow) >= slowReadsPerConn || f.closed {
		return nil, moved
	}
	r = &slowRead{offset: part.ask.offset, maxBytes: min(max(int(part.ask.maxBytes), 1), maxSlowReadBytes), started: f.fetches}
	p := part.p // part is another's by the time the read runs
	if !f.b.log.slow.spawn(ctx, func(ctx context.Context) { f.run(ctx, p, r) }) {
		return nil, moved
	}
	f.slow[id] = r
	f.b.log.stats.slowReads.Add(1)
	return r, moved
}

// run reads and tells the connection. It outlives the fetch that started it, so that nothing is read in vain.
func (f *fetchState) run(ctx context.Context, p *partition.Partition, r *slowRead) {
	chunk, err := f.b.log.slow.read(ctx, p, r)
	f.mu.Lock()
	r.chunk, r.err, r.done = chunk, err, true
	closed := f.closed
	if !closed && !f.fetching {
		f.idle.Reset(slowKeep)
	}
	f.mu.Unlock()
	if closed {
		f.drop(func(other *slowRead) bool { return other == r })
	}
	select {
	case f.slowReady <- struct{}{}:
	default:
	}
}

// read takes its share of the budget and reads.
func (s *slowReads) read(ctx context.Context, p *partition.Partition, r *slowRead) (partition.Chunk, error) {
	if err := s.budget.Acquire(ctx, int64(r.maxBytes)); err != nil {
		return partition.Chunk{}, context.Cause(ctx)
	}
	chunk, err := p.ReadSlow(ctx, metadata.Offset(r.offset), r.maxBytes)
	if err != nil {
		s.budget.Release(int64(r.maxBytes))
		return partition.Chunk{}, err
	}
	inner := chunk.Release
	chunk.Release = func() {
		if inner != nil {
			inner()
		}
		s.budget.Release(int64(r.maxBytes))
	}
	return chunk, nil
}
