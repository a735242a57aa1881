package tiering

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
// another owner or manifest by now are given up.
func (m *Maintainer) publish(ctx context.Context, changes []*change) error {
	for len(changes) > 0 {
		var pack []byte
		var refs []manifest.Ref
		id := m.newID(segment.Manifests)
		started := time.Now()
		for len(refs) < len(changes) && (len(pack) < m.o.PackBytes || len(refs) == 0) {
			mf := changes[len(refs)].manifest
			if err := m.spill(ctx, mf); err != nil {
				return err // the children that were stored are found by listing
			}
			at := len(pack)
			pack = manifest.Append(pack, mf)
			refs = append(refs, manifest.Ref{Object: id, Position: int64(at), Length: int64(len(pack) - at)})
		}
		if err := m.put(ctx, id, bytes.NewReader(pack), int64(len(pack))); err != nil {
			return fmt.Errorf("store manifests: %w", err)
		}
		if time.Since(started) > m.o.Grace/2 {
			m.retire(id)
			return fmt.Errorf("store manifests: %w", errSlow)
		}
		if err := m.swap(ctx, id, changes[:len(refs)], refs); err != nil {
			return err
		}
		changes = changes[len(refs):]
	}
	return nil
}

// spill moves old segments of a long manifest to children.
func (m *Maintainer) spill(ctx context.Context, mf *manifest.Manifest) error {
	for n := mf.Spill(); n > 0; n = mf.Spill() {
		child, err := m.putChild(ctx, mf.Partition, mf.Segments[:n])
		if err != nil {
			return fmt.Errorf("spill manifest of %v: %w", mf.Partition, err)
		}
		mf.Children = append(mf.Children, child)
		mf.Segments = mf.Segments[n:]
	}
	return nil
}

// swap points etcd at the new manifests. What a swapped change does not name any more is retired.
func (m *Maintainer) swap(ctx context.Context, pack segment.ID, changes []*change, refs []manifest.Ref) error {
	swaps := make([]metadata.ManifestSwap, len(changes))
	for i, c := range changes {
		swaps[i] = metadata.ManifestSwap{Partition: c.owned.Partition, LeaderEpoch: c.owned.LeaderEpoch, Old: c.record.Manifest.Generation,
			New: manifest.EncodeRef(m.cluster, refs[i], c.manifest.Generation, c.manifest.End)}
	}
	err := m.o.Meta.SwapManifests(ctx, swaps)
	var partial *metadata.PartialError
	if err != nil && !errors.As(err, &partial) {
		// Perhaps some were swapped: whether the pack is named is looked up before it is deleted.
		m.retire(pack)
		return fmt.Errorf("swap %d manifests: %w", len(swaps), err)
	}
	var errs error
	for i, c := range changes {
		if partial != nil && partial.Errors[i] != nil {
			m.retire(pack)
			if lost := partial.Errors[i]; !errors.Is(lost, metadata.ErrConflict) && !errors.Is(lost, metadata.ErrFenced) && !errors.Is(lost, metadata.ErrNotFound) {
				errs = errors.Join(errs, fmt.Errorf("swap manifest of %v: %w", c.owned.Partition, lost))
			}
			continue
		}
		m.catalog.remember(c.owned.Partition, c.record.Manifest, swaps[i].New, c.manifest)
		m.look(c.manifest)
		m.metrics.published.Add(ctx, 1)
		errs = errors.Join(errs, m.retireOld(ctx, c))
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
