package metadata

import (
	"context"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// Release is a partition that its owner gives to another broker.
type Release struct {
	Partition     PartitionID
	LeaderEpoch   LeaderEpoch // under which the caller owns it
	To            BrokerID
	ToIncarnation Incarnation
}

// ReleasePartitions hands partitions over: from then on they belong to others, with leader epochs one higher. The caller has stopped
// appending to them for good and everything of them is in committed objects. It is performed only while the caller's streams are as they are in
// streams: once somebody recovers one of them, what becomes of its partitions is for that broker to say.
// A release that is there already succeeds, so the call can be repeated, and must be until its outcome is known: a partition that may
// have been given away must not be appended to. Order does not matter, and after an error some may be released.
// Errors: *PartialError by index (ErrFenced: another epoch, or a stream has moved on; ErrNotFound), ErrUnavailable.
func (s *Store) ReleasePartitions(ctx context.Context, streams []StreamState, releases []Release) error {
	u := partitionUpdate{ids: make([]PartitionID, len(releases))}
	for i := range releases {
		u.ids[i] = releases[i].Partition
	}
	for i := range streams {
		u.guard = append(u.guard, kv.Unchanged(s.keys.stream(streams[i].ID), int64(streams[i].Revision)))
	}
	u.decide = func(i int, p *Partition) error {
		r := &releases[i]
		switch {
		case p.LeaderEpoch == r.LeaderEpoch+1 && p.Owner == r.To && p.OwnerIncarnation == r.ToIncarnation:
			return nil
		case p.LeaderEpoch != r.LeaderEpoch:
			return fmt.Errorf("%w: leader epoch of %s is %d, not %d", ErrFenced, p.ID, p.LeaderEpoch, r.LeaderEpoch)
		}
		p.Owner, p.OwnerIncarnation = r.To, r.ToIncarnation
		p.LeaderEpoch++
		return nil
	}
	if err := s.updatePartitions(ctx, u); err != nil {
		return fmt.Errorf("release partitions: %w", err)
	}
	return nil
}

// Takeover is a partition of an incarnation that is over, and who gets it.
type Takeover struct {
	Partition     PartitionID
	To            BrokerID
	ToIncarnation Incarnation
}

// TakePartitions gives the partitions of the incarnation from to others, with leader epochs one higher. It is refused with ErrConflict unless every
// stream of from is sealed or forgotten, which is compared in the transaction: before that there may be acknowledged records that no
// object has. It can be repeated, by any broker; of two that give a partition to different brokers one gets ErrConflict for it.
// Errors: *PartialError by index, ErrConflict, ErrUnavailable.
func (s *Store) TakePartitions(ctx context.Context, from Incarnation, takeovers []Takeover) error {
	guard, err := s.sealedGuard(ctx, from)
	if err != nil {
		return fmt.Errorf("take partitions of incarnation %d: %w", from, err)
	}
	return s.take(ctx, from, guard, takeovers)
}

// TakeShards gives partitions without data, those whose ownership stands for a coordinator's shard, of a run that is not registered any more
// to others. Nothing is in its streams for them, so nobody needs to wait for those: a write of the former owner is fenced by the partition's
// record. Refused with ErrConflict while from's broker is registered; otherwise as TakePartitions.
func (s *Store) TakeShards(ctx context.Context, from Place, takeovers []Takeover) error {
	key := s.keys.broker(from.Broker)
	page, err := s.read(ctx, kv.Range{Start: key})
	if err != nil {
		return fmt.Errorf("take shards of broker %d: %w", from.Broker, err)
	}
	if len(page.Pairs) > 0 {
		return fmt.Errorf("take shards of broker %d: %w: it is registered", from.Broker, ErrConflict)
	}
	return s.take(ctx, from.Incarnation, []kv.Compare{kv.Unchanged(key, 0)}, takeovers)
}

func (s *Store) take(ctx context.Context, from Incarnation, guard []kv.Compare, takeovers []Takeover) error {
	u := partitionUpdate{ids: make([]PartitionID, len(takeovers)), guard: guard}
	for i := range takeovers {
		u.ids[i] = takeovers[i].Partition
	}
	u.decide = func(i int, p *Partition) error {
		t := &takeovers[i]
		switch {
		case p.Owner == t.To && p.OwnerIncarnation == t.ToIncarnation:
			return nil
		case p.OwnerIncarnation != from:
			return fmt.Errorf("%w: %s belongs to incarnation %d of broker %d", ErrConflict, p.ID, p.OwnerIncarnation, p.Owner)
		}
		p.Owner, p.OwnerIncarnation = t.To, t.ToIncarnation
		p.LeaderEpoch++
		return nil
	}
	if err := s.updatePartitions(ctx, u); err != nil {
		return fmt.Errorf("take partitions of incarnation %d: %w", from, err)
	}
	return nil
}

// sealedGuard is the condition that the streams of an incarnation stay as they are: sealed, or not there.
func (s *Store) sealedGuard(ctx context.Context, of Incarnation) ([]kv.Compare, error) {
	var ids []StreamID
	var gets []kv.Op
	for class := ClassLocal; class <= ClassObject; class++ {
		id := NewStreamID(of, class)
		ids, gets = append(ids, id), append(gets, kv.Get(s.keys.stream(id)))
	}
	res, _, err := s.txn(ctx, kv.Txn{Then: gets})
	if err != nil {
		return nil, err
	}
	guard := make([]kv.Compare, len(ids))
	for i, id := range ids {
		guard[i] = kv.Unchanged(s.keys.stream(id), 0)
		if len(res.Gets[i]) == 0 {
			continue
		}
		st, err := streamOf(id, res.Gets[i][0])
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", id, err)
		}
		if st.State != StreamSealed {
			return nil, fmt.Errorf("%w: stream %s is %s", ErrConflict, id, st.State)
		}
		guard[i].Revision = int64(st.Revision)
	}
	return guard, nil
}
