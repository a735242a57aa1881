// Package group is the coordinator of Kafka's groups: it drives the PURE cores in group/classic and group/consumer with locks, timers
// and a store, keeps the committed offsets, and coalesces commits of many groups into few calls to the store.
//
// No answer goes out before what it says is durable, so a broker that starts finds every member of every stable group again
// and nobody has to rejoin. Nothing waits for the store while it holds a lock: a group has one mutex, taken for the length of
// one decision; writes happen on goroutines of their own and come back as events.
package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/group/consumer"
	"github.com/tidemarkmq/tidemark/broker/group/record"
	"github.com/tidemarkmq/tidemark/metadata"
)

// Coordinator answers the group APIs for the groups of the shards that this broker owns. It is safe for concurrent use.
type Coordinator struct {
	opts    Options
	core    classic.Config
	modern  consumer.Config
	logger  *slog.Logger
	metrics *metrics
	shards  []shard
	groups  atomic.Int64

	started time.Time // monotonic base of now
	stopped atomic.Bool
	writes  atomic.Uint64 // sequence of state writes of this run
	queue   *queue
	saves   sync.WaitGroup
	saving  chan struct{} // a slot per state write under way
}

// New returns a coordinator that serves nothing before Load.
func New(opts Options) (*Coordinator, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("group coordinator: %w", err)
	}
	c := &Coordinator{
		opts: opts, logger: opts.Logger, started: time.Now(), shards: make([]shard, opts.Shards),
		saving: make(chan struct{}, opts.ParallelSaves),
		core: classic.Config{
			MaxMembers: opts.MaxGroupSize, MaxPendingMembers: opts.MaxPendingMembers, MaxBytes: opts.MaxGroupBytes,
			InitialRebalanceDelayMillis: opts.InitialRebalanceDelay.Milliseconds(),
			NewMemberJoinTimeoutMillis:  newMemberJoinTimeout.Milliseconds(),
		},
	}
	c.modern = consumer.Config{Settings: opts.Consumers, MaxBytes: opts.MaxGroupBytes}
	for i := range c.shards {
		c.shards[i].entries = map[string]*entry{}
	}
	c.queue = newQueue(opts.MaxPendingBytes)
	var err error
	if c.metrics, err = newMetrics(opts.Meter, c); err != nil {
		return nil, fmt.Errorf("group coordinator: %w", err)
	}
	return c, nil
}

// restore puts a stored group in place.
func (c *Coordinator) restore(group string, state []byte, rev metadata.Revision) error {
	e := c.loading(group)
	var did effects
	e.core, did = c.revive(group, state)
	e.rev, e.kept = rev, true
	c.apply(e, did)
	c.release(e)
	return nil
}

// revive makes the core that a stored state describes. A damaged state is as good as none: the members will rejoin. One that was written
// by a later program is left alone.
func (c *Coordinator) revive(group string, state []byte) (core, effects) {
	if kind, err := record.KindOf(state); err == nil && kind == record.Consumer {
		snapshot, err := consumer.Decode(state)
		if err == nil {
			return consumerGroup{consumer.Restore(&c.modern, group, c.now(), &snapshot)}, effects{}
		}
		return c.unreadable(group, err)
	}
	snapshot, err := classic.Decode(state)
	if err != nil {
		return c.unreadable(group, err)
	}
	g, did := c.restoreClassic(group, snapshot)
	return g, did
}

// unreadable stands in for a state that cannot be read.
func (c *Coordinator) unreadable(group string, err error) (core, effects) {
	if errors.Is(err, record.ErrUnknown) {
		c.logger.Error("stored state of a group is of a later version; it is not coordinated here", "group", group, "error", err)
		return foreignGroup{}, effects{}
	}
	c.logger.Error("stored state of a group is unreadable; its members have to rejoin", "group", group, "error", err)
	return c.restoreClassic(group, classic.Snapshot{})
}

func (c *Coordinator) restoreClassic(group string, snapshot classic.Snapshot) (core, effects) {
	restored, did := classic.Restore(&c.core, group, c.now(), snapshot)
	g := classicGroup{restored}
	return g, g.effects(did)
}

// Run writes offsets and expires them until ctx is done; then it refuses requests with NOT_COORDINATOR, finishes every write
// that was accepted, and returns nil. Group states stay stored for the next run.
func (c *Coordinator) Run(ctx context.Context) error {
	defer c.metrics.close()
	var g errgroup.Group
	g.Go(func() error { c.writeOffsets(); return nil })
	g.Go(func() error { c.expireLoop(ctx); return nil })
	<-ctx.Done()
	c.stopped.Store(true)
	c.each(func(e *entry) {
		c.apply(e, e.core.unload(c.now(), kerr.NotCoordinator))
	})
	c.queue.close()
	err := g.Wait()
	c.saves.Wait()
	return err
}

// now is a clock in Unix milliseconds that never steps: a corrected system clock must not end sessions.
func (c *Coordinator) now() int64 { return c.started.Add(time.Since(c.started)).UnixMilli() }
