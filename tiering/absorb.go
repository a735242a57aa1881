package tiering

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/producers"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// change is a new generation of a partition's manifest that is not published yet.
type change struct {
	owned    Owned
	record   *metadata.Partition // as it was when the change was planned
	manifest *manifest.Manifest
	dropped  []manifest.Segment // that the new generation does not name
	children []segment.ID       // child objects that it does not name
	nameBy   time.Time          // when set, the change must be published before, or not at all; see errSlow
}

// Absorb folds pending objects into the manifests of owned partitions, drops segments below log starts, and forgets the pending
// objects that all partitions cover. Order: children, manifests, pointers in etcd, pending keys.
func (m *Maintainer) Absorb(ctx context.Context) error {
	pending := m.catalog.pendingList()
	var errs error
	var batch []*change
	var stateBytes int64
	loaded := m.preloader(m.owned(), m.mayAbsorb)
	for i, o := range loaded.owned {
		if err := loaded.upTo(ctx, i); err != nil {
			return errors.Join(errs, err)
		}
		c, err := m.planAbsorb(ctx, o)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			errs = errors.Join(errs, fmt.Errorf("%v: %w", o.Partition, err))
			continue
		}
		if c == nil {
			continue
		}
		batch, stateBytes = append(batch, c), stateBytes+int64(len(c.manifest.Producers))
		if len(batch) == absorbBatch || stateBytes > m.o.StateBytes {
			errs = errors.Join(errs, m.publish(ctx, batch))
			batch, stateBytes = batch[:0], 0
		}
	}
	errs = errors.Join(errs, m.publish(ctx, batch))
	return errors.Join(errs, m.forgetCovered(ctx, pending))
}

// absorbBatch, and MaintainerOptions.StateBytes, bound how many planned manifests are in memory at once.
const absorbBatch = 1000

// planAbsorb makes the next generation of a partition's manifest; nil when the present one will do.
func (m *Maintainer) planAbsorb(ctx context.Context, o Owned) (*change, error) {
	q, pieces, err := m.catalog.view(o.Partition)
	if errors.Is(err, ErrUnknownPartition) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(pieces) == 0 {
		look, err := m.outlookOf(ctx, q)
		if err != nil || look.empty || look.firstEnd > q.LogStart {
			return nil, err
		}
	}
	old, err := m.catalog.manifest(ctx, o.Partition, q.Manifest)
	if err != nil {
		return nil, err
	}
	c := newChange(o, q, old)
	changed, err := m.dropBelow(ctx, c, q.LogStart)
	if err != nil {
		return nil, err
	}
	if len(pieces) == 0 && !changed {
		// A child whose first segment still reaches above the log start: look again when it does not.
		look := m.look(old)
		look.firstEnd = q.LogStart + 1
		m.outlooks[o.Partition] = look
		return nil, nil
	}
	if err := m.takeIn(c, pieces); err != nil {
		return nil, err
	}
	c.manifest.Epochs = manifest.TrimEpochs(c.manifest.Epochs, q.LogStart)
	return c, nil
}

func newChange(o Owned, q *metadata.Partition, old *manifest.Manifest) *change {
	next := *old
	next.Generation = q.Manifest.Generation + 1
	next.CreatedMs = time.Now().UnixMilli()
	next.Segments = slices.Clone(old.Segments)
	next.Children = slices.Clone(old.Children)
	next.Epochs = slices.Clone(old.Epochs)
	return &change{owned: o, record: q, manifest: &next}
}

// takeIn appends pending pieces to the manifest of c.
func (m *Maintainer) takeIn(c *change, pieces []piece) error {
	mf := c.manifest
	var state *producers.State
	for _, q := range pieces {
		part := q.part
		if part.Start != mf.End {
			return fmt.Errorf("%w: %s: offsets [%d, %d) come next after %d", ErrCorrupt, q.object.record.Key, part.Start, part.End, mf.End)
		}
		if len(part.Producers) > 0 {
			if state == nil {
				var err error
				if state, err = decodeProducers(mf.Producers); err != nil {
					return err
				}
			}
			delta, err := decodeProducers(part.Producers)
			if err != nil {
				return fmt.Errorf("%s: %w", q.object.record.Key, err)
			}
			state.Merge(delta)
		}
		for i := range part.Blocks {
			mf.Epochs = manifest.AppendEpoch(mf.Epochs, part.Blocks[i].LeaderEpoch, part.Blocks[i].BaseOffset)
		}
		mf.End = part.End
		if part.End <= c.record.LogStart {
			continue // gone before it was listed
		}
		s := segmentOf(q)
		if len(s.Blocks) > manifest.MaxInlineBlocks {
			s.Blocks = nil
		}
		mf.Segments = append(mf.Segments, s)
	}
	if state != nil {
		state.Expire(time.Now().UnixMilli(), m.o.ProducerExpiry.Milliseconds())
		mf.Producers = nil
		if state.Len() > 0 {
			mf.Producers = state.Encode(nil)
		}
	}
	return nil
}

func decodeProducers(b []byte) (*producers.State, error) {
	if len(b) == 0 {
		return &producers.State{}, nil
	}
	s, err := producers.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%w: producer state: %w", ErrCorrupt, err)
	}
	return s, nil
}

// dropBelow takes segments that end at or below logStart out of the manifest of c. Where the oldest child is only partly below, its
// rest comes back into the list for now; publish spills it again.
func (m *Maintainer) dropBelow(ctx context.Context, c *change, logStart metadata.Offset) (changed bool, err error) {
	mf := c.manifest
	for len(mf.Children) > 0 && mf.Children[0].Start < logStart {
		child := &mf.Children[0]
		segments, err := m.catalog.child(ctx, mf.Partition, child)
		if err != nil {
			return false, err
		}
		n := below(segments, logStart)
		if n == 0 {
			return changed, nil
		}
		c.dropped = append(c.dropped, segments[:n]...)
		c.children = append(c.children, child.Object)
		changed = true
		if n < len(segments) {
			// The rest of the child becomes a child of its own: only the front of the list may be inline before a child is not.
			rest, err := m.putChild(ctx, mf.Partition, segments[n:])
			if err != nil {
				return false, err
			}
			mf.Children[0] = rest
			return true, nil
		}
		mf.Children = mf.Children[1:]
	}
	if len(mf.Children) > 0 {
		return changed, nil
	}
	n := below(mf.Segments, logStart)
	c.dropped = append(c.dropped, mf.Segments[:n]...)
	mf.Segments = slices.Clone(mf.Segments[n:])
	return changed || n > 0, nil
}

// below counts the leading segments that end at or below logStart.
func below(segments []manifest.Segment, logStart metadata.Offset) int {
	n := 0
	for n < len(segments) && segments[n].End <= logStart {
		n++
	}
	return n
}

// putChild stores segments as a child.
func (m *Maintainer) putChild(ctx context.Context, p metadata.PartitionID, segments []manifest.Segment) (manifest.Child, error) {
	b, err := manifest.AppendChild(nil, p, segments)
	if err != nil {
		return manifest.Child{}, err
	}
	id := m.newID(segment.Manifests)
	if err := m.put(ctx, id, bytes.NewReader(b), int64(len(b))); err != nil {
		return manifest.Child{}, err
	}
	return manifest.NewChild(segments, manifest.Ref{Object: id, Length: int64(len(b))}, crcOf(b)), nil
}

// forgetCovered deletes the pending keys of objects that are covered by the manifests of all their partitions; a partition that does
// not exist any more needs nothing.
func (m *Maintainer) forgetCovered(ctx context.Context, pending []*pendingObject) error {
	var covered []*pendingObject
	var records []metadata.PendingObject
	for _, o := range pending {
		if m.isCovered(o) {
			covered = append(covered, o)
			records = append(records, o.record)
		}
	}
	if len(covered) == 0 {
		return nil
	}
	if err := m.o.Meta.DeletePending(ctx, m.o.Broker, m.o.Incarnation, records); err != nil {
		return fmt.Errorf("delete %d pending objects: %w", len(records), err)
	}
	m.catalog.remove(covered)
	m.metrics.absorbed.Add(ctx, int64(len(covered)))
	var errs error
	for _, o := range covered {
		errs = errors.Join(errs, m.retireUnlessNamed(ctx, o.id, o.index))
	}
	return errs
}

func (m *Maintainer) isCovered(o *pendingObject) bool {
	for i := range o.index.Parts {
		p := &o.index.Parts[i]
		if q, ok := m.o.Meta.Partition(p.Partition); ok && q.Manifest.End < p.End {
			return false
		}
	}
	return true
}
