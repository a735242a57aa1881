package txn

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/txn/core"
	"github.com/tidemarkmq/tidemark/metadata"
)

// The pauses between attempts to write markers.
const (
	retryFirst = 20 * time.Millisecond
	retryMost  = time.Second
)

// change lets decide look at an id and stores what it decides, before the answer. decide is called again with a producer id if it needs one.
func (c *Coordinator) change(ctx context.Context, id string, create bool, decide func(t *metadata.Transaction, freshID int64) core.Decision) core.Decision {
	for {
		e, err := c.find(id, create)
		switch {
		case err != nil:
			return refused(err)
		case e == nil:
			return decide(nil, core.None)
		}
		d, again := c.changeEntry(ctx, e, decide)
		e.leave()
		if !again {
			return d
		}
	}
}

func refused(err *kerr.Error) core.Decision {
	d := none
	d.Err = err
	return d
}

// changeEntry is change for an entry; again: it was forgotten meanwhile.
func (c *Coordinator) changeEntry(ctx context.Context, e *entry, decide func(t *metadata.Transaction, freshID int64) core.Decision) (d core.Decision, again bool) {
	if err := c.take(ctx, e); err != nil {
		return refused(err), false
	}
	defer func() { <-e.turn }()
	if e.gone {
		return d, true
	}
	defer c.forgetUnused(e)
	if err := c.settle(e); err != nil {
		return refused(writeError(err)), false
	}
	d = decide(e.now.Load(), core.None)
	if d.NeedsID {
		fresh, err := c.opts.NewID(ctx)
		if err != nil {
			return refused(kerr.CoordinatorLoadInProgress), false
		}
		d = decide(e.now.Load(), fresh)
	}
	if d.Next == nil {
		return d, false
	}
	if err := c.save(e, d.Next); err != nil {
		return refused(writeError(err)), false
	}
	return d, false
}

// settle finds out what is stored after an unknown outcome. The caller has the turn.
func (c *Coordinator) settle(e *entry) error {
	if !e.uncertain.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.opts.WriteTimeout)
	defer cancel()
	t, rev, err := c.opts.Store.LoadTransaction(ctx, e.id)
	if errors.Is(err, metadata.ErrNotFound) {
		t, rev, err = nil, 0, nil
	}
	if err != nil {
		return err
	}
	e.rev = rev
	e.uncertain.Store(false)
	c.stored(e, t)
	return nil
}

// save stores a state. It is not cut short by the request that asks for it. The caller has the turn.
func (c *Coordinator) save(e *entry, next *metadata.Transaction) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.opts.WriteTimeout)
	defer cancel()
	rev, err := c.opts.Store.SaveTransaction(ctx, e.id, next, e.rev)
	if err != nil {
		e.uncertain.Store(!errors.Is(err, metadata.ErrInvalid))
		return err
	}
	e.rev = rev
	c.stored(e, next)
	return nil
}

// stored tells everybody what is stored, and has it finished if it is prepared. The caller has the turn.
func (c *Coordinator) stored(e *entry, t *metadata.Transaction) {
	e.now.Store(t)
	if t == nil || !t.Status.Prepared() || e.finishing {
		return
	}
	e.finishing = true
	e.shard.busy.Add(1) // not the first: the caller counts
	go c.finish(e)
}

// forgetUnused forgets an entry of which nothing is stored. The caller has the turn.
func (c *Coordinator) forgetUnused(e *entry) {
	if e.rev != 0 || e.uncertain.Load() {
		return
	}
	e.gone = true
	e.shard.mu.Lock()
	delete(e.shard.entries, e.id)
	e.shard.mu.Unlock()
}

// finish writes the markers of a prepared transaction until every partition has one, and then completes it.
func (c *Coordinator) finish(e *entry) {
	defer e.leave()
	life := e.shard.life
	t := e.now.Load()
	m := Marker{ProducerID: t.ProducerID, ProducerEpoch: t.ProducerEpoch, Commit: t.Status == metadata.TxnPrepareCommit,
		CoordinatorEpoch: c.opts.Epoch(ShardOf(e.id)), Version: t.ClientVersion}
	left, wait := t.Partitions, retryFirst
	for len(left) > 0 {
		if left = c.opts.Markers.Write(life, m, left); len(left) > 0 {
			if !sleep(life, wait) {
				return
			}
			wait = min(2*wait, retryMost)
		}
	}
	for wait = retryFirst; !c.complete(life, e); wait = min(2*wait, retryMost) {
		if !sleep(life, wait) {
			return
		}
	}
}

// complete stores that all markers are written. False: it has to be tried again.
func (c *Coordinator) complete(life context.Context, e *entry) bool {
	select {
	case e.turn <- struct{}{}:
	case <-life.Done():
		return true
	}
	defer func() { <-e.turn }()
	err := c.settle(e)
	if err == nil {
		if t := e.now.Load(); t != nil && t.Status.Prepared() {
			err = c.save(e, core.Complete(t, millis()))
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, metadata.ErrFenced):
		c.logger.Info("a transaction is left to the next coordinator", "transactional id", e.id)
	default:
		return false
	}
	e.finishing = false
	return true
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
