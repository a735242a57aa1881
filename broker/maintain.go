package broker

import (
	"context"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
)

// startMaintainer begins to absorb, merge, retain and reap what this broker owns.
func (s *serving) startMaintainer(life context.Context) {
	b := s.broker
	m := tiering.NewMaintainer(tiering.MaintainerOptions{
		Catalog: b.catalog, Meta: b.meta, Owner: owner{s.partitions}, Broker: b.nodeID, Incarnation: b.incarnation,
		Others:      func() bool { return len(b.meta.Image().Brokers()) > 1 },
		Controller:  func() bool { return b.meta.Image().Controller() == b.nodeID },
		AbsorbEvery: b.config.AbsorbEvery, Grace: b.config.DeleteGrace,
		ProducerExpiry: s.producerExpiration(), Logger: b.logger.With("part", "tiering"),
	})
	b.spawn(life, "maintenance", m.Run)
}

// owner shows the open partitions to maintenance. It implements tiering.Owner.
type owner struct{ partitions *partition.Set }

// Owned implements tiering.Owner.
func (o owner) Owned() []tiering.Owned {
	all := o.partitions.All()
	out := make([]tiering.Owned, 0, len(all))
	for _, p := range all {
		owned := tiering.Owned{Partition: p.ID(), LeaderEpoch: p.LeaderEpoch(), RetentionMs: -1, RetentionBytes: -1}
		if c := p.Config(); c.Delete {
			owned.RetentionMs, owned.RetentionBytes = c.RetentionMs, c.RetentionBytes
		}
		out = append(out, owned)
	}
	return out
}

// AdvanceLogStart implements tiering.Owner.
func (o owner) AdvanceLogStart(ctx context.Context, id metadata.PartitionID, to metadata.Offset) error {
	p, ok := o.partitions.Get(id)
	if !ok {
		return partition.ErrClosed
	}
	_, err := p.AdvanceLogStart(ctx, to)
	return err
}
