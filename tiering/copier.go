package tiering

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/codec"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// copier is the blocks of a merged object, read from the source objects a window at a time and checked on the way. It is read
// mostly in order; its memory is one window.
type copier struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	store   objectstore.Store
	cluster string
	blocks  []segment.Block // of the merged object, with positions
	sources [][]source      // of each

	mu     sync.Mutex
	memory *copyMemory
	window []byte // of memory
	from   int64  // position of the window
	to     int64
}

// copyMemory is what a merge reads into. It is reused: a window is read many times a second.
type copyMemory struct {
	window  []byte
	scratch []byte // aligned: what requests bring, of which parts go to the window
}

var copyMemories = sync.Pool{New: func() any { return new(copyMemory) }}

type source struct {
	object segment.ID
	block  segment.Block
}

// copyWindowBytes is how much a merge has in memory.
const copyWindowBytes = 8 << 20

// append adds a source block to the last block of part if it fits, and otherwise makes a new one.
func (c *copier) append(part *segment.Part, object segment.ID, b segment.Block) {
	if n := len(part.Blocks); n > 0 {
		last := &part.Blocks[n-1]
		if last.NextOffset == b.BaseOffset && !segment.EndBlock(int(last.Length), int(b.Length), last.LeaderEpoch, b.LeaderEpoch) {
			last.CRC = codec.CombineCRC(last.CRC, b.CRC, int64(b.Length))
			last.Length += b.Length
			last.NextOffset = b.NextOffset
			last.MaxTimestampMs = max(last.MaxTimestampMs, b.MaxTimestampMs)
			end := len(c.sources) - 1
			c.sources[end] = append(c.sources[end], source{object, b})
			return
		}
	}
	part.Blocks = append(part.Blocks, b)
	c.sources = append(c.sources, []source{{object, b}})
}

// ReadAt implements io.ReaderAt, by position in the merged object.
func (c *copier) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off < c.from || off >= c.to {
		if err := c.load(off); err != nil {
			// A merge whose sources cannot be read will not succeed by trying to put it again.
			c.cancel(err)
			return 0, err
		}
	}
	return copy(p, c.window[off-c.from:]), nil
}

// load reads the blocks from the one at off on into the window.
func (c *copier) load(off int64) error {
	i, ok := slices.BinarySearchFunc(c.blocks, off, func(b segment.Block, off int64) int {
		switch {
		case b.End() <= off:
			return -1
		case b.Position > off:
			return 1
		}
		return 0
	})
	if !ok {
		return io.EOF
	}
	c.from, c.to = c.blocks[i].Position, c.blocks[i].Position
	j := i
	for j < len(c.blocks) && (j == i || c.blocks[j].End()-c.from <= copyWindowBytes) {
		c.to = c.blocks[j].End()
		j++
	}
	n := int(c.to - c.from)
	if cap(c.memory.window) < n {
		c.memory.window = make([]byte, n)
	}
	c.window = c.memory.window[:n]
	var wanted []wantedBlock
	at := 0
	for _, s := range slices.Concat(c.sources[i:j]...) {
		wanted = append(wanted, wantedBlock{s, c.window[at : at+int(s.block.Length)]})
		at += int(s.block.Length)
	}
	err := c.loadWanted(wanted)
	if err != nil {
		c.to = c.from
	}
	return err
}

// wantedBlock is a source block and where it goes.
type wantedBlock struct {
	source
	dst []byte
}

// copyGapBytes is how much that is not wanted a request may bring between what is: partitions lie in the same order in all objects, so
// a window wants a stretch of each source, more or less.
const copyGapBytes = 64 << 10

// copyRun is source blocks that one request brings.
type copyRun struct {
	blocks   []wantedBlock
	from, to int64 // in their object; from is a multiple of pieceAlign
	buf      []byte
}

// readBytes is how much is asked for: whole multiples of pieceAlign, so that a store on a local disk can read it directly.
func (r *copyRun) readBytes() int64 { return (r.to - r.from + pieceAlign - 1) &^ (pieceAlign - 1) }

// runsOf divides blocks into requests: one for those that are near each other in their object.
func runsOf(wanted []wantedBlock) []copyRun {
	slices.SortStableFunc(wanted, func(a, b wantedBlock) int {
		return cmp.Or(cmp.Compare(a.object.Epoch, b.object.Epoch), cmp.Compare(a.object.Seq, b.object.Seq), cmp.Compare(a.object.Nonce, b.object.Nonce),
			cmp.Compare(a.block.Position, b.block.Position))
	})
	var runs []copyRun
	for i := 0; i < len(wanted); {
		first := &wanted[i]
		j, end := i+1, first.block.End()
		for j < len(wanted) && wanted[j].object == first.object && wanted[j].block.Position-end <= copyGapBytes &&
			wanted[j].block.End()-first.block.Position <= copyWindowBytes {
			end = wanted[j].block.End()
			j++
		}
		runs = append(runs, copyRun{blocks: wanted[i:j], from: first.block.Position &^ (pieceAlign - 1), to: end})
		i = j
	}
	return runs
}

// loadWanted reads source blocks.
func (c *copier) loadWanted(wanted []wantedBlock) error {
	runs := runsOf(wanted)
	var total int64
	for i := range runs {
		total += runs[i].readBytes()
	}
	if int64(cap(c.memory.scratch)) < total {
		c.memory.scratch = alignedBytes(int(total))
	}
	rest := c.memory.scratch[:cap(c.memory.scratch)]
	g, ctx := errgroup.WithContext(c.ctx)
	g.SetLimit(8)
	for i := range runs {
		r := &runs[i]
		r.buf, rest = rest[:r.readBytes()], rest[r.readBytes():]
		g.Go(func() error { return c.loadRun(ctx, r) })
	}
	return g.Wait()
}

// loadRun reads the blocks of one request and copies them to where they go.
func (c *copier) loadRun(ctx context.Context, r *copyRun) error {
	key := r.blocks[0].object.Key(c.cluster)
	if err := getAtLeast(ctx, c.store, key, r.buf, int(r.to-r.from), r.from); err != nil {
		return err
	}
	for k := range r.blocks {
		w := &r.blocks[k]
		copy(w.dst, r.buf[w.block.Position-r.from:])
		if got := codec.CRC(w.dst); got != w.block.CRC {
			return fmt.Errorf("%w: %s: block at %d: CRC %08x, want %08x", ErrCorrupt, key, w.block.Position, got, w.block.CRC)
		}
	}
	return nil
}
