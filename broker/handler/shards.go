package handler

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/metadata"
)

// GroupShards is the topic by whose partitions the shards of groups are owned.
const GroupShards = offsetsTopic

// ShardPartition is the partition of an internal topic by whose ownership a shard of a coordinator is owned. There is none before somebody sought the
// coordinator. A topic of that name with another number of partitions, made by hand, carries the shards as well as it can.
func ShardPartition(im *metadata.Image, name string, shard int) (*metadata.Partition, bool) {
	topic, ok := im.Topic(name)
	if !ok || topic.Partitions == 0 {
		return nil, false
	}
	return im.Partition(metadata.PartitionID{Topic: topic.ID, Partition: int32(shard) % topic.Partitions})
}

// groupCoordinator is the broker that coordinates a group. Like Kafka, the first question makes the topic by which the shards are owned.
func (b *Broker) groupCoordinator(ctx context.Context, id string) (metadata.Broker, *kerr.Error) {
	nobody := metadata.Broker{ID: metadata.NoBroker, Port: -1}
	im := b.Meta.Image()
	p, ok := ShardPartition(im, GroupShards, group.ShardOf(id, group.NumShards))
	if !ok {
		if err := b.makeOffsetsTopic(ctx); err != nil {
			b.logger.WarnContext(ctx, "the topic of groups' offsets cannot be made", "error", err)
			return nobody, kerr.CoordinatorNotAvailable
		}
		im = b.Meta.Image()
		if p, ok = ShardPartition(im, GroupShards, group.ShardOf(id, group.NumShards)); !ok {
			return nobody, kerr.CoordinatorNotAvailable
		}
	}
	if owner, live := im.Broker(p.Owner); live && owner.Incarnation == p.OwnerIncarnation {
		return owner, nil
	}
	return nobody, kerr.CoordinatorNotAvailable
}

// makeOffsetsTopic makes the topic with Kafka's configs, and has this broker coordinate its share before it is told.
func (b *Broker) makeOffsetsTopic(ctx context.Context) error {
	im := b.Meta.Image()
	spec := metadata.TopicSpec{
		Name: offsetsTopic, Internal: true, Partitions: group.NumShards, Owner: b.NodeID, Incarnation: b.Incarnation(),
		ReplicationFactor: int16(b.Configs.BrokerInt(b.layers(im), configs.OffsetsReplicationFactor)),
		Configs:           map[string]string{"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": "104857600"},
	}
	spec.Place = b.spread(im, 0, spec.Partitions)
	_, err := b.makeTopic(ctx, spec)
	if code, _, _ := verdict(err); err != nil && code != kerr.TopicAlreadyExists.Code {
		return err
	}
	if b.FollowShards == nil {
		return nil
	}
	if err := b.FollowShards(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// IsShards tells whether the topic's partitions stand for shards of a coordinator: they hold no records.
func IsShards(t *metadata.Topic) bool { return t.Internal && t.Name == offsetsTopic }
