package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemarkmq/tidemark/broker/handler"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/placement"
)

const (
	// planEvery is how often a broker looks for partitions to move without a sign of change.
	planEvery = time.Second
	// turnEvery is how long the broker before has had for what a dead run left, until the next one tries too: it may be cut off from the object store,
	// or from the replicas.
	turnEvery = 5 * time.Second
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
	gone  map[metadata.Place]*goneRun // runs that own partitions and are not registered
	// busy says that the last plan had work, or could have: then the next tick plans again though nothing has changed. A plan of a large cluster
	// takes a while, and a quiet one needs none.
	busy bool
}

// goneRun is a run that is not registered any more.
type goneRun struct {
	since   time.Time // when this broker saw it
	trouble string    // why it cannot be recovered, as last logged
	seen    bool      // by the present plan
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
	partitions := m.partitions(ctx, im)
	self := metadata.Place{Broker: b.nodeID, Incarnation: b.incarnation}
	var give []placement.Move
	moves := placement.Plan(time.Now(), brokers, partitions, placement.DefaultLimits)
	m.busy = m.busy || len(moves) > 0
	take := map[metadata.Place][]metadata.Takeover{}
	for _, move := range moves {
		switch {
		case move.Reason == placement.OwnerGone && m.turn(im, move.From):
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

// turn tells whether this broker takes care of what a run has left that is gone: the one with the lowest live id at once, the others one after the other
// if that does not get it done.
func (m *mover) turn(im *metadata.Image, of metadata.Place) bool {
	g := m.gone[of]
	if g == nil {
		g = &goneRun{since: time.Now()}
		m.gone[of] = g
	}
	g.seen = true
	rank := slices.IndexFunc(im.Brokers(), func(o metadata.Broker) bool { return o.ID == m.serving.broker.nodeID })
	return rank >= 0 && time.Since(g.since) >= time.Duration(rank)*turnEvery
}

// partitions is the image as placement sees it. Whether dead runs are sealed is asked only by who takes care of them.
func (m *mover) partitions(ctx context.Context, im *metadata.Image) []placement.Partition {
	out := make([]placement.Partition, 0, im.NumPartitions())
	known := map[metadata.Place]bool{}
	for _, g := range m.gone {
		g.seen = false
	}
	for t := range im.Topics() {
		shards := handler.IsShards(t)
		for _, p := range im.PartitionsOf(t.ID) {
			q := placement.Partition{ID: p.ID, Owner: metadata.Place{Broker: p.Owner, Incarnation: p.OwnerIncarnation}, Wish: metadata.NoBroker, MovedAt: m.movedAt[p.ID]}
			m.busy = m.busy || time.Since(q.MovedAt) < placement.DefaultLimits.Cooldown
			// A broker that is back under another incarnation takes what is its own by itself.
			if _, live := im.Broker(p.Owner); !live {
				m.busy = true
				if mine := m.turn(im, q.Owner); mine && shards {
					q.Sealed = true
				} else if mine {
					if _, asked := known[q.Owner]; !asked {
						known[q.Owner] = m.tryToSeal(ctx, q.Owner)
					}
					q.Sealed = known[q.Owner]
				}
			}
			out = append(out, q)
		}
	}
	maps.DeleteFunc(m.gone, func(_ metadata.Place, g *goneRun) bool { return !g.seen })
	return out
}

// tryToSeal is isSealed, which says why not in the log: what cannot be recovered now must not hold up everything else.
func (m *mover) tryToSeal(ctx context.Context, of metadata.Place) bool {
	sealed, err := m.isSealed(ctx, of)
	if g := m.gone[of]; err != nil && ctx.Err() == nil && g.trouble != err.Error() {
		g.trouble = err.Error()
		m.serving.broker.logger.Warn("what a broker that is gone has left cannot be recovered yet; trying again", "broker", of.Broker, "incarnation", of.Incarnation, "error", err)
	}
	return sealed && err == nil
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
