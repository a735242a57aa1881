package broker

import (
	"context"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
)

// coldLane lets partitions read what is in the object store. It implements partition.Cold.
type coldLane struct{ reader *tiering.Reader }

// Read implements partition.Cold.
func (c coldLane) Read(ctx context.Context, p metadata.PartitionID, offset metadata.Offset, maxBytes int) (partition.Chunk, error) {
	chunk, err := c.reader.Read(ctx, p, offset, maxBytes)
	if err != nil {
		return partition.Chunk{}, err
	}
	return partition.Chunk{Batches: chunk.Batches, Next: chunk.Next, Release: chunk.Release}, nil
}

// FindTimestamp implements partition.Cold. The reader begins at the log start that the metadata has, which a partition's own never
// precedes.
func (c coldLane) FindTimestamp(ctx context.Context, p metadata.PartitionID, from metadata.Offset, tsMs int64) (partition.Found, bool, error) {
	f, found, err := c.reader.FindTimestamp(ctx, p, tsMs)
	return foundFrom(f, found, from, err)
}

// MaxTimestamp implements partition.Cold.
func (c coldLane) MaxTimestamp(ctx context.Context, p metadata.PartitionID, from metadata.Offset) (partition.Found, bool, error) {
	f, found, err := c.reader.MaxTimestamp(ctx, p)
	return foundFrom(f, found, from, err)
}

func foundFrom(f tiering.Found, found bool, from metadata.Offset, err error) (partition.Found, bool, error) {
	if err != nil || !found || f.Offset < from {
		return partition.Found{}, false, err
	}
	return partition.Found{Offset: f.Offset, TimestampMs: f.TimestampMs, LeaderEpoch: f.LeaderEpoch}, true, nil
}
