package tiering

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
)

const (
	syncParallel = 32 // indexes read at once
	// syncAttempts bounds how often the list is read anew because an object of it is gone: it was absorbed and deleted meanwhile, which takes
	// the grace of readers.
	syncAttempts = 4
)

// PendingLister lists the pending objects of the cluster. *metadata.Store is one.
type PendingLister interface {
	PendingObjects(ctx context.Context) ([]metadata.PendingObject, error)
}

// Load reads the list of pending objects from meta and the index of each from the store, with one request per object, many at
// once. Failing requests are repeated until ctx is done. It must return before the catalog is asked anything.
func (c *Catalog) Load(ctx context.Context, meta PendingLister) error {
	if err := c.sync(ctx, meta, false); err != nil {
		return fmt.Errorf("load pending objects: %w", err)
	}
	return nil
}

// Sync brings in what other brokers have committed and lets go of what they have absorbed, as of some moment during the call. It must be
// called after a partition was acquired and before it is opened: the former owner's last objects are only then known here. Safe for
// concurrent use; failing requests are repeated until ctx is done.
func (c *Catalog) Sync(ctx context.Context, meta PendingLister) error {
	if err := c.sync(ctx, meta, true); err != nil {
		return fmt.Errorf("follow pending objects: %w", err)
	}
	return nil
}

func (c *Catalog) sync(ctx context.Context, meta PendingLister, foreign bool) error {
	select {
	case c.syncing <- struct{}{}:
		defer func() { <-c.syncing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for attempt := 1; ; attempt++ {
		err := c.syncOnce(ctx, meta, foreign)
		if !errors.Is(err, objectstore.ErrNotFound) || attempt == syncAttempts {
			return err
		}
	}
}

// syncOnce reads the list once. What was added after it began to read is left alone: the list may be older.
func (c *Catalog) syncOnce(ctx context.Context, meta PendingLister, foreign bool) error {
	c.mu.RLock()
	began := c.additions
	c.mu.RUnlock()
	records, err := meta.PendingObjects(ctx)
	if err != nil {
		return fmt.Errorf("list them: %w", err)
	}
	missing, gone := c.compare(records, began)
	c.remove(gone)
	loaded := make([]*pendingObject, len(missing))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(syncParallel)
	for i := range missing {
		g.Go(func() (err error) {
			if loaded[i], err = c.readPending(ctx, missing[i]); err == nil {
				loaded[i].foreign = foreign
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.add(loaded)
	return nil
}

// compare returns the records that the catalog lacks, and what it has had since before began and is not in records.
func (c *Catalog) compare(records []metadata.PendingObject, began uint64) (missing []metadata.PendingObject, gone []*pendingObject) {
	type id struct {
		stream metadata.StreamID
		seq    uint64
	}
	listed := make(map[id]bool, len(records))
	for i := range records {
		listed[id{records[i].Stream, records[i].Seq}] = true
	}
	known := make(map[id]bool, len(records))
	for _, o := range c.pendingList() {
		at := id{o.record.Stream, o.record.Seq}
		known[at] = true
		if !listed[at] && o.since <= began {
			gone = append(gone, o)
		}
	}
	for i := range records {
		if !known[id{records[i].Stream, records[i].Seq}] {
			missing = append(missing, records[i])
		}
	}
	return missing, gone
}
