package txn

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/txn/core"
	"github.com/tidemarkmq/tidemark/metadata"
)

// Init handles InitProducerId with a transactional id. id and epoch are those of a producer that continues (KIP-360), or core.None.
func (c *Coordinator) Init(ctx context.Context, transactionalID string, timeoutMillis int32, id int64, epoch int16) (newID int64, newEpoch int16, err *kerr.Error) {
	switch {
	case !valid(transactionalID):
		return core.None, core.None, kerr.InvalidRequest
	case timeoutMillis <= 0 || int64(timeoutMillis) > c.opts.MaxTimeout().Milliseconds():
		return core.None, core.None, kerr.InvalidTransactionTimeout
	}
	d := c.change(ctx, transactionalID, true, func(t *metadata.Transaction, fresh int64) core.Decision {
		return core.Init{TimeoutMillis: timeoutMillis, ProducerID: id, ProducerEpoch: epoch, FreshID: fresh, NowMillis: millis()}.Decide(t)
	})
	return d.ProducerID, d.ProducerEpoch, d.Err
}

func valid(id string) bool { return id != "" && len(id) <= metadata.MaxTransactionalIDBytes }

// Add handles AddPartitionsToTxn and AddOffsetsToTxn: it returns when the partitions are stored as part of the transaction.
func (c *Coordinator) Add(ctx context.Context, transactionalID string, id int64, epoch int16, partitions []metadata.PartitionID, clientVersion int8) *kerr.Error {
	if !valid(transactionalID) {
		return kerr.InvalidRequest
	}
	return c.change(ctx, transactionalID, false, func(t *metadata.Transaction, _ int64) core.Decision {
		return core.Add{ProducerID: id, ProducerEpoch: epoch, Partitions: partitions, ClientVersion: clientVersion, NowMillis: millis()}.Decide(t)
	}).Err
}

// Verify tells whether a partition is part of the transaction, from memory: TRANSACTION_ABORTABLE if not.
func (c *Coordinator) Verify(transactionalID string, id int64, epoch int16, p metadata.PartitionID) *kerr.Error {
	if !valid(transactionalID) {
		return kerr.InvalidRequest
	}
	e, err := c.find(transactionalID, false)
	switch {
	case err != nil:
		return err
	case e == nil:
		return kerr.InvalidProducerIDMapping
	}
	defer e.leave()
	return core.Verify(e.now.Load(), id, epoch, p)
}

// End handles EndTxn: it returns when the outcome is stored; the markers follow. The producer goes on with the returned id and epoch.
func (c *Coordinator) End(ctx context.Context, transactionalID string, id int64, epoch int16, commit bool, clientVersion int8) (newID int64, newEpoch int16, err *kerr.Error) {
	if !valid(transactionalID) {
		return core.None, core.None, kerr.InvalidRequest
	}
	d := c.change(ctx, transactionalID, false, func(t *metadata.Transaction, fresh int64) core.Decision {
		return core.End{ProducerID: id, ProducerEpoch: epoch, Commit: commit, ClientVersion: clientVersion, FreshID: fresh, NowMillis: millis()}.Decide(t)
	})
	return d.ProducerID, d.ProducerEpoch, d.Err
}

// Describe returns an id's state; TRANSACTIONAL_ID_NOT_FOUND if there is none. The value is not to be changed.
func (c *Coordinator) Describe(transactionalID string) (*metadata.Transaction, *kerr.Error) {
	if !valid(transactionalID) {
		return nil, kerr.InvalidRequest
	}
	e, err := c.find(transactionalID, false)
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		return nil, kerr.TransactionalIDNotFound
	}
	defer e.leave()
	if t := e.now.Load(); t != nil {
		return t, nil
	}
	return nil, kerr.TransactionalIDNotFound
}

// Listed is a transactional id of List.
type Listed struct {
	ID string
	*metadata.Transaction
}

// List returns the ids of the shards that are served here, sorted; COORDINATOR_LOAD_IN_PROGRESS while some are being loaded.
func (c *Coordinator) List() ([]Listed, *kerr.Error) {
	if c.stopped.Load() {
		return nil, kerr.CoordinatorNotAvailable
	}
	var all []Listed
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		if s.phase == loading {
			s.mu.Unlock()
			return nil, kerr.CoordinatorLoadInProgress
		}
		if s.phase == serving {
			for id, e := range s.entries {
				if t := e.now.Load(); t != nil {
					all = append(all, Listed{id, t})
				}
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Listed) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// Run aborts transactions that take too long and forgets ids that nobody uses, until ctx is done; then it drops every shard.
func (c *Coordinator) Run(ctx context.Context) error {
	tick := time.NewTicker(c.opts.TimeoutCheck)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			c.look(ctx)
		case <-ctx.Done():
		}
	}
	c.stopped.Store(true)
	all := make([]int, NumShards)
	for i := range all {
		all[i] = i
	}
	return c.Drop(context.WithoutCancel(ctx), all...)
}

// look handles what is due, one id after the other.
func (c *Coordinator) look(ctx context.Context) {
	for i := range c.shards {
		s := &c.shards[i]
		var due []*entry
		now := millis()
		s.mu.Lock()
		if s.phase == serving {
			for _, e := range s.entries {
				t := e.now.Load()
				if e.uncertain.Load() || t != nil && (core.TimeOut(t, core.None, now) != (core.Decision{}) || core.Expired(t, c.opts.Retention.Milliseconds(), now)) {
					s.busy.Add(1)
					due = append(due, e)
				}
			}
		}
		s.mu.Unlock()
		for _, e := range due {
			c.lookAt(ctx, e)
			e.leave()
		}
	}
}

// lookAt aborts or forgets an id, or finds out what is stored after an unknown outcome.
func (c *Coordinator) lookAt(ctx context.Context, e *entry) {
	d, again := c.changeEntry(ctx, e, func(t *metadata.Transaction, fresh int64) core.Decision {
		if t == nil {
			return none
		}
		return core.TimeOut(t, fresh, millis())
	})
	switch {
	case again:
		return
	case d.Err != nil && d.Err != kerr.ConcurrentTransactions:
		c.logger.Warn("a transactional id cannot be looked after; trying again", "transactional id", e.id, "error", d.Err)
		return
	case d.Next != nil:
		c.logger.Info("a transaction took too long and is aborted", "transactional id", e.id, "producer id", d.Next.ProducerID)
		return
	}
	if c.take(ctx, e) != nil {
		return
	}
	defer func() { <-e.turn }()
	t := e.now.Load()
	if e.gone || e.uncertain.Load() || t == nil || !core.Expired(t, c.opts.Retention.Milliseconds(), millis()) {
		return
	}
	deleting, cancel := context.WithTimeout(context.Background(), c.opts.WriteTimeout)
	defer cancel()
	if err := c.opts.Store.DeleteTransaction(deleting, e.id, e.rev); err != nil {
		if e.uncertain.Store(true); !errors.Is(err, metadata.ErrFenced) {
			c.logger.Warn("an unused transactional id cannot be deleted; trying again", "transactional id", e.id, "error", err)
		}
		return
	}
	e.rev = 0
	e.now.Store(nil)
	c.forgetUnused(e)
}
