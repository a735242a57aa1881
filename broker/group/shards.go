package group

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/metadata"
)

// NumShards is the default number of shards, and of partitions of __consumer_offsets, by whose ownership the shards are owned
// (offsets.topic.num.partitions).
const NumShards = 50

// phases of a shard.
const (
	shardForeign int32 = iota // another broker's: NOT_COORDINATOR
	shardLoading              // COORDINATOR_LOAD_IN_PROGRESS
	shardServing
)

// shard is a share of the groups, which is owned and fenced by itself.
type shard struct {
	phase atomic.Int32
	busy  sync.WaitGroup // writes accepted and not yet ended; grows only while the shard is served

	mu      sync.RWMutex
	entries map[string]*entry
}

// ShardOf is the shard of a group among n, as Kafka computes it: the hash of java.lang.String, modulo n
// (GroupCoordinatorService.partitionFor).
func ShardOf(group string, n int) int {
	h := int32(0)
	for _, r := range group {
		if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
			h = 31*h + high
			r = low
		}
		h = 31*h + r
	}
	return int(h&0x7fffffff) % n
}

// Load reads the groups and offsets of shards from the store, of all for none, and then serves them. Session timers start anew. Until it
// has succeeded requests for them are answered with COORDINATOR_LOAD_IN_PROGRESS. It returns the store's error and may be repeated
// then. The caller owns the shards already: what another coordinator still writes must be refused by the store. Load and Drop are not safe
// for concurrent use with each other.
func (c *Coordinator) Load(ctx context.Context, shards ...int) error {
	begun := time.Now()
	if len(shards) == 0 {
		for i := range c.shards {
			shards = append(shards, i)
		}
	}
	wanted := make([]bool, len(c.shards))
	for _, i := range shards {
		if c.shards[i].phase.Load() == shardServing {
			continue
		}
		c.shards[i].phase.Store(shardLoading)
		c.clear(&c.shards[i])
		wanted[i] = true
	}
	groups, offsets := 0, 0
	err := c.opts.States.LoadGroups(ctx, func(group string, state []byte, rev metadata.Revision) error {
		if !wanted[ShardOf(group, len(c.shards))] {
			return nil
		}
		groups++
		return c.restore(group, state, rev)
	})
	if err != nil {
		return fmt.Errorf("load groups: %w", err)
	}
	err = c.opts.Offsets.LoadAllOffsets(ctx, func(o metadata.GroupOffsets) error {
		if !wanted[ShardOf(o.Group, len(c.shards))] {
			return nil
		}
		e := c.loading(o.Group)
		e.setOffsets(o)
		offsets += len(o.Partitions)
		c.release(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("load offsets: %w", err)
	}
	for i := range wanted {
		if wanted[i] {
			c.shards[i].phase.Store(shardServing)
		}
	}
	c.logger.Info("groups loaded", "shards", len(shards), "groups", groups, "offsets", offsets, "took", time.Since(begun))
	return nil
}

// Drop ends the serving of shards: requests, parked ones too, are answered with NOT_COORDINATOR, members keep their places for the next
// coordinator. It returns when every write that was accepted has ended, or ctx is done.
func (c *Coordinator) Drop(ctx context.Context, shards ...int) error {
	for _, i := range shards {
		s := &c.shards[i]
		s.phase.Store(shardForeign)
		c.eachOf(s, func(e *entry) { c.apply(e, e.core.unload(c.now(), kerr.NotCoordinator)) })
	}
	ended := make(chan struct{})
	go func() {
		for _, i := range shards {
			c.shards[i].busy.Wait()
		}
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("writes of groups are under way: %w", context.Cause(ctx))
	}
	for _, i := range shards {
		c.clear(&c.shards[i])
	}
	return nil
}

// clear forgets the groups of a shard that is not served.
func (c *Coordinator) clear(s *shard) {
	c.eachOf(s, c.forget)
}

// serving tells what to answer to requests for a group, if not now.
func (c *Coordinator) serving(group string) *kerr.Error { return c.servingShard(c.shardOf(group)) }

func (c *Coordinator) servingShard(s *shard) *kerr.Error {
	if c.stopped.Load() {
		return kerr.NotCoordinator
	}
	switch s.phase.Load() {
	case shardServing:
		return nil
	case shardLoading:
		return kerr.CoordinatorLoadInProgress
	default:
		return kerr.NotCoordinator
	}
}

// servingAll tells what to answer to a request about all groups, if not now: while one of its shards is being loaded the broker does not
// know.
func (c *Coordinator) servingAll() *kerr.Error {
	if c.stopped.Load() {
		return kerr.NotCoordinator
	}
	for i := range c.shards {
		if c.shards[i].phase.Load() == shardLoading {
			return kerr.CoordinatorLoadInProgress
		}
	}
	return nil
}

// each calls fn with every group, locked, one after the other.
func (c *Coordinator) each(fn func(*entry)) {
	for i := range c.shards {
		c.eachOf(&c.shards[i], fn)
	}
}

func (c *Coordinator) eachOf(s *shard, fn func(*entry)) {
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
