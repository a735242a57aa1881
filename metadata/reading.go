package metadata

import (
	"context"
	"fmt"
	"iter"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// All returns all partitions of all topics, in no order.
func (im *Image) All() iter.Seq[*Partition] {
	return func(yield func(*Partition) bool) {
		for _, shard := range im.ids {
			for id := range shard.m {
				for _, p := range im.PartitionsOf(id) {
					if !yield(p) {
						return
					}
				}
			}
		}
	}
}

// Partition returns a partition as the newest image has it.
func (s *Store) Partition(id PartitionID) (*Partition, bool) { return s.Image().Partition(id) }

// All returns all partitions as the newest image has them, in no order.
func (s *Store) All() iter.Seq[*Partition] { return s.Image().All() }

// LiveWriters reads from etcd who may still commit objects or swap manifests: the ids of the streams that are not sealed, and the
// incarnations of the registered brokers.
func (s *Store) LiveWriters(ctx context.Context) (map[uint64]bool, error) {
	streams, err := s.Streams(ctx, NoBroker)
	if err != nil {
		return nil, err
	}
	live := map[uint64]bool{}
	for _, st := range streams {
		if st.State != StreamSealed {
			live[uint64(st.ID)] = true
		}
	}
	start, end := s.keys.dir(dirBroker)
	_, err = s.scan(ctx, start, end, scanPage, func() {}, func(p kv.Pair) error {
		b, err := brokerOf(0, p)
		if err != nil {
			return fmt.Errorf("metadata key %s: %w", p.Key, err)
		}
		live[uint64(b.Incarnation)] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list brokers: %w", err)
	}
	return live, nil
}
