package broker

import (
	"context"
	"errors"
	"testing"

	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/metadata"
)

// failingStates cannot load any groups while fail is set.
type failingStates struct {
	*metadata.CoordinatorStore
	fail bool
}

func (s *failingStates) LoadGroups(ctx context.Context, fn func(string, []byte, metadata.Revision) error) error {
	if s.fail {
		return errors.New("etcd is away")
	}
	return s.CoordinatorStore.LoadGroups(ctx, fn)
}

// TestShardsThatMoveWhileTheyAreLoaded: a broker that could not load its groups sends members away once others have them.
func TestShardsThatMoveWhileTheyAreLoaded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.add(1)
		b := f.runs[1].broker
		spec := metadata.TopicSpec{
			Name: "__consumer_offsets", Internal: true, Partitions: group.NumShards, ReplicationFactor: 1, Owner: b.nodeID, Incarnation: b.incarnation,
		}
		topic, err := b.meta.CreateTopic(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		s := newShards(b)
		store := b.meta.Coordinator(s.fenceOf)
		states := &failingStates{store, true}
		groups, err := group.New(group.Options{
			States: states, Offsets: store, Incarnation: b.incarnation, TopicName: func(metadata.TopicID) (string, bool) { return "", false },
		})
		if err != nil {
			t.Fatal(err)
		}
		s.coordinator = groups
		if err := s.follow(t.Context()); err == nil {
			t.Fatal("loaded from an etcd that is away")
		}
		var all []metadata.Release
		for _, p := range b.meta.Image().PartitionsOf(topic.ID) {
			all = append(all, metadata.Release{Partition: p.ID, LeaderEpoch: p.LeaderEpoch, To: 9, ToIncarnation: 999})
		}
		if err := b.meta.ReleasePartitions(t.Context(), nil, all); err != nil {
			t.Fatal(err)
		}
		states.fail = false
		if err := s.follow(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := groups.Heartbeat("g", "m", nil, 1); err == nil {
			t.Error("a heartbeat is welcome at a broker that does not own the shard")
		}
	})
}
