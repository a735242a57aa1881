package tiering

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

func nonce() uint64 { return rand.Uint64() }

// errSlow says that an object took so long to be put that it must not be named any more: somebody who lists the bucket may have
// taken it for an orphan.
var errSlow = errors.New("object was stored too late to be named")

// put stores an object of maintenance. An object that fails to be stored may still turn up, and is retired.
func (m *Maintainer) put(ctx context.Context, id segment.ID, body objectstore.Body, sizeBytes int64) error {
	key := id.Key(m.cluster)
	failures := 0
	err := settlePut(ctx, m.store, key, id.Nonce, body, transferLimit(sizeBytes), func(err error) {
		if failures++; failures&(failures-1) == 0 {
			m.o.Logger.Warn("object store does not take an object of maintenance, trying again", "key", key, "bytes", sizeBytes, "failures", failures, "error", err)
		}
	})
	if err != nil {
		m.retire(id)
	}
	return err
}

// publish stores the manifests of the changes, many in one object, and swaps the pointers in etcd. Changes whose partition has
// another owner or manifest by now are given up. A manifest that is too large keeps its own partition from being published, and no
// other.
func (m *Maintainer) publish(ctx context.Context, changes []*change) error {
	var tooLarge error
	for len(changes) > 0 {
		var pack []byte
		var refs []manifest.Ref
		id := m.newID(segment.Manifests)
		started := time.Now()
		var packed []*change
		for len(changes) > 0 && (len(pack) < m.o.PackBytes || len(refs) == 0) {
			c := changes[0]
			changes = changes[1:]
			if err := m.spill(ctx, c.manifest); err != nil {
				return errors.Join(tooLarge, err) // the children that were stored are found by listing
			}
			at := len(pack)
			var err error
			if pack, err = manifest.Append(pack, c.manifest); err != nil {
				tooLarge = errors.Join(tooLarge, err)
				continue
			}
			packed = append(packed, c)
			refs = append(refs, manifest.Ref{Object: id, Position: int64(at), Length: int64(len(pack) - at)})
		}
		if len(packed) == 0 {
			break
		}
		if err := m.put(ctx, id, bytes.NewReader(pack), int64(len(pack))); err != nil {
			return errors.Join(tooLarge, fmt.Errorf("store manifests: %w", err))
		}
		now := time.Now()
		late := func(c *change) bool { return !c.nameBy.IsZero() && now.After(c.nameBy) }
		if now.Sub(started) > m.o.Grace/2 || slices.ContainsFunc(packed, late) {
			m.retire(id)
			return errors.Join(tooLarge, fmt.Errorf("store manifests: %w", errSlow))
		}
		if err := m.swap(ctx, id, packed, refs); err != nil {
			return errors.Join(tooLarge, err)
		}
	}
	return tooLarge
}

// spill moves old segments of a long manifest to children.
func (m *Maintainer) spill(ctx context.Context, mf *manifest.Manifest) error {
	for {
		n := mf.Spill(m.o.InlineBytes, m.o.InlineBytes*3/4)
		if n == 0 {
			return nil
		}
		child, err := m.putChild(ctx, mf.Partition, mf.Segments[:n])
		if err != nil {
			return fmt.Errorf("spill manifest of %v: %w", mf.Partition, err)
		}
		mf.Children = append(mf.Children, child)
		mf.Segments = mf.Segments[n:]
	}
}

// swap points etcd at the new manifests. What a swapped change does not name any more is retired.
func (m *Maintainer) swap(ctx context.Context, pack segment.ID, changes []*change, refs []manifest.Ref) error {
	swaps := make([]metadata.ManifestSwap, len(changes))
	for i, c := range changes {
		swaps[i] = metadata.ManifestSwap{Partition: c.owned.Partition, LeaderEpoch: c.owned.LeaderEpoch, Old: c.record.Manifest.Generation,
			New: manifest.EncodeRef(m.cluster, refs[i], c.manifest.Generation, c.manifest.End)}
	}
	errs := m.retireSettled(ctx)
	failed := m.trySwap(ctx, swaps)
	for i, c := range changes {
		if failed[i] != nil {
			m.retire(pack)
			if !isLost(failed[i]) {
				m.doubtful[c.owned.Partition] = append(m.doubtful[c.owned.Partition], doubtfulChange{c, swaps[i].New})
				errs = errors.Join(errs, fmt.Errorf("swap manifest of %v: %w", c.owned.Partition, failed[i]))
			}
			continue
		}
		m.catalog.remember(c.owned.Partition, c.record.Manifest, swaps[i].New, c.manifest)
		m.look(c.manifest)
		m.metrics.published.Add(ctx, 1)
	}
	// Only now, with all of them known: an object that several of them shared is looked at once.
	for i, c := range changes {
		if failed[i] == nil {
			errs = errors.Join(errs, m.retireOld(ctx, c))
		}
	}
	return errs
}

// isLost tells whether a swap was certainly not performed, nor will be: the metadata's image has what is there instead.
func isLost(err error) bool {
	return errors.Is(err, metadata.ErrConflict) || errors.Is(err, metadata.ErrFenced) || errors.Is(err, metadata.ErrNotFound)
}

// trySwap swaps pointers in etcd and returns the errors by index. Swaps whose outcome is unknown are noted: until they are
// settled, the image may lack pointers that etcd has.
func (m *Maintainer) trySwap(ctx context.Context, swaps []metadata.ManifestSwap) map[int]error {
	failed := map[int]error{}
	err := m.o.Meta.SwapManifests(ctx, swaps)
	var partial *metadata.PartialError
	isPartial := errors.As(err, &partial)
	for i, s := range swaps {
		if isPartial {
			err = partial.Errors[i]
		}
		if err == nil || isLost(err) {
			delete(m.unsettled, s.Partition)
		} else {
			m.unsettled[s.Partition] = s
		}
		if err != nil {
			failed[i] = err
		}
	}
	return failed
}

// settle repeats the swaps of unknown outcome, so that the image has what etcd has. It must succeed before anything is deleted
// because the image does not name it.
func (m *Maintainer) settle(ctx context.Context) error {
	if len(m.unsettled) == 0 {
		return m.retireSettled(ctx)
	}
	failed := m.trySwap(ctx, slices.Collect(maps.Values(m.unsettled)))
	if len(m.unsettled) == 0 {
		return m.retireSettled(ctx)
	}
	for _, err := range failed {
		if !isLost(err) {
			return fmt.Errorf("what became of the swaps of %d manifests is unknown: %w", len(m.unsettled), err)
		}
	}
	return nil
}

// doubtfulChange is a change that may have been published as now.
type doubtfulChange struct {
	change *change
	now    metadata.ManifestRef
}

// retireSettled does for changes of unknown outcome, once the image shows that they took effect, what swap does for the others: otherwise what
// they do not name any more would stay until the stream's end. A change is let go when the image shows that something else took its place.
func (m *Maintainer) retireSettled(ctx context.Context) error {
	var errs error
	for p, doubts := range m.doubtful {
		q, ok := m.o.Meta.Partition(p)
		_, open := m.unsettled[p]
		var keep []doubtfulChange
		for _, d := range doubts {
			switch {
			case ok && q.Manifest.Key == d.now.Key && q.Manifest.Generation == d.now.Generation:
				errs = errors.Join(errs, m.retireOld(ctx, d.change))
			case ok && (open || q.Manifest.Generation < d.now.Generation):
				keep = append(keep, d)
			}
		}
		if m.doubtful[p] = keep; len(keep) == 0 {
			delete(m.doubtful, p)
		}
	}
	return errs
}

// retireOld retires what a published change does not name any more.
func (m *Maintainer) retireOld(ctx context.Context, c *change) error {
	if old := c.record.Manifest; old.Key != "" {
		if ref, err := manifest.DecodeRef(m.cluster, old); err == nil {
			m.retire(ref.Object)
		}
	}
	for _, id := range c.children {
		m.retire(id)
	}
	m.metrics.dropped.Add(ctx, int64(len(c.dropped)))
	var errs error
	for i := range c.dropped {
		errs = errors.Join(errs, m.dropSegment(ctx, c.owned.Partition, &c.dropped[i]))
	}
	return errs
}
