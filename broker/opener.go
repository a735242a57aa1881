package broker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
	pending    tiering.PendingLister // lists what other brokers have committed
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
		if errors.Is(err, partition.ErrReleased) {
			return nil // the image is older than the hand-over
		}
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
	o.partitions.ForgetReleased(func(id metadata.PartitionID) bool { _, ok := image().Partition(id); return ok })
	return o.openAll(ctx, im, incarnation)
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
	err := b.meta.ResumePartitions(ctx, b.nodeID, b.incarnation, mine)
	if partial, ok := errors.AsType[*metadata.PartialError](err); ok {
		maps.DeleteFunc(partial.Errors, func(_ int, err error) bool { return errors.Is(err, metadata.ErrConflict) }) // another broker has it
		if err = partial; len(partial.Errors) == 0 {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("acquire %d partitions: %w", len(mine), err)
	}
	return o.openAll(ctx, b.meta.Image(), b.incarnation)
}

// opening is a partition that is to be opened.
type opening struct {
	topic  *metadata.Topic
	record *metadata.Partition
	config *partition.Config
}

// openAll opens what the image gives to this run and it does not serve: a stretch of partitions at a time, whose manifests are read
// together. What cannot be opened does not keep others from it.
func (o *opener) openAll(ctx context.Context, im *metadata.Image, incarnation metadata.Incarnation) error {
	all, errs := o.closed(im, incarnation)
	if slices.ContainsFunc(all, func(p opening) bool { return p.record.LeaderEpoch > 0 }) {
		// Whoever had it before has put its last objects into the list before it let go.
		if err := o.catalog.Sync(ctx, o.pending); err != nil {
			return err
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
		var group errgroup.Group
		group.SetLimit(openParallel)
		for _, p := range all[:n] {
			group.Go(func() error { return o.open(ctx, p.topic, p.record, p.config) })
		}
		errs = errors.Join(errs, group.Wait())
		all, ids = all[n:], ids[n:]
	}
	return errs
}

// closed is what the image gives to this run and it does not serve.
func (o *opener) closed(im *metadata.Image, incarnation metadata.Incarnation) (all []opening, errs error) {
	for topic := range im.Topics() {
		var config *partition.Config
		for _, p := range im.PartitionsOf(topic.ID) {
			if p.OwnerIncarnation != incarnation {
				continue
			}
			if _, open := o.partitions.Get(p.ID); open {
				continue
			}
			if config == nil {
				var err error
				if config, err = partition.ConfigOf(o.config(topic)); err != nil {
					errs = errors.Join(errs, fmt.Errorf("topic %s: %w", topic.Name, err))
					break
				}
			}
			all = append(all, opening{topic, p, config})
		}
	}
	return all, errs
}
