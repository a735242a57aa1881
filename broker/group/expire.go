package group

import (
	"context"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
)

// expireLoop removes offsets past their retention and those of deleted topics, and groups that then have nothing left.
func (c *Coordinator) expireLoop(ctx context.Context) {
	ticker := time.NewTicker(c.opts.RetentionCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.Expire(ctx)
		}
	}
}

// Expire is one round of expiry. A failure is logged and tried again in the next round.
func (c *Coordinator) Expire(ctx context.Context) {
	var ids []string
	c.each(func(e *entry) { ids = append(ids, e.id) })
	for _, id := range ids {
		if ctx.Err() != nil || c.stopped.Load() {
			return
		}
		c.expireGroup(ctx, id)
	}
}

func (c *Coordinator) expireGroup(ctx context.Context, id string) {
	e, _ := c.acquire(id, false)
	if e == nil {
		return
	}
	if o := c.expired(e); o != nil {
		if err := c.do(ctx, e, o); err != nil {
			c.logger.Warn("offsets were not expired", "group", id, "error", err)
			return
		}
		c.metrics.offsetsDeleted("expired", o.deletes)
		if e, _ = c.acquire(id, false); e == nil {
			return
		}
	}
	if !e.core.Idle() || len(e.offsets) > 0 || e.stale || e.inFlight > 0 {
		c.release(e)
		return
	}
	if err := c.deleteGroup(ctx, e); err != nil {
		c.logger.Warn("an empty group was not deleted", "group", id, "error", err)
	}
}

// expired is the removal of all offsets of a locked group that are due; nil when none is.
func (c *Coordinator) expired(e *entry) *op {
	o := &op{kind: deleteOp, bytes: offsetBytes}
	now, retention := c.now(), c.opts.OffsetsRetention.Milliseconds()
	for topic, of := range e.offsets {
		name, exists := c.opts.TopicName(topic)
		d := metadata.GroupPartitions{Group: e.id, Topic: topic}
		for p, offset := range of {
			if !exists || e.core.Expires(now, name, offset.CommitMillis, offset.ExpireMillis, retention) {
				d.Partitions = append(d.Partitions, p)
			}
		}
		if len(d.Partitions) > 0 {
			o.deletes = append(o.deletes, d)
		}
	}
	if len(o.deletes) == 0 {
		return nil
	}
	return o
}

// TopicDeleted removes every group's offsets of a topic that is gone. It is an early start only: what it does not get done, the
// next round of expiry does, and nobody can read those offsets meanwhile, since they are kept by topic id.
func (c *Coordinator) TopicDeleted(ctx context.Context, topic metadata.TopicID) {
	var pending []*op
	c.each(func(e *entry) {
		of := e.offsets[topic]
		if len(of) == 0 || e.doomed {
			return
		}
		d := metadata.GroupPartitions{Group: e.id, Topic: topic}
		for p := range of {
			d.Partitions = append(d.Partitions, p)
		}
		o := &op{kind: deleteOp, bytes: offsetBytes, deletes: []metadata.GroupPartitions{d}}
		if c.enqueue(e, o) == nil {
			pending = append(pending, o)
		}
	})
	for _, o := range pending {
		if c.await(ctx, o) == nil && o.err() == nil {
			c.metrics.offsetsDeleted("topic", o.deletes)
		}
	}
}
