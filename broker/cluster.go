package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/tidemarkmq/tidemark/broker/handler"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/placement"
)

const (
	// planEvery is how often a broker looks for partitions to move without a sign of change.
	planEvery = time.Second
	// planPause is the least time between two plans: in a large cluster a plan takes a while.
	planPause = 100 * time.Millisecond
)

// mover gives partitions of this broker to others, and those of dead brokers to live ones. There is no lock and no leader: every broker makes
// the same plan of the same image and carries out its own part, the owner what leaves it, the controller what nobody owns. Whatever the images
// say, each change is a swap in etcd that only the present owner's state allows.
type mover struct {
	serving *serving
	shards  *shards
	movedAt map[metadata.PartitionID]time.Time // when this run got or tried to give away a partition
	sealed  map[metadata.Place]bool            // dead runs of which everything is in objects
	// ends are the recoveries of dead runs' streams that are under way, side by side; ended tells run that one is over.
	ends  map[metadata.StreamID]chan error
	ended chan struct{}
	// busy says that the last plan had work, or could have: then the next tick plans again though nothing has changed. A plan of a large cluster
	// takes a while, and a quiet one needs none.
	busy bool
}

// run plans and moves until ctx is done.
func (m *mover) run(ctx context.Context) error {
	changes := m.serving.broker.meta.Changes(ctx)
	tick := time.NewTicker(planEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
			m.busy = true
		case <-m.ended:
			m.busy = true
		case <-tick.C:
		}
		if err := m.step(ctx); err != nil && ctx.Err() == nil {
			m.serving.broker.logger.Warn("partitions cannot be moved; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(planPause):
		}
	}
}

// step makes a plan and carries out this broker's part of it.
func (m *mover) step(ctx context.Context) (err error) {
	b := m.serving.broker
	im := b.meta.Image()
	brokers := handler.Placeable(im)
	if len(brokers) < 2 && !m.orphans(im) {
		return nil
	}
	if len(m.movedAt) > 2*im.NumPartitions()+1000 {
		maps.DeleteFunc(m.movedAt, func(id metadata.PartitionID, _ time.Time) bool { _, ok := im.Partition(id); return !ok })
	}
	if err := m.serving.ask(ctx); errors.Is(err, metadata.ErrFenced) {
		b.fail(fmt.Errorf("another broker has taken over what this one had, because it was away for too long; it steps down: %w", err))
		return nil
	}
	if !m.busy {
		return nil
	}
	m.busy = false
	defer func() { m.busy = m.busy || err != nil }()
	controller := im.Controller() == b.nodeID
	partitions, err := m.partitions(ctx, im, controller)
	if err != nil {
		return err
	}
	self := metadata.Place{Broker: b.nodeID, Incarnation: b.incarnation}
	var give []placement.Move
	moves := placement.Plan(time.Now(), brokers, partitions, placement.DefaultLimits)
	m.busy = m.busy || len(moves) > 0
	take := map[metadata.Place][]metadata.Takeover{}
	for _, move := range moves {
		switch {
		case move.Reason == placement.OwnerGone && controller:
			take[move.From] = append(take[move.From], metadata.Takeover{Partition: move.Partition, To: move.To.Broker, ToIncarnation: move.To.Incarnation})
		case move.Reason != placement.OwnerGone && move.From == self:
			give = append(give, move)
		}
	}
	var errs error
	for from, takeovers := range take {
		errs = errors.Join(errs, m.takeOver(ctx, im, from, takeovers))
	}
	if len(give) > 0 {
		errs = errors.Join(errs, m.handOver(ctx, give))
	}
	return errs
}

// orphans tells whether some partition's owner is not registered. It is called only while this broker is alone.
func (m *mover) orphans(im *metadata.Image) bool {
	for t := range im.Topics() {
		for _, p := range im.PartitionsOf(t.ID) {
			if _, live := im.Broker(p.Owner); !live {
				return true
			}
		}
	}
	return false
}

// partitions is the image as placement sees it. Which dead runs are sealed only the controller asks.
func (m *mover) partitions(ctx context.Context, im *metadata.Image, controller bool) ([]placement.Partition, error) {
	out := make([]placement.Partition, 0, im.NumPartitions())
	known := map[metadata.Place]bool{}
	for t := range im.Topics() {
		shards := handler.IsShards(t)
		for _, p := range im.PartitionsOf(t.ID) {
			q := placement.Partition{ID: p.ID, Owner: metadata.Place{Broker: p.Owner, Incarnation: p.OwnerIncarnation}, Wish: metadata.NoBroker, MovedAt: m.movedAt[p.ID]}
			m.busy = m.busy || time.Since(q.MovedAt) < placement.DefaultLimits.Cooldown
			// A broker that is back under another incarnation takes what is its own by itself.
			if _, live := im.Broker(p.Owner); !live && controller {
				m.busy = true
				sealed, seen := known[q.Owner]
				if !seen && !shards {
					var err error
					if sealed, err = m.isSealed(ctx, q.Owner); err != nil {
						return nil, err
					}
					known[q.Owner] = sealed
				}
				q.Sealed = sealed || shards
			}
			out = append(out, q)
		}
	}
	return out, nil
}

// isSealed tells whether everything that a run has acknowledged is in objects, and sees to it where it can: a run that is not registered any
// more may still write, but after this nothing that it writes is committed, and nothing acknowledged.
func (m *mover) isSealed(ctx context.Context, of metadata.Place) (bool, error) {
	if m.sealed[of] {
		return true, nil
	}
	streams, err := m.serving.broker.meta.Streams(ctx, of.Broker)
	if err != nil {
		return false, err
	}
	done := true
	for i := range streams {
		st := &streams[i]
		switch {
		case st.Epoch != of.Incarnation || st.State == metadata.StreamSealed:
		case st.Class == metadata.ClassObject:
			if err := m.serving.broker.endObjectStream(ctx, st.ID); err != nil {
				return false, fmt.Errorf("recover WAL stream %s: %w", st.ID, err)
			}
		case st.Class == metadata.ClassQuorum && m.serving.broker.replication != nil:
			if ok, err := m.end(ctx, st.ID); err != nil {
				return false, fmt.Errorf("recover WAL stream %s: %w", st.ID, err)
			} else if !ok {
				done = false
			}
		default:
			return false, nil // its tail is on that broker's disk
		}
	}
	if done {
		m.sealed[of] = true
	}
	return done, nil
}

// end recovers a stream of the class quorum beside everything else, and tells whether that is done.
func (m *mover) end(ctx context.Context, id metadata.StreamID) (bool, error) {
	running, ok := m.ends[id]
	if !ok {
		running = make(chan error, 1)
		m.ends[id] = running
		b := m.serving.broker
		b.tasks.Go(func() {
			running <- b.endQuorumStream(ctx, id, nil)
			select {
			case m.ended <- struct{}{}:
			default:
			}
		})
	}
	select {
	case err := <-running:
		delete(m.ends, id)
		return err == nil, err
	default:
		return false, nil
	}
}

// takeOver gives the partitions of a dead run to others.
func (m *mover) takeOver(ctx context.Context, im *metadata.Image, from metadata.Place, takeovers []metadata.Takeover) error {
	b := m.serving.broker
	var shards, rest []metadata.Takeover
	for _, t := range takeovers {
		if topic, ok := im.TopicByID(t.Partition.Topic); ok && handler.IsShards(topic) {
			shards = append(shards, t)
		} else {
			rest = append(rest, t)
		}
	}
	var errs error
	if len(shards) > 0 {
		errs = b.meta.TakeShards(ctx, from, shards)
	}
	if len(rest) > 0 {
		errs = errors.Join(errs, b.meta.TakePartitions(ctx, from.Incarnation, rest))
	}
	if errs != nil {
		return fmt.Errorf("take over from broker %d: %w", from.Broker, errs)
	}
	b.logger.Info("partitions of a broker that is gone have new owners", "broker", from.Broker, "incarnation", from.Incarnation, "partitions", len(takeovers))
	return nil
}
