package tiering

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// ReapOrphans lists the bucket and deletes objects that nothing names and that nobody can name any more: left behind by crashes, by
// commits that were fenced, by puts that took effect late. An object is deleted by the first listing that finds it unnamed Grace
// or more after another listing of this Maintainer did.
//
// The order makes it safe. First who may still name objects: streams that are not sealed, and other live brokers; theirs are left
// alone. Then the listing. Then the names: what a dead writer has not named by now it never will, and what is named has its name
// in the pending list until after it is in a manifest.
func (m *Maintainer) ReapOrphans(ctx context.Context) error {
	if err := m.settle(ctx); err != nil {
		return err
	}
	live, err := m.o.Meta.LiveWriters(ctx)
	if err != nil {
		return fmt.Errorf("list live writers: %w", err)
	}
	mine := uint64(m.o.Incarnation)
	found, err := m.list(ctx, func(id segment.ID) bool {
		if !id.Kind.Sealed() {
			// Steps of this maintainer do not overlap: what it has not named when a listing runs, it gave up.
			return id.Epoch == mine || !live[id.Epoch]
		}
		return !live[id.Epoch]
	})
	if err != nil {
		return err
	}
	named, err := m.allNames(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	var keys []string
	var ids []segment.ID
	unnamed := make(map[segment.ID]time.Time, len(found))
	for _, id := range found {
		if named[id] {
			continue
		}
		if _, ok := m.retired[id]; ok {
			continue // Reap has it
		}
		since, ok := m.orphaned[id]
		if !ok {
			since = now
		}
		unnamed[id] = since
		if ok && now.Sub(since) >= m.o.Grace {
			keys, ids = append(keys, id.Key(m.cluster)), append(ids, id)
		}
	}
	m.orphaned = unnamed
	if len(keys) > 0 {
		m.o.Logger.Info("deleting orphans", "objects", len(keys))
	}
	return m.remove(ctx, keys, func(n int) {
		m.metrics.orphans.Add(ctx, int64(n))
		for _, id := range ids[:n] {
			delete(m.orphaned, id)
		}
		ids = ids[n:]
	})
}

// list returns the objects of the cluster that pass the filter. Keys that are not of the cluster's form are left alone.
func (m *Maintainer) list(ctx context.Context, keep func(segment.ID) bool) ([]segment.ID, error) {
	return listObjects(ctx, m.store, m.cluster, func(id segment.ID, _ objectstore.Info) bool { return keep(id) })
}

func listObjects(ctx context.Context, store objectstore.Store, cluster string, keep func(segment.ID, objectstore.Info) bool) ([]segment.ID, error) {
	prefixes := segment.Prefixes(cluster)
	found := make([][]segment.ID, len(prefixes))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, prefix := range prefixes {
		g.Go(func() error {
			return store.List(ctx, prefix, "", func(info objectstore.Info) error {
				if id, err := segment.ParseKey(cluster, info.Key); err == nil && keep(id, info) {
					found[i] = append(found[i], id)
				}
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	var out []segment.ID
	for _, f := range found {
		out = append(out, f...)
	}
	return out, nil
}

// allNames is everything that is named: pending objects, and what the manifests of all partitions, and of deleted topics whose
// data is not reaped yet, point at.
func (m *Maintainer) allNames(ctx context.Context) (map[segment.ID]bool, error) {
	// The pending first: what leaves the list meanwhile is in a manifest before.
	pending, err := m.o.Meta.PendingObjects(ctx)
	if err != nil {
		return nil, fmt.Errorf("list pending objects: %w", err)
	}
	named := map[segment.ID]bool{}
	for i := range pending {
		id, err := segment.ParseKey(m.cluster, pending[i].Key)
		if err != nil {
			return nil, fmt.Errorf("%w: pending object: %w", ErrCorrupt, err)
		}
		named[id] = true
	}
	note := func(q *metadata.Partition, gone bool) error {
		if q.Manifest.Key == "" {
			return nil
		}
		ref, err := manifest.DecodeRef(m.cluster, q.Manifest)
		if err != nil {
			return err
		}
		named[ref.Object] = true
		err = m.objectsOf(ctx, q, gone, func(s *manifest.Segment) error {
			named[s.Object] = true
			return nil
		}, func(child segment.ID) { named[child] = true })
		if err != nil {
			return fmt.Errorf("manifest of %v: %w", q.ID, err)
		}
		return nil
	}
	for q := range m.o.Meta.All() {
		if err := note(q, false); err != nil {
			return nil, err
		}
	}
	topics, err := m.o.Meta.DeletedTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list deleted topics: %w", err)
	}
	for _, t := range topics {
		for i := range t.Partitions {
			if err := note(&t.Partitions[i], true); err != nil {
				return nil, err
			}
		}
	}
	return named, nil
}
