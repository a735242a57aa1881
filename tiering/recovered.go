package tiering

import (
	"context"
	"errors"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/segment"
	"github.com/tidemarkmq/tidemark/wal"
)

// DrainRecovered moves what is left of a dead stream, [o.From, end), into committed objects, in the same way as a live one.
// o.Stream is ignored.
func DrainRecovered(ctx context.Context, dead Scanner, end wal.Position, o UploaderOptions) error {
	o.Stream = deadStream{dead, max(end, o.From)}
	u := NewUploader(o)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- u.Run(ctx) }()
	err := u.Drain(ctx)
	cancel()
	return errors.Join(err, <-failed)
}

type deadStream struct {
	Scanner
	end wal.Position
}

func (d deadStream) Durable() wal.Position     { return d.end }
func (d deadStream) Advanced() <-chan struct{} { return nil }
func (d deadStream) Trim(wal.Position) error   { return nil }

// LastSeq is the largest object sequence of a stream among its pending objects in the catalog.
func (c *Catalog) LastSeq(stream metadata.StreamID) uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var seq uint64
	for _, o := range c.pending {
		if o.record.Stream == stream {
			seq = max(seq, o.record.Seq)
		}
	}
	return seq
}

var _ objectstore.Summed = (*segment.Body)(nil)
