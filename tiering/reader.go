package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// ReaderOptions configure a Reader. Zero values take the defaults.
type ReaderOptions struct {
	CacheBytes    int64         // memory of the cold lane in all: cached, pinned and under way; default 256 MiB
	FetchBytes    int           // of one request when reading ahead, 1–8 MiB; default 4 MiB
	PrefetchBytes int           // most that is read ahead for one sequential reader; default 32 MiB, at most CacheBytes/4
	Concurrency   int           // requests at once; default 16
	BudgetWait    time.Duration // how long a read waits for memory before it answers ErrBusy; default 1 s
	Meter         metric.Meter  // nil: the catalog's
}

const (
	minFetchBytes = 1 << 20
	maxFetchBytes = 8 << 20
)

// Reader is the cold lane: it serves committed offsets from the object store. It has goroutines, requests and memory of its own,
// so that a replay takes nothing from uploads, tails or producers. It is safe for concurrent use.
type Reader struct {
	o       ReaderOptions
	catalog *Catalog
	blocks  *blockCache
	near    neighbours
	cancel  context.CancelFunc
	metrics *metrics

	mu        sync.Mutex
	sequences map[sequenceKey]*sequence
	swept     time.Time // when stale sequences were last looked for
	active    int       // sequences that read ahead, as of then
	walks     sync.WaitGroup
}

// NewReader returns a reader; Close ends it.
func NewReader(c *Catalog, o ReaderOptions) *Reader {
	orDefault(&o.CacheBytes, 256<<20)
	orDefault(&o.FetchBytes, 4<<20)
	orDefault(&o.PrefetchBytes, 32<<20)
	orDefault(&o.Concurrency, 16)
	orDefault((*int64)(&o.BudgetWait), int64(time.Second))
	o.FetchBytes = min(max(o.FetchBytes, minFetchBytes), maxFetchBytes)
	o.PrefetchBytes = min(o.PrefetchBytes, int(o.CacheBytes/4))
	base, cancel := context.WithCancel(context.Background())
	r := &Reader{o: o, catalog: c, cancel: cancel, metrics: c.metrics, sequences: map[sequenceKey]*sequence{}}
	if o.Meter != nil {
		r.metrics = newMetrics(o.Meter, c.o.Logger)
	}
	r.blocks = newBlockCache(c, base, o.CacheBytes, o.Concurrency, r.metrics)
	r.metrics.gauge("tidemark.tiering.blocks.memory", "By", "Memory of the cold lane's blocks: cached, pinned and under way.", func() int64 {
		r.blocks.mu.Lock()
		defer r.blocks.mu.Unlock()
		return r.blocks.usedBytes
	})
	return r
}

// Close gives up requests under way and waits for them. Chunks that are still held stay readable.
func (r *Reader) Close() {
	r.cancel()
	r.walks.Wait()
	r.blocks.wg.Wait()
}

// DropUnused lets go of the blocks that nobody is reading: for a broker that has been idle for a while.
func (r *Reader) DropUnused() { r.blocks.dropUnused() }

// Chunk is what a Read brought. Release must be called once, when nobody looks at Batches any more: their memory is used again.
type Chunk struct {
	// Batches are whole record batches in order, each element one or more of them. The first batch holds the offset that was asked
	// for, or is the next after it. Empty when nothing is left up to Next because it was compacted away.
	Batches   [][]byte
	Next      metadata.Offset // where to read on
	SizeBytes int             // sum over Batches

	pins  []*extent
	cache *blockCache
}

// Release gives the memory of Batches back. It may be called on a nil chunk.
func (c *Chunk) Release() {
	if c == nil {
		return
	}
	pins := c.pins
	c.pins, c.Batches = nil, nil
	for _, e := range pins {
		c.cache.release(e)
	}
}

func (c *Chunk) add(e *extent, b []byte) {
	if n := len(c.Batches); n > 0 && len(b) > 0 {
		last := c.Batches[n-1]
		// Adjacent blocks of one extent make one stretch.
		if cap(last) > len(last) && &last[:len(last)+1][len(last)] == &b[0] {
			c.Batches[n-1] = last[:len(last)+len(b)]
			c.SizeBytes += len(b)
			return
		}
	}
	c.Batches = append(c.Batches, b)
	c.SizeBytes += len(b)
}

// Read returns record batches of p from offset on: as many as fit maxBytes and are at hand, but at least one. Where the store fails
// for a while it goes on until ctx is done; what it has asked for by then still arrives and serves the next Read.
// Errors: ErrOffsetOutOfRange, ErrUnknownPartition, ErrCorrupt, ErrBusy, ctx's.
func (r *Reader) Read(ctx context.Context, p metadata.PartitionID, offset metadata.Offset, maxBytes int) (*Chunk, error) {
	started := time.Now()
	seq := r.sequenceAt(p, offset)
	c, err := r.read(ctx, p, offset, maxBytes, seq.window > 0)
	if err != nil {
		r.mu.Lock()
		r.keep(p, offset, seq, started)
		r.mu.Unlock()
		return nil, err
	}
	for i := range c.Batches {
		c.Batches[i] = slices.Clip(c.Batches[i])
	}
	r.advance(p, offset, seq, c)
	r.metrics.coldBytes.Add(ctx, int64(c.SizeBytes))
	r.metrics.coldSeconds.Record(ctx, time.Since(started).Seconds())
	return c, nil
}

func (r *Reader) read(ctx context.Context, p metadata.PartitionID, offset metadata.Offset, maxBytes int, sequential bool) (*Chunk, error) {
	l, i, err := r.find(ctx, p, offset)
	if err != nil {
		return nil, err
	}
	c := &Chunk{cache: r.blocks, Next: offset}
	if l.blocks == nil {
		c.Next = r.catalog.End(p)
		return c, nil
	}
	run := min(max(minFetchBytes, maxBytes), r.o.FetchBytes)
	if sequential {
		run = r.o.FetchBytes
	}
	e, err := r.block(ctx, p, &l, &i, run)
	if err != nil {
		return nil, err
	}
	c.pins = append(c.pins, e)
	if err := r.fill(ctx, p, c, e, l, i, offset, maxBytes); err != nil {
		c.Release()
		return nil, err
	}
	return c, nil
}

// find locates offset: the segment and the index of the block in it. l.blocks is nil where nothing is left.
func (r *Reader) find(ctx context.Context, p metadata.PartitionID, offset metadata.Offset) (l located, i int, err error) {
	if err := r.inRange(p, offset); err != nil {
		return l, 0, err
	}
	for at := offset; ; {
		l, found, err := r.locate(ctx, p, at)
		if err != nil || !found {
			return located{}, 0, err
		}
		if i := l.blockAt(at); i < len(l.blocks) {
			return l, i, nil
		}
		at = l.end // the end of the segment was compacted away
	}
}

func (r *Reader) inRange(p metadata.PartitionID, offset metadata.Offset) error {
	q, ok := r.catalog.o.Partitions.Partition(p)
	if !ok {
		return fmt.Errorf("%v: %w", p, ErrUnknownPartition)
	}
	if end := r.catalog.End(p); offset < q.LogStart || offset >= end {
		return fmt.Errorf("%v: offset %d, committed [%d, %d): %w", p, offset, q.LogStart, end, ErrOffsetOutOfRange)
	}
	return nil
}

// locate is segmentAt, again where a manifest or index was deleted while it was looked up: then there is a newer manifest.
func (r *Reader) locate(ctx context.Context, p metadata.PartitionID, offset metadata.Offset) (l located, found bool, err error) {
	for range relocations {
		if l, found, err = r.catalog.segmentAt(ctx, p, offset); !errors.Is(err, objectstore.ErrNotFound) {
			break
		}
	}
	return l, found, err
}

// relocations is how often a read looks for its offset anew because an object is gone.
const relocations = 4

// block pins the ready extent of l.blocks[i]. Where the object is gone, because a merge replaced it long ago and the manifest that
// was used is old, it looks the offset up anew and changes l and i.
func (r *Reader) block(ctx context.Context, p metadata.PartitionID, l *located, i *int, run int) (*extent, error) {
	for try := 1; ; try++ {
		blocks, k, n := r.widen(ctx, p, l, *i, run)
		e, err := r.blocks.pin(ctx, l.object, blocks, k, n, r.o.BudgetWait)
		if err == nil {
			err = r.blocks.wait(ctx, e)
		}
		if err == nil {
			return e, nil
		}
		if !errors.Is(err, objectstore.ErrNotFound) || try == relocations {
			return nil, fmt.Errorf("read %v at %d: %w", p, l.blocks[*i].BaseOffset, err)
		}
		nl, ni, ferr := r.find(ctx, p, l.blocks[*i].BaseOffset)
		switch {
		case ferr != nil:
			return nil, ferr
		case nl.blocks == nil:
			return nil, fmt.Errorf("read %v at %d: %w", p, l.blocks[*i].BaseOffset, err)
		}
		*l, *i = nl, ni
	}
}

// fill puts batches into the chunk: from the pinned block i on, through following blocks and segments as far as they are at hand.
func (r *Reader) fill(ctx context.Context, p metadata.PartitionID, c *Chunk, e *extent, l located, i int, offset metadata.Offset, maxBytes int) error {
	for {
		b := &l.blocks[i]
		data := e.data(b)
		from, to, next, err := cut(data, b, offset, maxBytes-c.SizeBytes, len(c.Batches) == 0)
		if err != nil {
			return fmt.Errorf("%w: %s: block at %d: %w", ErrCorrupt, l.object.Key(r.catalog.o.Cluster), b.Position, err)
		}
		if to > from {
			c.add(e, data[from:to])
			c.Next = next
		}
		if next < b.NextOffset || c.SizeBytes >= maxBytes {
			return nil
		}
		if i++; i == len(l.blocks) {
			nl, found, err := r.catalog.segmentAt(ctx, p, l.end)
			if err != nil || !found || len(nl.blocks) == 0 {
				return nil // what is at hand is an answer
			}
			l, i = nl, 0
		}
		b = &l.blocks[i]
		if b.Position < e.blocks[0].Position || b.Position >= e.end() || l.object != e.object {
			if e = r.blocks.cached(l.object, b.Position); e == nil {
				return nil
			}
			c.pins = append(c.pins, e)
		}
	}
}

// cut finds which bytes of a block to serve: whole batches from the one that holds offset on, as many as fit room, at least one
// if needed.
func cut(data []byte, b *segment.Block, offset metadata.Offset, room int, needed bool) (from, to int, next metadata.Offset, err error) {
	if offset <= b.BaseOffset && len(data) <= room {
		return 0, len(data), b.NextOffset, nil
	}
	next = max(offset, b.BaseOffset)
	for at := 0; at < len(data); {
		h, err := batch.Parse(data[at:])
		if err != nil {
			return 0, 0, 0, err
		}
		end := at + h.SizeBytes
		switch {
		case metadata.Offset(h.NextOffset()) <= offset:
			from, to = end, end
		case end-from <= room || needed && to == from:
			to, next = end, metadata.Offset(h.NextOffset())
		default:
			return from, to, next, nil
		}
		at = end
	}
	return from, to, b.NextOffset, nil
}
