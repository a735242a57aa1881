package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// retire notes that nothing names an object from now on.
func (m *Maintainer) retire(id segment.ID) {
	if _, ok := m.retired[id]; !ok {
		m.retired[id] = time.Now()
	}
}

// dropSegment notes that the manifest of p does not name the segment's object any more. A shared object may be named by others.
func (m *Maintainer) dropSegment(ctx context.Context, p metadata.PartitionID, s *manifest.Segment) error {
	if !s.Object.Kind.Many() {
		m.retire(s.Object)
		return nil
	}
	if by, ok := m.blocked[s.Object]; ok && by != p {
		return nil
	}
	if _, ok := m.retired[s.Object]; ok {
		return nil
	}
	x, err := m.catalog.index(ctx, s)
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("drop %s: %w", s.Object.Key(m.cluster), err)
	}
	return m.retireUnlessNamed(ctx, s.Object, x)
}

// retireUnlessNamed retires an object if neither the pending list nor any manifest names it.
func (m *Maintainer) retireUnlessNamed(ctx context.Context, id segment.ID, x *segment.Index) error {
	delete(m.blocked, id)
	for i := range x.Parts {
		part := &x.Parts[i]
		named, err := m.names(ctx, part, id)
		if err != nil {
			return fmt.Errorf("look who names %s: %w", id.Key(m.cluster), err)
		}
		if named {
			if id.Kind.Many() {
				m.blocked[id] = part.Partition
			}
			return nil
		}
	}
	m.retire(id)
	return nil
}

// names tells whether the partition of part has the object in its manifest, or will have it.
func (m *Maintainer) names(ctx context.Context, part *segment.Part, id segment.ID) (bool, error) {
	q, ok := m.o.Meta.Partition(part.Partition)
	if !ok {
		return false, nil
	}
	if q.Manifest.End < part.End {
		return true, nil // still pending for it
	}
	mf, err := m.catalog.manifest(ctx, part.Partition, q.Manifest)
	if err != nil {
		return false, err
	}
	s, err := m.catalog.findSegment(ctx, mf, part.Start)
	return s != nil && s.Object == id, err
}

// Reap deletes the retired objects whose grace is over.
func (m *Maintainer) Reap(ctx context.Context) error {
	now := time.Now()
	var due []segment.ID
	for id, since := range m.retired {
		if now.Sub(since) >= m.o.Grace {
			due = append(due, id)
		}
	}
	if len(due) == 0 {
		return nil
	}
	if err := m.settle(ctx); err != nil {
		return err
	}
	named, err := m.pointers(ctx)
	if err != nil {
		return err
	}
	for _, o := range m.catalog.pendingList() {
		named[o.id] = true
	}
	var keys []string
	var ids []segment.ID
	for _, id := range due {
		if named[id] {
			// A manifest object that other partitions are still in, or a pending object: whoever lets go of it last retires it again.
			delete(m.retired, id)
			continue
		}
		ids = append(ids, id)
		keys = append(keys, id.Key(m.cluster))
	}
	return m.remove(ctx, keys, func(n int) {
		for _, id := range ids[:n] {
			delete(m.retired, id)
		}
		ids = ids[n:]
	})
}

// remove deletes objects in bounded portions and calls done after each with its length.
func (m *Maintainer) remove(ctx context.Context, keys []string, done func(n int)) error {
	for len(keys) > 0 {
		n := min(len(keys), 500)
		err := attempt(ctx, time.Minute, func(ctx context.Context) error { return m.store.Delete(ctx, keys[:n]...) })
		if err != nil {
			return fmt.Errorf("delete %d objects: %w", n, err)
		}
		m.metrics.reaped.Add(ctx, int64(n))
		done(n)
		keys = keys[n:]
	}
	return nil
}

// pointers is the set of objects that etcd's manifest pointers name, those of deleted topics included.
func (m *Maintainer) pointers(ctx context.Context) (map[segment.ID]bool, error) {
	named := map[segment.ID]bool{}
	last := ""
	note := func(ref metadata.ManifestRef) error {
		key, _, _ := strings.Cut(ref.Key, "@")
		if key == "" || key == last {
			return nil
		}
		id, err := segment.ParseKey(m.cluster, key)
		if err != nil {
			return fmt.Errorf("%w: manifest pointer: %w", ErrCorrupt, err)
		}
		named[id], last = true, key
		return nil
	}
	// Tombstones last: a topic that is deleted in between is in at least one of the two.
	for q := range m.o.Meta.All() {
		if err := note(q.Manifest); err != nil {
			return nil, err
		}
	}
	topics, err := m.o.Meta.DeletedTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list deleted topics: %w", err)
	}
	for _, t := range topics {
		for i := range t.Partitions {
			if err := note(t.Partitions[i].Manifest); err != nil {
				return nil, err
			}
		}
	}
	return named, nil
}

// ReapTopics deletes the data of topics that were deleted at least Grace ago, also their share in shared objects once nobody else
// names those, and then their tombstones.
func (m *Maintainer) ReapTopics(ctx context.Context) error {
	topics, err := m.o.Meta.DeletedTopics(ctx)
	if err != nil {
		return fmt.Errorf("list deleted topics: %w", err)
	}
	var errs error
	for _, t := range topics {
		for i := range t.Partitions {
			delete(m.outlooks, t.Partitions[i].ID)
		}
		if time.Since(time.UnixMilli(t.DeletedMillis)) < m.o.Grace {
			continue
		}
		if err := m.reapTopic(ctx, t); err != nil {
			errs = errors.Join(errs, fmt.Errorf("topic %s (%s): %w", t.Name, t.ID, err))
		}
	}
	return errs
}

func (m *Maintainer) reapTopic(ctx context.Context, t metadata.DeletedTopic) error {
	gone := map[segment.ID]bool{}
	var packs []segment.ID
	for i := range t.Partitions {
		q := &t.Partitions[i]
		if q.Manifest.Key == "" {
			continue
		}
		ref, err := manifest.DecodeRef(m.cluster, q.Manifest)
		if err != nil {
			return err
		}
		packs = append(packs, ref.Object)
		err = m.objectsOf(ctx, q, true, func(s *manifest.Segment) error {
			unnamed, err := m.unnamedWithout(ctx, s)
			switch {
			case err != nil || !unnamed:
			case s.Object.Kind.Many():
				// Another partition may have let go of it just now: its readers have their own grace.
				m.retire(s.Object)
			default:
				gone[s.Object] = true
			}
			return err
		}, func(child segment.ID) { gone[child] = true })
		if err != nil {
			return err
		}
	}
	keys := make([]string, 0, len(gone))
	for id := range gone {
		keys = append(keys, id.Key(m.cluster))
	}
	if err := m.remove(ctx, keys, func(int) {}); err != nil {
		return err
	}
	if err := m.o.Meta.PurgeTopic(ctx, t.ID); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	// The manifests last, and only by way of the retired: other partitions may be in the same objects.
	for _, id := range packs {
		m.retire(id)
	}
	m.o.Logger.Info("data of a deleted topic is gone", "topic", t.Name, "id", t.ID, "objects", len(keys))
	return nil
}

// objectsOf calls fn for each segment of a partition, and child for each of its child objects. Of a partition that is gone, what has
// been deleted already is passed over.
func (m *Maintainer) objectsOf(ctx context.Context, q *metadata.Partition, gone bool, fn func(*manifest.Segment) error, child func(segment.ID)) error {
	missing := func(err error) bool { return gone && errors.Is(err, objectstore.ErrNotFound) }
	mf, err := m.catalog.manifest(ctx, q.ID, q.Manifest)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	segments := slices.Clone(mf.Segments)
	for i := range mf.Children {
		more, err := m.catalog.child(ctx, q.ID, &mf.Children[i])
		if err != nil && !missing(err) {
			return err
		}
		segments = append(segments, more...)
		child(mf.Children[i].Object)
	}
	for i := range segments {
		if err := fn(&segments[i]); err != nil {
			return err
		}
	}
	return nil
}

// unnamedWithout tells whether no partition that exists names the segment's object, and it is not pending.
func (m *Maintainer) unnamedWithout(ctx context.Context, s *manifest.Segment) (bool, error) {
	for _, o := range m.catalog.pendingList() {
		if o.id == s.Object {
			return false, nil // it is retired when it stops being pending
		}
	}
	if !s.Object.Kind.Many() {
		return true, nil
	}
	x, err := m.catalog.index(ctx, s)
	if errors.Is(err, objectstore.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for i := range x.Parts {
		named, err := m.names(ctx, &x.Parts[i], s.Object)
		if named || err != nil {
			return false, err
		}
	}
	return true, nil
}
