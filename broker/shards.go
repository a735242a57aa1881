package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/broker/handler"
	"github.com/tidemarkmq/tidemark/metadata"
)

// shardsPause is between attempts to load groups.
const shardsPause = time.Second

// numShards is the number of shards of every coordinator.
const numShards = group.NumShards

// sharded is a coordinator that serves the shards it is told to.
type sharded interface {
	// Load reads shards and serves them. Drop ends that, and returns when nothing is written for them any more.
	Load(ctx context.Context, shards ...int) error
	Drop(ctx context.Context, shards ...int) error
}

// shards keeps a coordinator in step with who owns the partitions of its topic: __consumer_offsets for groups. They hold no records: to own one is to
// coordinate what Kafka would keep in it. So shards are placed, moved and taken over like all partitions, and every write of
// the coordinator compares the partition's record, which changes with its owner.
type shards struct {
	broker      *Broker
	topic, what string // by whose partitions the shards are owned; what they are shards of
	coordinator sharded

	fences [numShards]atomic.Pointer[metadata.Fence] // nil: not ours

	retry chan struct{} // holds a token when follow should be tried again

	turn   chan struct{} // holds a token while shards are loaded or dropped; guards the next two
	epochs [numShards]metadata.LeaderEpoch
	served [numShards]bool
}

func newShards(b *Broker) *shards {
	return &shards{broker: b, topic: handler.GroupShards, what: "groups", turn: make(chan struct{}, 1), retry: make(chan struct{}, 1)}
}

// fenceOf is what a write of a group or transactional id compares.
func (s *shards) fenceOf(id string) metadata.Fence {
	if f := s.fences[group.ShardOf(id, numShards)].Load(); f != nil {
		return *f
	}
	return metadata.Fence{}
}

func (s *shards) lock(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *shards) unlock() { <-s.turn }

// follow loads the shards that the image gives to this run, and drops those that it has given away.
func (s *shards) follow(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	im := s.broker.meta.Image()
	var gone, came []int
	owned := [numShards]*metadata.Partition{}
	for i := range owned {
		p, ok := handler.ShardPartition(im, s.topic, i)
		if ok && p.Owner == s.broker.nodeID && p.OwnerIncarnation == s.broker.incarnation {
			owned[i] = p
		}
		switch {
		case !s.served[i] && owned[i] == nil && s.fences[i].Load() != nil: // it was never loaded, and waits no more
			gone = append(gone, i)
		case s.served[i] && (owned[i] == nil || owned[i].LeaderEpoch != s.epochs[i]):
			gone = append(gone, i)
		case s.served[i]:
			s.fences[i].Store(&metadata.Fence{Partition: p.ID, Revision: p.Revision})
		}
	}
	if err := s.drop(ctx, gone); err != nil {
		return err
	}
	for i, p := range owned {
		if p == nil || s.served[i] {
			continue
		}
		// The fence stands before anything is read: what the former owner wrote is there by then, or will never be.
		s.fences[i].Store(&metadata.Fence{Partition: p.ID, Revision: p.Revision})
		came = append(came, i)
	}
	if len(came) == 0 {
		return nil
	}
	if err := s.coordinator.Load(ctx, came...); err != nil {
		return fmt.Errorf("coordinate %d shards of %s: %w", len(came), s.what, err)
	}
	for _, i := range came {
		s.served[i], s.epochs[i] = true, owned[i].LeaderEpoch
	}
	return nil
}

// drop ends the coordination of shards; the caller has the turn.
func (s *shards) drop(ctx context.Context, gone []int) error {
	if len(gone) == 0 {
		return nil
	}
	if err := s.coordinator.Drop(ctx, gone...); err != nil {
		return err
	}
	for _, i := range gone {
		s.served[i] = false
		s.fences[i].Store(nil)
	}
	return nil
}

// release drops the shards of partitions that are to be handed over, all writes ended. Until done is called none is loaded again.
func (s *shards) release(ctx context.Context, partitions map[metadata.PartitionID]bool) (done func(), err error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	im := s.broker.meta.Image()
	var gone []int
	for i := range s.served {
		if p, ok := handler.ShardPartition(im, s.topic, i); ok && s.served[i] && partitions[p.ID] {
			gone = append(gone, i)
		}
	}
	if err := s.drop(ctx, gone); err != nil {
		s.unlock()
		return nil, err
	}
	return s.unlock, nil
}

// again makes run try once more, after a while.
func (s *shards) again() {
	select {
	case s.retry <- struct{}{}:
	default:
	}
}

// run follows the metadata until ctx is done.
func (s *shards) run(ctx context.Context) error {
	changes := s.broker.meta.Changes(ctx)
	for {
		var again <-chan time.Time
		if err := s.follow(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			s.broker.logger.Warn(s.what+" cannot be loaded; trying again", "error", err)
			again = time.After(shardsPause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-s.retry:
		case <-again:
		}
	}
}
