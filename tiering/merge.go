package tiering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/codec"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// mergeLookahead bounds how many segments one merge replaces.
const mergeLookahead = 1024

// planMerge chooses adjacent segments [i, j) to be merged; j == i for none. They are all below smallBytes, together at most maxBytes,
// and either add up to smallBytes, or are at least count of which none is more than half of the result: so a byte is copied a
// number of times that grows only with the logarithm of smallBytes.
func planMerge(segments []manifest.Segment, smallBytes, maxBytes int64, count int) (i, j int) {
	for i := range segments {
		var total, largest int64
		best := i
		for j := i; j < min(len(segments), i+mergeLookahead); j++ {
			s := &segments[j]
			if s.SizeBytes >= smallBytes || total+s.SizeBytes > maxBytes {
				break
			}
			total += s.SizeBytes
			largest = max(largest, s.SizeBytes)
			if n := j + 1 - i; n >= 2 && (total >= smallBytes || n >= count && largest <= total/2) {
				best = j + 1
			}
		}
		if best > i {
			return i, best
		}
	}
	return 0, 0
}

// Merge turns small segments of owned partitions into single objects, as far as there are any worth it. Order: object, manifest,
// pointer; the sources are retired.
func (m *Maintainer) Merge(ctx context.Context) error {
	var errs error
	for _, o := range m.o.Owner.Owned() {
		for ctx.Err() == nil {
			q, ok := m.o.Meta.Partition(o.Partition)
			if !ok {
				break
			}
			look, err := m.outlookOf(ctx, q)
			if err == nil && look.mergeable {
				err = m.mergeOnce(ctx, o, q)
			}
			if err != nil {
				errs = errors.Join(errs, fmt.Errorf("merge %v: %w", o.Partition, err))
			}
			if err != nil || !look.mergeable {
				break
			}
			if q2, ok := m.o.Meta.Partition(o.Partition); !ok || q2.Manifest.Generation == q.Manifest.Generation {
				break // given up: somebody else owns the partition now
			}
		}
	}
	if ctx.Err() != nil {
		return errors.Join(errs, context.Cause(ctx))
	}
	return errs
}

func (m *Maintainer) mergeOnce(ctx context.Context, o Owned, q *metadata.Partition) error {
	old, err := m.catalog.manifest(ctx, o.Partition, q.Manifest)
	if err != nil {
		return err
	}
	i, j := planMerge(old.Segments, m.o.MergeBytes, m.o.MaxMergeBytes, m.o.MergeCount)
	if i == j {
		m.look(old)
		return nil
	}
	merged, err := m.mergeSegments(ctx, old, old.Segments[i:j], q.LogStart)
	if err != nil {
		return err
	}
	c := newChange(o, q, old)
	c.dropped = slices.Clone(old.Segments[i:j])
	c.manifest.Segments = slices.Replace(c.manifest.Segments, i, j, merged)
	before := c.manifest.Generation
	if err := m.publish(ctx, []*change{c}); err != nil {
		return err
	}
	if now, ok := m.o.Meta.Partition(o.Partition); !ok || now.Manifest.Generation < before {
		m.retire(merged.Object) // the swap was refused
		return nil
	}
	m.metrics.merges.Add(ctx, 1)
	m.metrics.mergedBytes.Add(ctx, merged.SizeBytes)
	m.metrics.mergedSegments.Add(ctx, int64(j-i))
	return nil
}

// mergeSegments makes one object of segments and stores it. Blocks that end at or below logStart are left out.
func (m *Maintainer) mergeSegments(ctx context.Context, mf *manifest.Manifest, segments []manifest.Segment, logStart metadata.Offset) (manifest.Segment, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body := &copier{ctx: ctx, cancel: cancel, store: m.store, cluster: m.cluster}
	part := segment.Part{Partition: mf.Partition, Start: segments[0].Start, End: segments[len(segments)-1].End,
		Producers: mf.Producers, ProducersAt: mf.End}
	out := manifest.Segment{Object: m.newID(segment.Merged), MaxTimestampMs: -1}
	for i := range segments {
		s := &segments[i]
		l, err := m.catalog.locatedOf(ctx, mf.Partition, s)
		if err != nil {
			return out, err
		}
		if s.HasAborted {
			x, err := m.catalog.index(ctx, s)
			if err != nil {
				return out, err
			}
			part.Aborted = append(part.Aborted, x.Part(mf.Partition).Aborted...)
		}
		out.SealedMs = max(out.SealedMs, s.SealedMs)
		first := l.blockAt(logStart)
		if len(part.Blocks) == 0 && first > 0 && first < len(l.blocks) {
			part.Start = l.blocks[first].BaseOffset
		}
		for k := first; k < len(l.blocks); k++ {
			body.append(&part, s.Object, l.blocks[k])
		}
	}
	layout, err := segment.Plan(segment.Header{ID: out.Object, Cluster: m.cluster, Created: time.Now().UnixMilli()}, []segment.Part{part})
	if err != nil {
		return out, err
	}
	body.blocks = part.Blocks
	started := time.Now()
	if err := m.put(ctx, out.Object, layout.Body(body), layout.SizeBytes()); err != nil {
		return out, err
	}
	if time.Since(started) > m.o.Grace/2 {
		m.retire(out.Object)
		return out, errSlow
	}
	f := layout.Footer
	out.Start, out.End, out.SizeBytes, out.MaxTimestampMs = part.Start, part.End, part.SizeBytes(), part.MaxTimestampMs()
	out.IndexAt, out.IndexBytes, out.IndexCRC, out.HasAborted = f.IndexAt, f.IndexBytes, f.IndexCRC, len(part.Aborted) > 0
	if len(part.Blocks) <= manifest.MaxInlineBlocks {
		out.Blocks = part.Blocks
	}
	return out, nil
}

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
	window []byte
	from   int64 // position of the window
	to     int64
}

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
			c.sources[n-1] = append(c.sources[n-1], source{object, b})
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
	if cap(c.window) < n {
		c.window = make([]byte, n)
	}
	c.window = c.window[:n]
	err := c.loadSources(slices.Concat(c.sources[i:j]...))
	if err != nil {
		c.to = c.from
	}
	return err
}

// loadSources fills the window from source blocks that lie one after another in it, with one request where they are adjacent in
// their object too.
func (c *copier) loadSources(sources []source) error {
	g, ctx := errgroup.WithContext(c.ctx)
	g.SetLimit(8)
	at := 0
	for i := 0; i < len(sources); {
		j, n := i, 0
		for j < len(sources) && sources[j].object == sources[i].object && sources[j].block.Position == sources[i].block.Position+int64(n) {
			n += int(sources[j].block.Length)
			j++
		}
		run, dst := sources[i:j], c.window[at:at+n]
		g.Go(func() error {
			key := run[0].object.Key(c.cluster)
			if err := getRange(ctx, c.store, key, dst, run[0].block.Position); err != nil {
				return err
			}
			for k := range run {
				b := &run[k].block
				part := dst[b.Position-run[0].block.Position:][:b.Length]
				if got := codec.CRC(part); got != b.CRC {
					return fmt.Errorf("%w: %s: block at %d: CRC %08x, want %08x", ErrCorrupt, key, b.Position, got, b.CRC)
				}
			}
			return nil
		})
		i, at = j, at+n
	}
	return g.Wait()
}
