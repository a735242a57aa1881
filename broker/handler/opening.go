package handler

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/metadata"
)

// openingLimit is how long one request waits for partitions that this broker owns and is about to open.
const openingLimit = time.Second

// openings is what one request waits for partitions that have just become this broker's: their clients know that before they are open, and would
// come back only after a backoff, which is longer than the opening takes. The zero value is ready; end must be called.
type openings struct {
	timer *time.Timer
	over  bool
}

func (w *openings) end() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// partitionOf is Broker.partitionOf, after a wait if the partition is this broker's and not open yet.
func (w *openings) partitionOf(ctx context.Context, b *Broker, t *metadata.Topic, index int32) (*partition.Partition, int16) {
	p, code := b.partitionOf(t, index)
	if code != kerr.NotLeaderForPartition.Code {
		return p, code
	}
	id := metadata.PartitionID{Topic: t.ID, Partition: index}
	for !w.over && b.owns(id) {
		opened := b.Partitions.Opened()
		if p, ok := b.Partitions.Get(id); ok {
			return p, 0
		}
		if w.timer == nil {
			w.timer = time.NewTimer(openingLimit)
		}
		select {
		case <-opened:
		case <-w.timer.C:
			w.over = true
		case <-ctx.Done():
			w.over = true
		}
	}
	return nil, code
}

// owns tells whether the metadata gives a partition to this run.
func (b *Broker) owns(id metadata.PartitionID) bool {
	p, ok := b.Meta.Image().Partition(id)
	return ok && p.Owner == b.NodeID && p.OwnerIncarnation == b.Incarnation()
}
