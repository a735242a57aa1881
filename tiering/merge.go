package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
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

// merge is a planned merge of segments [i, j) of a partition's manifest.
type merge struct {
	owned    Owned
	record   *metadata.Partition
	manifest *manifest.Manifest
	i, j     int
	bytes    int64
}

// Merge turns small segments of owned partitions into larger ones, as far as it is worth it. What adds up to SingleBytes gets an
// object of its own; the small merges of many partitions share one, so that thousands of slow partitions cost a few requests and
// not a few each. Order: objects, manifests, pointers; the sources are retired.
func (m *Maintainer) Merge(ctx context.Context) error {
	owned := m.owned()
	var errs error
	for {
		loaded := m.preloader(owned, m.mayMerge)
		var group []merge
		var groupBytes, stateBytes int64
		progress := false
		run := func(merges []merge) {
			done, err := m.mergeTogether(ctx, merges)
			progress = progress || done
			if err != nil {
				errs = errors.Join(errs, fmt.Errorf("merge %d partitions from %v on: %w", len(merges), merges[0].owned.Partition, err))
			}
		}
		for i, o := range owned {
			if err := loaded.upTo(ctx, i); err != nil {
				return errors.Join(errs, err)
			}
			g, err := m.planMergeOf(ctx, o)
			switch {
			case err != nil:
				errs = errors.Join(errs, fmt.Errorf("merge %v: %w", o.Partition, err))
				continue
			case g == nil:
				continue
			case g.bytes >= m.o.SingleBytes:
				run([]merge{*g})
				continue
			}
			state := int64(len(g.manifest.Producers))
			if len(group) == absorbBatch || len(group) > 0 && (groupBytes+g.bytes > m.o.MaxMergeBytes || stateBytes+state > m.o.StateBytes) {
				run(group)
				group, groupBytes, stateBytes = nil, 0, 0
			}
			group, groupBytes, stateBytes = append(group, *g), groupBytes+g.bytes, stateBytes+state
		}
		if len(group) > 0 {
			run(group)
		}
		if !progress || errs != nil {
			return errs
		}
	}
}

// planMergeOf returns what is worth merging of a partition, or nil.
func (m *Maintainer) planMergeOf(ctx context.Context, o Owned) (*merge, error) {
	q, ok := m.o.Meta.Partition(o.Partition)
	if !ok {
		return nil, nil
	}
	look, err := m.outlookOf(ctx, q)
	if err != nil || !look.mergeable {
		return nil, err
	}
	mf, err := m.catalog.manifest(ctx, o.Partition, q.Manifest)
	if err != nil {
		return nil, err
	}
	g := &merge{owned: o, record: q, manifest: mf}
	g.i, g.j = planMerge(mf.Segments, m.o.MergeBytes, m.o.MaxMergeBytes, m.o.MergeCount)
	for _, s := range mf.Segments[g.i:g.j] {
		g.bytes += s.SizeBytes
	}
	if g.i == g.j {
		return nil, nil
	}
	return g, nil
}

// mergeTogether makes one object of the merges, which are sorted by partition, and publishes it. done tells whether any manifest
// names it.
func (m *Maintainer) mergeTogether(ctx context.Context, merges []merge) (done bool, err error) {
	nameBy := time.Now().Add(m.o.Grace)
	merged, index, err := m.mergeSegments(ctx, merges)
	if err != nil {
		return false, err
	}
	changes := make([]*change, len(merges))
	for k := range merges {
		g := &merges[k]
		c := newChange(g.owned, g.record, g.manifest)
		c.nameBy = nameBy
		c.dropped = slices.Clone(g.manifest.Segments[g.i:g.j])
		c.manifest.Segments = slices.Replace(c.manifest.Segments, g.i, g.j, merged[k])
		changes[k] = c
	}
	if err := m.publish(ctx, changes); err != nil {
		return false, err // what became of the object is found by listing
	}
	id := merged[0].Object
	m.metrics.merges.Add(ctx, 1)
	for k := range merges {
		g := &merges[k]
		if q, ok := m.o.Meta.Partition(g.owned.Partition); ok && q.Manifest.Generation > g.record.Manifest.Generation {
			done = true
			m.metrics.mergedBytes.Add(ctx, merged[k].SizeBytes)
			m.metrics.mergedSegments.Add(ctx, int64(g.j-g.i))
		}
	}
	return done, m.retireUnlessNamed(ctx, id, index)
}

// mergeSegments makes one object of the segments of the merges and stores it. Blocks that end at or below the log start are left
// out. It returns the segments that replace them.
func (m *Maintainer) mergeSegments(ctx context.Context, merges []merge) ([]manifest.Segment, *segment.Index, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body := &copier{ctx: ctx, cancel: cancel, store: m.store, cluster: m.cluster, memory: copyMemories.Get().(*copyMemory)}
	defer copyMemories.Put(body.memory) // m.put returns when the store has let go of the body
	kind := segment.Merged
	if len(merges) > 1 {
		kind = segment.Regrouped
	}
	id := m.newID(kind)
	parts := make([]segment.Part, len(merges))
	out := make([]manifest.Segment, len(merges))
	for k := range merges {
		out[k].Object = id
		if err := m.gatherPart(ctx, &merges[k], body, &parts[k], &out[k]); err != nil {
			return nil, nil, err
		}
	}
	layout, err := segment.Plan(segment.Header{ID: id, Cluster: m.cluster, Created: time.Now().UnixMilli()}, parts)
	if err != nil {
		return nil, nil, err
	}
	for k := range parts {
		body.blocks = append(body.blocks, parts[k].Blocks...)
	}
	started := time.Now()
	if err := m.put(ctx, id, layout.Body(body), layout.SizeBytes()); err != nil {
		return nil, nil, err
	}
	if time.Since(started) > m.o.Grace/2 {
		m.retire(id)
		return nil, nil, errSlow
	}
	f := layout.Footer
	for k := range out {
		s, part := &out[k], &parts[k]
		s.Start, s.End, s.SizeBytes, s.MaxTimestampMs = part.Start, part.End, part.SizeBytes(), part.MaxTimestampMs()
		s.IndexAt, s.IndexBytes, s.IndexCRC, s.HasAborted = f.IndexAt, f.IndexBytes, f.IndexCRC, len(part.Aborted) > 0
		if len(part.Blocks) <= manifest.MaxInlineBlocks {
			s.Blocks = part.Blocks
		}
	}
	return out, &layout.Index, nil
}

// gatherPart lists the blocks of one merge in part and in the body.
func (m *Maintainer) gatherPart(ctx context.Context, g *merge, body *copier, part *segment.Part, out *manifest.Segment) error {
	segments := g.manifest.Segments[g.i:g.j]
	*part = segment.Part{Partition: g.owned.Partition, Start: segments[0].Start, End: segments[len(segments)-1].End}
	if len(g.manifest.Producers) > 0 {
		part.Producers, part.ProducersAt = g.manifest.Producers, g.manifest.End
	}
	for i := range segments {
		s := &segments[i]
		l, err := m.catalog.locatedOf(ctx, g.owned.Partition, s)
		if err != nil {
			return err
		}
		if s.HasAborted {
			x, err := m.catalog.index(ctx, s)
			if err != nil {
				return err
			}
			part.Aborted = append(part.Aborted, x.Part(g.owned.Partition).Aborted...)
		}
		out.SealedMs = max(out.SealedMs, s.SealedMs)
		first := l.blockAt(g.record.LogStart)
		if len(part.Blocks) == 0 && first > 0 && first < len(l.blocks) {
			part.Start = l.blocks[first].BaseOffset
		}
		for k := first; k < len(l.blocks); k++ {
			body.append(part, s.Object, l.blocks[k])
		}
	}
	return nil
}
