package metadata

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// AcquirePartitions makes the partitions belong to an incarnation of a broker, with leader epochs one higher. Partitions
// that belong to it already are left alone, so it can be repeated. The caller has seen to it that the previous owner's stream is
// sealed. Order does not matter; several transactions are in flight at a time, so after an error some may be acquired.
// Errors: ErrFenced when the broker has a newer incarnation, otherwise *PartialError by index.
func (s *Store) AcquirePartitions(ctx context.Context, owner BrokerID, incarnation Incarnation, ids []PartitionID) error {
	return s.acquire(ctx, owner, incarnation, ids, func(*Partition) error { return nil })
}

// ResumePartitions is AcquirePartitions for what former runs of the same broker own: an item that another broker has been given meanwhile is
// ErrConflict.
func (s *Store) ResumePartitions(ctx context.Context, owner BrokerID, incarnation Incarnation, ids []PartitionID) error {
	return s.acquire(ctx, owner, incarnation, ids, func(p *Partition) error {
		if p.Owner != owner {
			return fmt.Errorf("%w: %s belongs to broker %d now", ErrConflict, p.ID, p.Owner)
		}
		return nil
	})
}

func (s *Store) acquire(ctx context.Context, owner BrokerID, incarnation Incarnation, ids []PartitionID, allowed func(*Partition) error) error {
	u := partitionUpdate{
		ids:   ids,
		guard: []kv.Compare{kv.Unchanged(s.keys.incarnation(owner), int64(incarnation))},
		decide: func(_ int, p *Partition) error {
			if p.Owner == owner && p.OwnerIncarnation == incarnation {
				return nil
			}
			if err := allowed(p); err != nil {
				return err
			}
			p.Owner, p.OwnerIncarnation = owner, incarnation
			p.LeaderEpoch++
			return nil
		},
	}
	if err := s.updatePartitions(ctx, u); err != nil {
		return fmt.Errorf("acquire partitions: %w", err)
	}
	return nil
}

// SetLogStart raises a partition's log start offset; a lower one leaves it. ErrFenced when the leader epoch is not the
// caller's any more.
func (s *Store) SetLogStart(ctx context.Context, id PartitionID, epoch LeaderEpoch, start Offset) error {
	u := partitionUpdate{ids: []PartitionID{id}, decide: func(_ int, p *Partition) error {
		if p.LeaderEpoch != epoch {
			return fmt.Errorf("%w: leader epoch is %d, not %d", ErrFenced, p.LeaderEpoch, epoch)
		}
		p.LogStart = max(p.LogStart, start)
		return nil
	}}
	err := s.updatePartitions(ctx, u)
	if p, ok := err.(*PartialError); ok { //nolint:errorlint // made just now
		err = p.Errors[0]
	}
	if err != nil {
		return fmt.Errorf("set log start of %s: %w", id, err)
	}
	return nil
}

// SwapManifests points partitions at new manifests. Each is a swap of its own: on the leader epoch (ErrFenced) and on the
// old generation (ErrConflict). A swap that is there already succeeds, so the call can be repeated. A partition may be named
// once. Errors: *PartialError by index.
func (s *Store) SwapManifests(ctx context.Context, swaps []ManifestSwap) error {
	ids := make([]PartitionID, len(swaps))
	for i := range swaps {
		ids[i] = swaps[i].Partition
	}
	u := partitionUpdate{ids: ids, decide: func(i int, p *Partition) error {
		sw := &swaps[i]
		if p.LeaderEpoch != sw.LeaderEpoch {
			return fmt.Errorf("%w: leader epoch of %s is %d, not %d", ErrFenced, p.ID, p.LeaderEpoch, sw.LeaderEpoch)
		}
		if p.Manifest != sw.New {
			if p.Manifest.Generation != sw.Old {
				return fmt.Errorf("%w: manifest of %s has generation %d, not %d", ErrConflict, p.ID, p.Manifest.Generation, sw.Old)
			}
			if sw.New.Generation <= sw.Old {
				return fmt.Errorf("%w: manifest generation %d after %d", ErrInvalid, sw.New.Generation, sw.Old)
			}
			p.Manifest = sw.New
		}
		p.LogStart = max(p.LogStart, sw.LogStart)
		return nil
	}}
	if err := s.updatePartitions(ctx, u); err != nil {
		return fmt.Errorf("swap manifests: %w", err)
	}
	return nil
}

// partitionUpdate is a change of many partitions, each swapped by itself.
type partitionUpdate struct {
	ids   []PartitionID
	guard []kv.Compare // conditions on mod revisions, on keys other than a partition's; when one fails all is ErrFenced
	// decide changes a copy of partition i, or leaves it as it is when nothing is to be done; that it is so is compared in
	// etcd, since the image may be behind. It is called again after a lost swap and must recognise its own change.
	decide func(i int, p *Partition) error
}

// updatePartitions performs u in chunks.
func (s *Store) updatePartitions(ctx context.Context, u partitionUpdate) error {
	var mu sync.Mutex
	failed := map[int]error{}
	seen := make(map[PartitionID]struct{}, len(u.ids))
	var group errgroup.Group
	group.SetLimit(chunksInFlight)
	var chunk []int
	topics := map[TopicID]struct{}{}
	flush := func() {
		if len(chunk) == 0 {
			return
		}
		work := chunk
		group.Go(func() error {
			errs := s.updateChunk(ctx, u, work)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(failed, errs)
			return nil
		})
		chunk, topics = nil, map[TopicID]struct{}{}
	}
	for i, id := range u.ids {
		if _, twice := seen[id]; twice {
			mu.Lock()
			failed[i] = fmt.Errorf("%w: partition %s is named twice", ErrInvalid, id)
			mu.Unlock()
			continue
		}
		seen[id] = struct{}{}
		// Every partition is a comparison and a put, every topic and guard is a comparison.
		if _, ok := topics[id.Topic]; !ok && len(chunk)+len(topics)+len(u.guard)+1 > chunkOps {
			flush()
		}
		topics[id.Topic] = struct{}{}
		if chunk = append(chunk, i); len(chunk)+len(topics)+len(u.guard) > chunkOps {
			flush()
		}
	}
	flush()
	if err := group.Wait(); err != nil {
		return err
	}
	return partial(failed)
}

// updateChunk performs the items of one transaction, again and again without those that failed. It returns the errors by
// item.
func (s *Store) updateChunk(ctx context.Context, u partitionUpdate, items []int) map[int]error {
	errs := map[int]error{}
	failAll := func(err error) map[int]error {
		for _, i := range items {
			if errs[i] == nil {
				errs[i] = err
			}
		}
		return errs
	}
	for attempt := range swapAttempts {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		t, left, doubtful := s.partitionTxn(u, items, errs)
		if attempt == 0 && len(doubtful) > 0 { // the image may be behind: no refusal without a look
			err := s.refresh(ctx, u, doubtful)
			clear(errs) // what the image refused is not known to be so
			if err != nil {
				return failAll(err)
			}
			continue
		}
		if len(left) == 0 {
			return errs
		}
		items = left
		res, _, err := s.txn(ctx, t)
		if err != nil {
			return failAll(err)
		}
		if res.Succeeded {
			s.observe(s.written(res.Revision, t.Then)...)
			return errs
		}
		// In the order of Else: the guard, topics and partitions.
		events := make([]kv.Event, 0, len(res.Gets))
		for i, op := range t.Else {
			if i < len(u.guard) {
				if now := res.Gets[i]; revisionOf(now) != u.guard[i].Revision {
					return failAll(fmt.Errorf("%w: %s has changed", ErrFenced, op.Key))
				}
				continue
			}
			events = append(events, found(op.Key, res.Gets[i], res.Revision))
		}
		s.observe(events...)
	}
	return failAll(ErrConflict)
}

// revisionOf is the mod revision of what a Get returned; 0: nothing is there.
func revisionOf(pairs []kv.Pair) int64 {
	if len(pairs) == 0 {
		return 0
	}
	return pairs[0].ModRevision
}

// refresh brings the image up to date about partitions and their topics.
func (s *Store) refresh(ctx context.Context, u partitionUpdate, items []int) error {
	var ops []kv.Op
	topics := map[TopicID]struct{}{}
	for _, i := range items {
		id := u.ids[i]
		if _, ok := topics[id.Topic]; !ok {
			topics[id.Topic] = struct{}{}
			ops = append(ops, kv.Get(s.keys.topic(id.Topic)))
		}
		ops = append(ops, kv.Get(s.keys.partition(id)))
	}
	res, _, err := s.txn(ctx, kv.Txn{Then: ops})
	if err != nil {
		return err
	}
	events := make([]kv.Event, len(ops))
	for i, op := range ops {
		events[i] = found(op.Key, res.Gets[i], res.Revision)
	}
	s.observe(events...)
	return nil
}

// partitionTxn makes the transaction for the items that can be done, which it returns. It notes the errors of the others
// and returns those that are there but refused.
func (s *Store) partitionTxn(u partitionUpdate, items []int, errs map[int]error) (t kv.Txn, left, doubtful []int) {
	im := s.Image()
	t.If = append(t.If, u.guard...)
	for _, g := range u.guard {
		t.Else = append(t.Else, kv.Get(g.Key))
	}
	topics := map[TopicID]struct{}{}
	var gets []kv.Op
	for _, i := range items {
		id := u.ids[i]
		old, ok := im.Partition(id)
		if !ok {
			errs[i] = fmt.Errorf("%w: partition %s", ErrNotFound, id)
			continue
		}
		p := *old
		err := u.decide(i, &p)
		if err == nil {
			err = p.validate()
		}
		if err != nil {
			errs[i] = err
			doubtful = append(doubtful, i)
			continue
		}
		if _, ok := topics[id.Topic]; !ok { // a deleted topic must not get new manifests
			topics[id.Topic] = struct{}{}
			t.If = append(t.If, kv.Exists(s.keys.topic(id.Topic)))
			t.Else = append(t.Else, kv.Get(s.keys.topic(id.Topic)))
		}
		key := s.keys.partition(id)
		t.If = append(t.If, kv.Unchanged(key, int64(old.Revision)))
		if p != *old {
			t.Then = append(t.Then, kv.Put(key, appendPartition(nil, &p)))
		}
		gets = append(gets, kv.Get(key))
		left = append(left, i)
	}
	t.Else = append(t.Else, gets...)
	return t, left, doubtful
}
