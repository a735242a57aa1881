package group

import (
	"context"
	"errors"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
)

const (
	// maxBatchOps and maxBatchBytes bound one call to the store, and with it how long an operation waits for others.
	maxBatchOps   = 8192
	maxBatchBytes = 8 << 20
)

// writeOffsets is the one writer of offsets. It clocks itself like a group commit: while a call to the store is under way,
// commits of all groups gather for the next.
func (c *Coordinator) writeOffsets() {
	for batch := c.queue.take(maxBatchOps, maxBatchBytes); batch != nil; batch = c.queue.take(maxBatchOps, maxBatchBytes) {
		begun := time.Now()
		switch batch[0].kind {
		case commitOp:
			c.writeCommits(batch)
			c.metrics.committed(batch, time.Since(begun))
		case deleteOp:
			c.writeDeletes(batch)
		case rereadOp:
			c.readAgain(batch)
		case dropOp:
			c.drop(batch)
		}
		c.queue.end(batch)
		for _, o := range batch {
			o.e.mu.Lock()
			c.settleOp(o)
			c.release(o.e)
			close(o.done)
			o.e.shard.busy.Done()
		}
	}
}

// settleOp makes an operation's outcome visible. The group is locked.
func (c *Coordinator) settleOp(o *op) {
	e := o.e
	e.inFlight--
	for i := range o.commits {
		if o.failed(i) == nil {
			e.setOffsets(o.commits[i])
		}
	}
	for i := range o.deletes {
		if o.failed(i) == nil {
			e.removeOffsets(o.deletes[i])
		}
	}
	switch err := o.err(); {
	case o.kind == dropOp && err == nil:
		c.forget(e)
	case o.kind == dropOp:
		e.doomed, e.stale = false, true
	case o.kind == rereadOp || o.kind == barrierOp:
	case err != nil && !errors.Is(err, metadata.ErrInvalid):
		e.stale = true // it may have been written all the same, or in part
	}
}

func (o *op) failed(i int) error {
	if o.errs == nil {
		return nil
	}
	return o.errs[i]
}

func (c *Coordinator) storeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.opts.WriteTimeout)
}

// topicOf is what the commits of one call are merged by.
type topicOf struct {
	group string
	topic metadata.TopicID
}

// writeCommits writes a batch with one call. Of several commits of one group to one topic the later wins, partition by
// partition, as if each had been written alone.
func (c *Coordinator) writeCommits(batch []*op) {
	if len(batch) == 1 {
		o := batch[0]
		c.call(o.commits, func(i int, err error) { o.fail(i, err) })
		return
	}
	merged := make([]metadata.GroupOffsets, 0, len(batch))
	index := make(map[topicOf]int, len(batch))
	for _, o := range batch {
		for _, item := range o.commits {
			key := topicOf{item.Group, item.Topic}
			at, ok := index[key]
			if !ok {
				index[key] = len(merged)
				merged = append(merged, item)
				continue
			}
			for p, offset := range item.Partitions {
				merged[at].Partitions[p] = offset
			}
		}
	}
	errs := make(map[int]error)
	c.call(merged, func(i int, err error) { errs[i] = err })
	if len(errs) == 0 {
		return
	}
	for _, o := range batch {
		for i, item := range o.commits {
			o.fail(i, errs[index[topicOf{item.Group, item.Topic}]])
		}
	}
}

// call writes offsets and reports the items that failed.
func (c *Coordinator) call(items []metadata.GroupOffsets, failed func(int, error)) {
	ctx, cancel := c.storeContext()
	defer cancel()
	spread(c.opts.Offsets.CommitOffsets(ctx, items), len(items), failed)
}

// spread reports an error for each item that it is about: some, if it is partial, else all.
func spread(err error, items int, failed func(int, error)) {
	var partial *metadata.PartialError
	switch {
	case err == nil:
	case errors.As(err, &partial):
		for i, err := range partial.Errors {
			failed(i, err)
		}
	default:
		for i := range items {
			failed(i, err)
		}
	}
}

func (o *op) fail(i int, err error) {
	if err == nil {
		return
	}
	if o.errs == nil {
		o.errs = make([]error, max(len(o.commits), len(o.deletes), 1))
	}
	o.errs[i] = err
}

func (c *Coordinator) writeDeletes(batch []*op) {
	var items []metadata.GroupPartitions
	var owners []*op
	var first []int // index of each op's first item
	for _, o := range batch {
		for range o.deletes {
			owners, first = append(owners, o), append(first, len(items))
		}
		items = append(items, o.deletes...)
	}
	ctx, cancel := c.storeContext()
	defer cancel()
	spread(c.opts.Offsets.DeleteOffsets(ctx, items), len(items), func(i int, err error) {
		owners[i].fail(i-first[i], err)
	})
}

// readAgain replaces offsets in memory by those stored. Nothing else writes meanwhile, so what is read is what is there.
func (c *Coordinator) readAgain(batch []*op) {
	for _, o := range batch {
		ctx, cancel := c.storeContext()
		stored, err := c.opts.Offsets.LoadOffsets(ctx, o.e.id)
		cancel()
		if err != nil {
			o.fail(0, err)
			continue
		}
		o.e.mu.Lock()
		o.e.offsets, o.e.stale = nil, false
		for _, offsets := range stored {
			o.e.setOffsets(offsets)
		}
		o.e.mu.Unlock()
	}
}

// drop removes groups that are doomed: nothing else touches their state.
func (c *Coordinator) drop(batch []*op) {
	for _, o := range batch {
		ctx, cancel := c.storeContext()
		err := c.dropOne(ctx, o.e)
		cancel()
		o.fail(0, err)
	}
}

func (c *Coordinator) dropOne(ctx context.Context, e *entry) error {
	if e.uncertain {
		_, rev, err := c.opts.States.LoadGroup(ctx, e.id)
		switch {
		case errors.Is(err, metadata.ErrNotFound):
			rev = 0
		case err != nil:
			return err
		}
		e.rev, e.uncertain = rev, false
	}
	err := c.opts.States.DeleteGroup(ctx, e.id, e.rev)
	if errors.Is(err, metadata.ErrNotFound) {
		err = nil
	}
	if err != nil {
		e.uncertain = true
	}
	return err
}

func (e *entry) setOffsets(o metadata.GroupOffsets) {
	e.kept = true
	of := e.offsets[o.Topic]
	if of == nil {
		if e.offsets == nil {
			e.offsets = map[metadata.TopicID]map[int32]metadata.CommittedOffset{}
		}
		of = make(map[int32]metadata.CommittedOffset, len(o.Partitions))
		e.offsets[o.Topic] = of
	}
	for p, offset := range o.Partitions {
		of[p] = offset
	}
}

func (e *entry) removeOffsets(d metadata.GroupPartitions) {
	of := e.offsets[d.Topic]
	for _, p := range d.Partitions {
		delete(of, p)
	}
	if len(of) == 0 {
		delete(e.offsets, d.Topic)
	}
}
