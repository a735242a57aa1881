package metadata

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// SetTopicConfigs replaces a topic's configs by what fn makes of the present ones. fn gets a copy and may return it changed;
// it is called again when the swap was lost, and its error ends the attempt and is returned as it is.
func (s *Store) SetTopicConfigs(ctx context.Context, id TopicID, fn func(old map[string]string) (map[string]string, error)) error {
	err := s.updateTopic(ctx, id, func(t *Topic) error {
		old := maps.Clone(t.Configs)
		if old == nil {
			old = map[string]string{}
		}
		configs, err := fn(old)
		if err != nil {
			return err
		}
		t.Configs = configs
		return nil
	})
	if err != nil {
		return fmt.Errorf("set configs of topic %s: %w", id, err)
	}
	return nil
}

// updateTopic swaps a topic's record for what fn makes of it.
func (s *Store) updateTopic(ctx context.Context, id TopicID, fn func(*Topic) error) error {
	for attempt := range swapAttempts {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		old, ok := s.Image().TopicByID(id)
		if !ok {
			return ErrNotFound
		}
		t := *old
		if err := fn(&t); err != nil {
			return err
		}
		value, err := encodeTopic(&t)
		if err != nil {
			return err
		}
		done, err := s.swapOne(ctx, s.keys.topic(id), old.Revision, value)
		if err != nil || done {
			return err
		}
	}
	return ErrConflict
}

// swapOne writes a value below meta/ if the key's revision is still rev. It returns false when it is not, after bringing the
// image up to date.
func (s *Store) swapOne(ctx context.Context, key string, rev Revision, value []byte) (bool, error) {
	ops := []kv.Op{kv.Put(key, value)}
	res, uncertain, err := s.txn(ctx, kv.Txn{If: []kv.Compare{kv.Unchanged(key, int64(rev))}, Then: ops, Else: []kv.Op{kv.Get(key)}})
	if err != nil {
		return false, err
	}
	if res.Succeeded {
		s.observe(s.written(res.Revision, ops)...)
		return true, nil
	}
	now := res.Gets[0]
	s.observe(found(key, now, res.Revision))
	// An attempt of unknown outcome that was performed left the value asked for, or one made from it. The latter cannot be
	// told from a lost swap, and repeating the change is harmless then.
	return uncertain && len(now) == 1 && string(now[0].Value) == string(value), nil
}

func encodeTopic(t *Topic) ([]byte, error) {
	if err := validateTopic(t.Name, t.Partitions, t.Configs); err != nil {
		return nil, err
	}
	return encodeJSON(topicRecord{Version: codecVersion, Name: t.Name, Partitions: t.Partitions,
		ReplicationFactor: t.ReplicationFactor, Internal: t.Internal, Configs: t.Configs}), nil
}

// SetBrokerConfigs replaces the dynamic configs of a broker, or of the whole cluster for ClusterDefault, by what fn makes of
// the present ones. fn is called as in SetTopicConfigs. The broker need not be live.
func (s *Store) SetBrokerConfigs(ctx context.Context, id BrokerID, fn func(old map[string]string) (map[string]string, error)) error {
	if id < ClusterDefault {
		return fmt.Errorf("set configs of broker %d: %w", id, ErrInvalid)
	}
	for attempt := range swapAttempts {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		present := s.Image().configs[id]
		old := maps.Clone(present.configs)
		if old == nil {
			old = map[string]string{}
		}
		configs, err := fn(old)
		if err == nil {
			err = validateConfigs(configs)
		}
		if err != nil {
			return fmt.Errorf("set configs of broker %d: %w", id, err)
		}
		done, err := s.swapOne(ctx, s.keys.config(id), present.revision, encodeJSON(configRecord{Version: codecVersion, Configs: configs}))
		if err != nil {
			return fmt.Errorf("set configs of broker %d: %w", id, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("set configs of broker %d: %w", id, ErrConflict)
}

// DeleteTopic makes a topic disappear: its name is free at once. A tombstone and the partitions' keys stay for the reaper,
// which finds them by DeletedTopics and ends them by PurgeTopic. From now on every mutation of its partitions fails.
func (s *Store) DeleteTopic(ctx context.Context, id TopicID) error {
	for attempt := range swapAttempts {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		topic, ok := s.Image().TopicByID(id)
		if !ok {
			return fmt.Errorf("delete topic %s: %w", id, ErrNotFound)
		}
		key, name, grave := s.keys.topic(id), s.keys.name(topic.Name), s.keys.deleted(id)
		tombstone := encodeJSON(tombstoneRecord{Version: codecVersion, Name: topic.Name, Partitions: topic.Partitions, DeletedMillis: time.Now().UnixMilli()})
		ops := []kv.Op{kv.Delete(key), kv.Delete(name), kv.Put(grave, tombstone)}
		res, uncertain, err := s.txn(ctx, kv.Txn{
			If:   []kv.Compare{kv.Unchanged(key, int64(topic.Revision))},
			Then: ops,
			Else: []kv.Op{kv.Get(key), kv.Get(grave)},
		})
		if err != nil {
			return fmt.Errorf("delete topic %s: %w", id, err)
		}
		if res.Succeeded {
			s.observe(s.written(res.Revision, ops)...)
			return nil
		}
		s.observe(found(key, res.Gets[0], res.Revision), found(grave, res.Gets[1], res.Revision))
		if uncertain && len(res.Gets[0]) == 0 {
			return nil
		}
	}
	return fmt.Errorf("delete topic %s: %w", id, ErrConflict)
}

// DeletedTopics returns the tombstones of topics that are not purged yet, with the manifests that they last had, sorted by
// id. Pending objects may hold more of them. It takes them from the image, without I/O.
func (s *Store) DeletedTopics(context.Context) ([]DeletedTopic, error) {
	return s.Image().DeletedTopics(), nil
}

// purgeRange is how many partitions' keys one transaction of a purge deletes.
const purgeRange = 1000

// PurgeTopic forgets a deleted topic, after its objects are gone. Purging a topic that is purged already does nothing.
func (s *Store) PurgeTopic(ctx context.Context, id TopicID) error {
	grave := s.keys.deleted(id)
	tombstone, ok := s.Image().deleted[id]
	if !ok {
		return nil
	}
	held := 0
	if st := s.Image().state(id); st != nil {
		held = len(st.parts)
	}
	for first := 0; first < held; first += purgeRange {
		end := min(first+purgeRange, held)
		op := kv.DeleteRange(s.keys.partition(PartitionID{id, int32(first)}), s.keys.partition(PartitionID{id, int32(end)}))
		res, _, err := s.txn(ctx, kv.Txn{If: []kv.Compare{kv.Exists(grave)}, Then: []kv.Op{op}, Else: []kv.Op{kv.Get(grave)}})
		if err != nil {
			return fmt.Errorf("purge topic %s: %w", tombstone.Name, err)
		}
		events := make([]kv.Event, 0, end-first)
		for i := first; i < end; i++ {
			events = append(events, deletion(s.keys.partition(PartitionID{id, int32(i)}), res.Revision))
		}
		if !res.Succeeded { // somebody else purged it all
			events = append(events, deletion(grave, res.Revision))
		}
		s.observe(events...)
	}
	start := s.keys.partition(PartitionID{Topic: id})
	start = start[:len(start)-len(hex32(0))]
	ops := []kv.Op{kv.Delete(grave), kv.DeleteRange(start, kv.PrefixEnd(start))}
	res, _, err := s.txn(ctx, kv.Txn{Then: ops})
	if err != nil {
		return fmt.Errorf("purge topic %s: %w", tombstone.Name, err)
	}
	s.observe(deletion(grave, res.Revision))
	return nil
}
