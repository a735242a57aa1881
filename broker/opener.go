package broker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
)

const openParallel = 64 // partitions whose state is read at once

// opener opens and closes partitions as the metadata says. It implements handler.Opener.
type opener struct {
	catalog    *tiering.Catalog
	partitions *partition.Set
	config     func(*metadata.Topic) configs.Topic
	deleted    func(metadata.TopicID) // takes what hangs on a deleted topic away; must not block
}

// OpenPartition reads the partition's state from the object store and serves it.
func (o *opener) OpenPartition(ctx context.Context, topic *metadata.Topic, p *metadata.Partition) error {
	config, err := partition.ConfigOf(o.config(topic))
	if err != nil {
		return fmt.Errorf("open %s-%d: %w", topic.Name, p.ID.Partition, err)
	}
	return o.open(ctx, topic, p, config)
}

func (o *opener) open(ctx context.Context, topic *metadata.Topic, p *metadata.Partition, config *partition.Config) error {
	if _, open := o.partitions.Get(p.ID); open {
		return nil
	}
	state, err := o.catalog.State(ctx, p.ID)
	if err != nil {
		return fmt.Errorf("open %s-%d: %w", topic.Name, p.ID.Partition, err)
	}
	open := partition.OpenState{ID: p.ID, Topic: topic.Name, LeaderEpoch: p.LeaderEpoch, Config: config}
	open.From(state)
	if _, err = o.partitions.Open(open); err != nil {
		if _, other := o.partitions.Get(p.ID); other {
			return nil // somebody else opened it meanwhile
		}
	}
	return err
}

// ClosePartitions ends the serving of a topic.
func (o *opener) ClosePartitions(topic metadata.TopicID) {
	for _, p := range o.partitions.All() {
		if p.ID().Topic == topic {
			o.partitions.Close(p.ID())
		}
	}
	o.deleted(topic)
}

// reconcile opens what this run owns and does not serve, and closes what it serves and does not own (any more): creations whose
// opening failed, and what other brokers changed.
func (o *opener) reconcile(ctx context.Context, image func() *metadata.Image, incarnation metadata.Incarnation) error {
	gone := map[metadata.TopicID]bool{}
	// The image is taken after the list: a partition is open only when the image has it. The other way round one that was created in
	// between would be taken for deleted, and open again without its tail.
	open := o.partitions.All()
	im := image()
	for _, p := range open {
		now, ok := im.Partition(p.ID())
		switch {
		case !ok:
			gone[p.ID().Topic] = true
		case now.OwnerIncarnation != incarnation || now.LeaderEpoch != p.LeaderEpoch():
			o.partitions.Close(p.ID())
		}
	}
	for topic := range gone {
		o.ClosePartitions(topic)
	}
	var errs []error
	for topic := range im.Topics() {
		for _, p := range im.PartitionsOf(topic.ID) {
			if _, open := o.partitions.Get(p.ID); !open && p.OwnerIncarnation == incarnation {
				errs = append(errs, o.OpenPartition(ctx, topic, p))
			}
		}
	}
	return errors.Join(errs...)
}

// acquireAll takes every partition of the broker's former runs and opens it.
func (b *Broker) acquireAll(ctx context.Context, o *opener) error {
	var mine []metadata.PartitionID
	im := b.meta.Image()
	for topic := range im.Topics() {
		for _, p := range im.PartitionsOf(topic.ID) {
			if p.Owner == b.nodeID {
				mine = append(mine, p.ID)
			}
		}
	}
	if err := b.meta.AcquirePartitions(ctx, b.nodeID, b.incarnation, mine); err != nil {
		return fmt.Errorf("acquire %d partitions: %w", len(mine), err)
	}
	return b.openAll(ctx, o)
}

// opening is a partition that is to be opened.
type opening struct {
	topic  *metadata.Topic
	record *metadata.Partition
	config *partition.Config
}

// openAll opens what this run owns: a stretch of partitions at a time, whose manifests are read together.
func (b *Broker) openAll(ctx context.Context, o *opener) error {
	var all []opening
	im := b.meta.Image()
	for topic := range im.Topics() {
		config, err := partition.ConfigOf(o.config(topic))
		if err != nil {
			return fmt.Errorf("topic %s: %w", topic.Name, err)
		}
		for _, p := range im.PartitionsOf(topic.ID) {
			if p.Owner == b.nodeID && p.OwnerIncarnation == b.incarnation {
				all = append(all, opening{topic, p, config})
			}
		}
	}
	slices.SortFunc(all, func(a, b opening) int {
		return cmp.Or(bytes.Compare(a.topic.ID[:], b.topic.ID[:]), cmp.Compare(a.record.ID.Partition, b.record.ID.Partition))
	})
	ids := make([]metadata.PartitionID, len(all))
	for i := range all {
		ids[i] = all[i].record.ID
	}
	for len(all) > 0 {
		n, err := o.catalog.Preload(ctx, ids)
		if err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(openParallel)
		for _, p := range all[:n] {
			group.Go(func() error { return o.open(ctx, p.topic, p.record, p.config) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		all, ids = all[n:], ids[n:]
	}
	return nil
}
