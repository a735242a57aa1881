package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/placement"
)

const (
	askWait    = 2 * time.Second        // for etcd, before anybody is paused
	settleWait = 5 * time.Second        // for the log, while producers are
	packWait   = 10 * time.Second       // for the object store, likewise
	drainWait  = 5 * time.Minute        // for the object store, while nobody waits
	unknownGap = 100 * time.Millisecond // between attempts to learn the outcome of a release
)

// handOver gives partitions to others: everything of them goes into objects while they are served, then they pause, what came meanwhile goes
// into objects too, packed into few, and etcd names the new owners. Producers that wait are answered with the new leader; nothing is lost or
// copied. What cannot be given away is served on.
func (m *mover) handOver(ctx context.Context, moves []placement.Move) (err error) {
	s, b := m.serving, m.serving.broker
	began := time.Now()
	// Whatever comes of it, these rest for a while: a plan that fails must not pause its partitions again and again.
	for i := range moves {
		m.movedAt[moves[i].Partition] = began
	}
	open, releases := m.opened(moves)
	if len(open) == 0 {
		return nil
	}
	if err := s.ask(ctx); err != nil { // before anybody is paused
		return err
	}
	if err := s.drain(ctx, drainWait); err != nil {
		return fmt.Errorf("hand over %d partitions: %w", len(open), err)
	}
	ids := make(map[metadata.PartitionID]bool, len(open))
	for _, p := range open {
		ids[p.ID()] = true
	}
	resumeShards, err := m.shards.release(ctx, ids)
	if err != nil {
		return err
	}
	defer func() {
		resumeShards()
		if again := m.shards.follow(ctx); again != nil && ctx.Err() == nil { // those that stay are coordinated here again
			b.logger.Warn("groups that were to be handed over cannot be loaded again; trying again", "error", again)
			m.shards.again()
		}
	}()
	paused := time.Now()
	for _, p := range open {
		p.Pause()
	}
	defer func() {
		for _, p := range open {
			p.Resume() // those that are closed by now have told their producers
		}
	}()
	if err := settle(ctx, open); err != nil {
		return err
	}
	if err := s.drain(ctx, packWait); err != nil {
		return fmt.Errorf("hand over %d partitions: %w", len(open), err)
	}
	for _, r := range releases {
		s.partitions.Release(r.Partition, r.LeaderEpoch)
	}
	given, err := m.release(ctx, releases)
	for i, r := range releases {
		if given[i] {
			s.partitions.Close(r.Partition)
		} else {
			s.partitions.Keep(r.Partition)
		}
	}
	b.logger.Info("partitions were handed over", "partitions", len(releases), "reason", moves[0].Reason, "pause", time.Since(paused), "took", time.Since(began), "error", err)
	return err
}

// opened is what of the moves this broker serves.
func (m *mover) opened(moves []placement.Move) (open []*partition.Partition, releases []metadata.Release) {
	for _, move := range moves {
		p, ok := m.serving.partitions.Get(move.Partition)
		if !ok {
			continue
		}
		open = append(open, p)
		releases = append(releases, metadata.Release{Partition: move.Partition, LeaderEpoch: p.LeaderEpoch(), To: move.To.Broker, ToIncarnation: move.To.Incarnation})
	}
	return open, releases
}

// ask makes sure that etcd answers and that this run's stream is still its own.
func (s *serving) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	now, err := s.broker.meta.Stream(ctx, s.stream.ID)
	if err != nil {
		return err
	}
	if now.Revision != s.stream.Revision {
		return fmt.Errorf("the write-ahead log is %s by now: %w", now.State, metadata.ErrFenced)
	}
	return nil
}

// drain brings everything that is acknowledged into the object store.
func (s *serving) drain(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.uploader.Drain(ctx)
}

// settle returns when everything that was appended to paused partitions is acknowledged.
func settle(ctx context.Context, paused []*partition.Partition) error {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	for _, p := range paused {
		if _, err := p.Settled(ctx); err != nil {
			return err
		}
	}
	return nil
}

// release names the new owners in etcd. It returns only when it is known of each partition whether it was given away, or ctx is done; then
// all that may have been counts as given: it must not be appended to.
func (m *mover) release(ctx context.Context, releases []metadata.Release) (given []bool, err error) {
	b := m.serving.broker
	given = make([]bool, len(releases))
	streams := []metadata.StreamState{*m.serving.stream}
	for {
		err = b.meta.ReleasePartitions(ctx, streams, releases)
		var partial *metadata.PartialError
		unknown := false
		for i := range releases {
			given[i] = true
			var cause error
			switch {
			case errors.As(err, &partial):
				cause = partial.Errors[i]
			default:
				cause = err
			}
			if cause == nil {
				continue
			}
			// Gone or another's by now: closing it is right too. Any other refusal is definite.
			given[i] = errors.Is(cause, metadata.ErrFenced) || errors.Is(cause, metadata.ErrNotFound)
			if errors.Is(cause, metadata.ErrUnavailable) {
				given[i], unknown = true, true
			}
		}
		if !unknown {
			return given, err
		}
		select {
		case <-ctx.Done():
			return given, err
		case <-time.After(unknownGap):
		}
	}
}
