package partition

import (
	"context"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
)

// FromReader is the object store's part of a log as tiering reads it.
func FromReader(r *tiering.Reader) Cold { return reader{r} }

type reader struct{ r *tiering.Reader }

func (c reader) Read(ctx context.Context, p metadata.PartitionID, offset metadata.Offset, maxBytes int) (Chunk, error) {
	chunk, err := c.r.Read(ctx, p, offset, maxBytes)
	if err != nil {
		return Chunk{}, err
	}
	return Chunk{Batches: chunk.Batches, Next: chunk.Next, Release: chunk.Release}, nil
}

// FindTimestamp leaves the log start to tiering, which takes it from the metadata.
func (c reader) FindTimestamp(ctx context.Context, p metadata.PartitionID, _ metadata.Offset, tsMs int64) (Found, bool, error) {
	f, ok, err := c.r.FindTimestamp(ctx, p, tsMs)
	return Found(f), ok, err
}

func (c reader) MaxTimestamp(ctx context.Context, p metadata.PartitionID, _ metadata.Offset) (Found, bool, error) {
	f, ok, err := c.r.MaxTimestamp(ctx, p)
	return Found(f), ok, err
}
