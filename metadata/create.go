package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// createAtOnce is up to how many partitions are written by the transaction that makes the topic.
const createAtOnce = 100

// cleanupTimeout bounds the removal of what a failed creation wrote; what it leaves, a sweep removes.
const cleanupTimeout = 5 * time.Second

// CreateTopic makes a topic whose partitions belong to spec.Owner, or to whom spec.Place says, with leader epoch 0. It is visible only when all its
// partitions are there. Many partitions take many transactions under a record of the intent; when the creator dies in between, a
// sweep by any broker removes what it wrote. Errors: ErrExists for the name, ErrFenced for the incarnation, ErrConflict
// when a sweep ended the creation, ErrInvalid.
func (s *Store) CreateTopic(ctx context.Context, spec TopicSpec) (*Topic, error) {
	t := &Topic{Name: spec.Name, ID: randomID(), Partitions: spec.Partitions, ReplicationFactor: spec.ReplicationFactor,
		Configs: maps.Clone(spec.Configs), Internal: spec.Internal}
	value, err := encodeTopic(t)
	if err != nil {
		return nil, fmt.Errorf("create topic: %w", err)
	}
	if _, ok := s.Image().Topic(spec.Name); ok { // or was, when the image is behind
		page, err := s.read(ctx, kv.Range{Start: s.keys.name(spec.Name)})
		if err == nil && len(page.Pairs) > 0 {
			err = ErrExists
		}
		if err != nil {
			return nil, fmt.Errorf("create topic %s: %w", spec.Name, err)
		}
	}
	c := &creation{s: s, topic: t, first: 0, end: t.Partitions, owner: spec.Owner, incarnation: spec.Incarnation, place: spec.Place}
	name := s.keys.name(t.Name)
	err = c.run(ctx, func() kv.Txn {
		return kv.Txn{
			If:   []kv.Compare{kv.Absent(name), kv.Absent(s.keys.topic(t.ID))},
			Then: []kv.Op{kv.Put(s.keys.topic(t.ID), value), kv.Put(name, []byte(t.ID.Hex()))},
			Else: []kv.Op{kv.Get(name), kv.Get(s.keys.topic(t.ID))},
		}
	}, func(res kv.TxnResult, uncertain bool) (bool, error) {
		if now := res.Gets[1]; uncertain && len(now) == 1 {
			c.revision = now[0].ModRevision // the id is ours alone: an attempt was performed
			return true, nil
		}
		if len(res.Gets[0]) == 1 {
			return false, ErrExists
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("create topic %s: %w", spec.Name, err)
	}
	t.Revision = Revision(c.revision)
	if made, ok := s.Image().TopicByID(t.ID); ok {
		return made, nil
	}
	return t, nil // deleted already by somebody else
}

// AddPartitions raises a topic's number of partitions to newCount; the new ones belong to owner, or to whom place, which may be nil, says, with
// leader epoch 0. The change is fenced by the owner's incarnation. All become visible at once. Errors: ErrNotFound, ErrInvalid when newCount is not above the present number, ErrFenced,
// ErrConflict when somebody else is adding partitions.
func (s *Store) AddPartitions(ctx context.Context, id TopicID, newCount int32, owner BrokerID, incarnation Incarnation, place func(partition int32) Place) error {
	topic, ok := s.Image().TopicByID(id)
	if !ok {
		return fmt.Errorf("add partitions to topic %s: %w", id, ErrNotFound)
	}
	if newCount <= topic.Partitions || newCount > MaxTopicPartitions {
		return fmt.Errorf("add partitions to topic %s: %w: from %d to %d", topic.Name, ErrInvalid, topic.Partitions, newCount)
	}
	c := &creation{s: s, topic: topic, first: topic.Partitions, end: newCount, owner: owner, incarnation: incarnation, place: place}
	key := s.keys.topic(id)
	var written []byte
	err := c.run(ctx, func() kv.Txn {
		now, ok := s.Image().TopicByID(id)
		if !ok {
			now = topic // the comparison finds out
		}
		extended := *now
		extended.Partitions = newCount
		written, _ = encodeTopic(&extended) // valid: only the checked count differs
		return kv.Txn{
			If:   []kv.Compare{kv.Unchanged(key, int64(now.Revision))},
			Then: []kv.Op{kv.Put(key, written)},
			Else: []kv.Op{kv.Get(key)},
		}
	}, func(res kv.TxnResult, uncertain bool) (bool, error) {
		now := res.Gets[0]
		s.observe(found(key, now, res.Revision))
		if len(now) == 0 {
			return false, ErrNotFound
		}
		r, err := decodeTopic(now[0].Value)
		if err != nil {
			return false, err
		}
		switch {
		case uncertain && string(now[0].Value) == string(written):
			c.revision = now[0].ModRevision
			return true, nil
		case r.Partitions != c.first:
			return false, ErrConflict
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("add partitions to topic %s: %w", topic.Name, err)
	}
	return nil
}

// creation writes the partitions [first, end) of a topic and then makes them visible.
type creation struct {
	s           *Store
	topic       *Topic
	first, end  int32
	owner       BrokerID
	incarnation Incarnation
	place       func(int32) Place // nil: all partitions are the creator's
	intent      int64             // revision of the record of the intent; 0 without one
	revision    int64             // of the transaction that made it visible
}

// run performs the creation. publish makes the transaction that makes it visible, without guards; lost looks at the answer
// of its Else list, whose order it chose, and says whether it was performed after all; without an error it is tried again.
func (c *creation) run(ctx context.Context, publish func() kv.Txn, lost func(kv.TxnResult, bool) (bool, error)) error {
	if c.end-c.first <= createAtOnce {
		return c.publish(ctx, c.puts(c.first, c.end), publish, lost)
	}
	s, id := c.s, c.topic.ID
	s.mu.Lock()
	_, busy := s.creating[id]
	s.creating[id] = struct{}{}
	s.mu.Unlock()
	if busy {
		return ErrConflict
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.creating, id)
	}()
	err := c.declare(ctx)
	if err == nil {
		err = c.writeAll(ctx)
	}
	if err == nil {
		err = c.publish(ctx, []kv.Op{kv.Delete(s.keys.creating(id))}, publish, lost)
	}
	if err == nil || c.intent == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if cleanup := s.removeUnfinished(ctx, id, c.intent, c.first, c.end); cleanup != nil {
		s.logger.Warn("an unfinished topic was not removed; trying again later", "topic", c.topic.Name, "error", cleanup)
	}
	return err
}

// guards are the comparisons that every transaction of a creation makes: the creator is its broker's newest run.
func (c *creation) guards() []kv.Compare {
	if c.incarnation == 0 {
		return nil
	}
	return []kv.Compare{kv.Unchanged(c.s.keys.incarnation(c.owner), int64(c.incarnation))}
}

// fenced tells, from the answer to a Get of the broker's incarnation, whether guards failed.
func (c *creation) fenced(pairs []kv.Pair) bool {
	return c.incarnation != 0 && (len(pairs) == 0 || pairs[0].ModRevision != int64(c.incarnation))
}

func (c *creation) puts(first, end int32) []kv.Op {
	ops := make([]kv.Op, 0, end-first)
	for i := first; i < end; i++ {
		at := Place{c.owner, c.incarnation}
		if c.place != nil {
			at = c.place(i)
		}
		value := appendPartition(nil, &Partition{Owner: at.Broker, OwnerIncarnation: at.Incarnation})
		ops = append(ops, kv.Put(c.s.keys.partition(PartitionID{c.topic.ID, i}), value))
	}
	return ops
}

// declare records the intent.
func (c *creation) declare(ctx context.Context) error {
	s := c.s
	key := s.keys.creating(c.topic.ID)
	value := encodeJSON(creationRecord{Version: codecVersion, Name: c.topic.Name, Broker: c.owner, Incarnation: c.incarnation, First: c.first, End: c.end})
	res, uncertain, err := s.txn(ctx, kv.Txn{
		If:   append(c.guards(), kv.Absent(key), kv.Absent(s.keys.deleted(c.topic.ID))),
		Then: []kv.Op{kv.Put(key, value)},
		Else: []kv.Op{kv.Get(key), kv.Get(s.keys.incarnation(c.owner))},
	})
	switch {
	case err != nil:
		return err
	case res.Succeeded:
		c.intent = res.Revision
		return nil
	case c.fenced(res.Gets[1]):
		return ErrFenced
	case uncertain && len(res.Gets[0]) == 1 && string(res.Gets[0][0].Value) == string(value):
		c.intent = res.Gets[0][0].ModRevision
		return nil
	}
	return ErrConflict
}

// writeAll writes the partitions' keys, several transactions at a time.
func (c *creation) writeAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(chunksInFlight)
	guard := kv.Unchanged(c.s.keys.creating(c.topic.ID), c.intent)
	for first := c.first; first < c.end; first += chunkOps {
		group.Go(func() error {
			ops := c.puts(first, min(first+chunkOps, c.end))
			res, _, err := c.s.txn(ctx, kv.Txn{If: []kv.Compare{guard}, Then: ops})
			if err != nil {
				return err
			}
			if !res.Succeeded {
				return fmt.Errorf("%w: the creation was ended by a sweep", ErrConflict)
			}
			c.s.observe(c.s.written(res.Revision, ops)...)
			return nil
		})
	}
	return group.Wait()
}

// publish makes the partitions visible, together with ops.
func (c *creation) publish(ctx context.Context, ops []kv.Op, publish func() kv.Txn, lost func(kv.TxnResult, bool) (bool, error)) error {
	s := c.s
	creating := s.keys.creating(c.topic.ID)
	for attempt := range swapAttempts {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		t := publish()
		t.If = append(append(t.If, c.guards()...), kv.Unchanged(creating, c.intent))
		t.Then = append(t.Then, ops...)
		own := len(t.Else)
		t.Else = append(t.Else, kv.Get(s.keys.incarnation(c.owner)), kv.Get(creating))
		res, uncertain, err := s.txn(ctx, t)
		if err != nil {
			return err
		}
		if res.Succeeded {
			c.revision = res.Revision
			s.observe(s.written(c.revision, t.Then)...)
			return nil
		}
		performed, err := lost(res, uncertain)
		if performed {
			s.observe(s.written(c.revision, t.Then)...)
			return nil
		}
		if err != nil {
			return err
		}
		if c.fenced(res.Gets[own]) {
			return ErrFenced
		}
		if now := res.Gets[own+1]; c.intent != 0 && (len(now) == 0 || now[0].ModRevision != c.intent) {
			return fmt.Errorf("%w: the creation was ended by a sweep", ErrConflict)
		} else if c.intent == 0 && len(now) == 1 {
			return fmt.Errorf("%w: partitions are being added already", ErrConflict)
		}
	}
	return ErrConflict
}

// sweep removes what creations left whose creator is gone or gave up.
func (s *Store) sweep(ctx context.Context) error {
	start, end := s.keys.dir(dirCreating)
	var pairs []kv.Pair
	if _, err := s.scan(ctx, start, end, scanPage, func() { pairs = nil }, func(p kv.Pair) error {
		pairs = append(pairs, p)
		return nil
	}); err != nil {
		return err
	}
	var errs []error
	for _, p := range pairs {
		id, err := parseTopic(p.Key[len(start):])
		var r creationRecord
		if err == nil {
			r, err = decodeCreation(p.Value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("metadata key %s: %w", p.Key, err))
			continue
		}
		alive, err := s.creatorAlive(ctx, id, r)
		if err == nil && !alive {
			s.logger.Info("removing an unfinished topic", "topic", r.Name, "id", id, "partitions", r.End-r.First)
			err = s.removeUnfinished(ctx, id, p.ModRevision, r.First, r.End)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("unfinished topic %s: %w", r.Name, err))
		}
	}
	return errors.Join(errs...)
}

// creatorAlive tells whether a creation may still be going on. Being wrong does no harm: the removal fences the creator.
func (s *Store) creatorAlive(ctx context.Context, id TopicID, r creationRecord) (bool, error) {
	s.mu.Lock()
	_, going := s.creating[id]
	_, mine := s.mine[r.Incarnation]
	s.mu.Unlock()
	if going || mine {
		return going, nil
	}
	page, err := s.read(ctx, kv.Range{Start: s.keys.broker(r.Broker)})
	if err != nil || len(page.Pairs) == 0 {
		return false, err
	}
	b, err := brokerOf(r.Broker, page.Pairs[0])
	return err == nil && b.Incarnation == r.Incarnation, err
}

// removeUnfinished deletes the partitions [first, end) that a creation wrote, if the record of its intent is still at
// revision intent. The first transaction gives the record a new revision, after which the creator can write nothing more.
func (s *Store) removeUnfinished(ctx context.Context, id TopicID, intent int64, first, end int32) error {
	key := s.keys.creating(id)
	res, _, err := s.txn(ctx, kv.Txn{
		If:   []kv.Compare{kv.Unchanged(key, intent)},
		Then: []kv.Op{kv.Put(key, encodeJSON(creationRecord{Version: codecVersion, Broker: NoBroker, First: first, End: end}))},
		Else: []kv.Op{kv.Get(key)},
	})
	if err != nil {
		return err
	}
	rev := res.Revision
	if !res.Succeeded {
		if len(res.Gets[0]) == 0 {
			return nil // finished, or removed by somebody else
		}
		rev = res.Gets[0][0].ModRevision
		if r, err := decodeCreation(res.Gets[0][0].Value); err != nil || r.Broker != NoBroker || r.First != first || r.End != end {
			return fmt.Errorf("%w: the creation was begun again", ErrConflict)
		}
	}
	guard := []kv.Compare{kv.Unchanged(key, rev)}
	for i := first; i < end; i += purgeRange {
		stop := min(i+purgeRange, end)
		res, _, err := s.txn(ctx, kv.Txn{If: guard, Then: []kv.Op{kv.DeleteRange(s.keys.partition(PartitionID{id, i}), s.keys.partition(PartitionID{id, stop}))}})
		if err != nil || !res.Succeeded {
			return err // not performed: somebody else finished the removal
		}
		events := make([]kv.Event, 0, stop-i)
		for k := i; k < stop; k++ {
			events = append(events, deletion(s.keys.partition(PartitionID{id, k}), res.Revision))
		}
		s.observe(events...)
	}
	_, _, err = s.txn(ctx, kv.Txn{If: guard, Then: []kv.Op{kv.Delete(key)}})
	return err
}
