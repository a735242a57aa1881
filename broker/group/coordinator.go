// Package group is the coordinator of Kafka's classic consumer groups: it drives the PURE core in group/classic with locks,
// timers and a store, keeps the committed offsets, and coalesces commits of many groups into few calls to the store.
//
// No answer goes out before what it says is durable, so a broker that starts finds every member of every stable group again
// and nobody has to rejoin. Nothing waits for the store while it holds a lock: a group has one mutex, taken for the length of
// one decision; writes happen on goroutines of their own and come back as events.
package group

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/metadata"
)

// Coordinator answers the group APIs for all groups that this broker owns: today all of them. It is safe for concurrent use.
type Coordinator struct {
	opts    Options
	core    classic.Config
	logger  *slog.Logger
	metrics *metrics
	shards  []shard
	groups  atomic.Int64

	started time.Time // monotonic base of now
	phase   atomic.Int32
	writes  atomic.Uint64 // sequence of state writes of this run
	queue   *queue
	saves   sync.WaitGroup
	saving  chan struct{} // a slot per state write under way
}

// phases of a coordinator's life.
const (
	phaseNew int32 = iota
	phaseServing
	phaseStopped
)

// shard is a share of the groups. One day each is owned and fenced by itself, as partitions are.
type shard struct {
	mu      sync.RWMutex
	entries map[string]*entry
}

// ShardOf is the shard of a group among n. It never changes for a given n: ownership of groups will depend on it.
func ShardOf(group string, n int) int {
	// FNV-1a, spelled out because the value is a promise.
	h := uint32(2166136261)
	for i := range len(group) {
		h = (h ^ uint32(group[i])) * 16777619
	}
	return int(h % uint32(n))
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

// Load reads every group and offset from the store and then begins to serve. Session timers start now. It returns the store's
// error; until it has succeeded requests are answered with COORDINATOR_LOAD_IN_PROGRESS.
func (c *Coordinator) Load(ctx context.Context) error {
	begun := time.Now()
	err := c.opts.States.LoadGroups(ctx, c.restore)
	if err != nil {
		return fmt.Errorf("load groups: %w", err)
	}
	offsets := 0
	err = c.opts.Offsets.LoadAllOffsets(ctx, func(o metadata.GroupOffsets) error {
		e, refused := c.acquire(o.Group, true)
		if refused != nil {
			return fmt.Errorf("group %q: %w", o.Group, refused)
		}
		e.setOffsets(o)
		offsets += len(o.Partitions)
		c.release(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("load offsets: %w", err)
	}
	c.phase.CompareAndSwap(phaseNew, phaseServing)
	c.logger.Info("groups loaded", "groups", c.groups.Load(), "offsets", offsets, "took", time.Since(begun))
	return nil
}

// restore puts a stored group in place. A state that this program cannot read is as good as none: the members will rejoin.
func (c *Coordinator) restore(group string, state []byte, rev metadata.Revision) error {
	snapshot, err := classic.Decode(state)
	if err != nil {
		c.logger.Error("stored state of a group is unreadable; its members have to rejoin", "group", group, "error", err)
	}
	e, refused := c.acquire(group, true)
	if refused != nil {
		return fmt.Errorf("group %q: %w", group, refused)
	}
	core, effects := classic.Restore(&c.core, group, c.now(), snapshot)
	e.core, e.rev, e.kept = core, rev, true
	c.apply(e, effects)
	c.release(e)
	return nil
}

// Run writes offsets and expires them until ctx is done; then it refuses requests with NOT_COORDINATOR, finishes every write
// that was accepted, and returns nil. Group states stay stored for the next run.
func (c *Coordinator) Run(ctx context.Context) error {
	defer c.metrics.close()
	var g errgroup.Group
	g.Go(func() error { c.writeOffsets(); return nil })
	g.Go(func() error { c.expireLoop(ctx); return nil })
	<-ctx.Done()
	c.phase.Store(phaseStopped)
	c.each(func(e *entry) {
		c.apply(e, e.core.Unload(c.now(), kerr.NotCoordinator))
	})
	c.queue.close()
	err := g.Wait()
	c.saves.Wait()
	return err
}

// now is a clock in Unix milliseconds that never steps: a corrected system clock must not end sessions.
func (c *Coordinator) now() int64 { return c.started.Add(time.Since(c.started)).UnixMilli() }

// serving tells what to answer to every request, if not now.
func (c *Coordinator) serving() *kerr.Error {
	switch c.phase.Load() {
	case phaseServing:
		return nil
	case phaseNew:
		return kerr.CoordinatorLoadInProgress
	default:
		return kerr.NotCoordinator
	}
}

// each calls fn with every group, locked, one after the other.
func (c *Coordinator) each(fn func(*entry)) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		entries := make([]*entry, 0, len(s.entries))
		for _, e := range s.entries {
			entries = append(entries, e)
		}
		s.mu.RUnlock()
		for _, e := range entries {
			if e.mu.Lock(); e.gone {
				e.mu.Unlock()
				continue
			}
			fn(e)
			c.release(e)
		}
	}
}
