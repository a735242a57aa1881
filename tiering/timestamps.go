package tiering

import (
	"context"
	"fmt"
	"math"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// Found is the answer of a lookup by timestamp.
type Found struct {
	Offset      metadata.Offset
	TimestampMs int64
	LeaderEpoch metadata.LeaderEpoch
}

// FindTimestamp returns the first committed record, at or above the log start, with a timestamp of at least tsMs (ListOffsets);
// found is false when there is none.
func (r *Reader) FindTimestamp(ctx context.Context, p metadata.PartitionID, tsMs int64) (f Found, found bool, err error) {
	start, err := r.logStart(p)
	if err != nil {
		return f, false, err
	}
	err = r.catalog.eachSegment(ctx, p, start, tsMs, func(s *manifest.Segment) (bool, error) {
		if s.MaxTimestampMs < tsMs {
			return true, nil
		}
		l, err := r.catalog.locatedOf(ctx, p, s)
		if err != nil {
			return false, err
		}
		for i := l.blockAt(start); i < len(l.blocks) && !found; i++ {
			if l.blocks[i].MaxTimestampMs < tsMs {
				continue
			}
			err := r.eachBatch(ctx, p, l, i, func(b []byte, h *batch.Header) (bool, error) {
				at, ok, err := batch.FindTimestamp(b, tsMs, int64(start))
				if ok {
					f, found = Found{metadata.Offset(at.Offset), at.TimestampMs, metadata.LeaderEpoch(h.LeaderEpoch)}, true
				}
				return !ok, err
			})
			if err != nil {
				return false, err
			}
		}
		return !found, nil
	})
	return f, found, err
}

// MaxTimestamp returns the first committed record, at or above the log start, with the largest timestamp (KIP-734); found is false
// when there is no record with a timestamp.
func (r *Reader) MaxTimestamp(ctx context.Context, p metadata.PartitionID) (f Found, found bool, err error) {
	start, err := r.logStart(p)
	if err != nil {
		return f, false, err
	}
	f.TimestampMs = -1
	// The largest timestamp first, from the lists alone. A block that begins below the log start may promise too much, so what
	// is read is compared again.
	var segments []*manifest.Segment
	best := int64(-1)
	err = r.catalog.eachSegment(ctx, p, start, math.MinInt64, func(s *manifest.Segment) (bool, error) {
		if s.MaxTimestampMs >= 0 {
			segments = append(segments, s)
			best = max(best, s.MaxTimestampMs)
		}
		return true, nil
	})
	if err != nil {
		return f, false, err
	}
	look := func(least int64) error {
		for _, s := range segments {
			if s.MaxTimestampMs <= f.TimestampMs || s.MaxTimestampMs < least {
				continue
			}
			l, err := r.catalog.locatedOf(ctx, p, s)
			if err != nil {
				return err
			}
			if err := r.maxInSegment(ctx, p, l, start, &f, &found); err != nil {
				return err
			}
		}
		return nil
	}
	if err := look(best); err != nil {
		return f, false, err
	}
	if f.TimestampMs < best {
		err = look(-1)
	}
	return f, found, err
}

func (r *Reader) maxInSegment(ctx context.Context, p metadata.PartitionID, l located, start metadata.Offset, f *Found, found *bool) error {
	for i := l.blockAt(start); i < len(l.blocks); i++ {
		if l.blocks[i].MaxTimestampMs <= f.TimestampMs {
			continue
		}
		err := r.eachBatch(ctx, p, l, i, func(b []byte, h *batch.Header) (bool, error) {
			if h.MaxTimestampMs <= f.TimestampMs {
				return true, nil
			}
			at, ok, err := batch.MaxTimestamp(b, int64(start))
			if ok && at.TimestampMs > f.TimestampMs {
				*f, *found = Found{metadata.Offset(at.Offset), at.TimestampMs, metadata.LeaderEpoch(h.LeaderEpoch)}, true
			}
			return true, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) logStart(p metadata.PartitionID) (metadata.Offset, error) {
	q, ok := r.catalog.o.Partitions.Partition(p)
	if !ok {
		return 0, fmt.Errorf("%v: %w", p, ErrUnknownPartition)
	}
	return q.LogStart, nil
}

// eachBatch calls fn for the batches of a block until it returns false.
func (r *Reader) eachBatch(ctx context.Context, p metadata.PartitionID, l located, i int, fn func(b []byte, h *batch.Header) (bool, error)) error {
	wanted := l.blocks[i]
	e, err := r.block(ctx, p, &l, &i, int(wanted.Length))
	if err != nil {
		return err
	}
	defer r.blocks.release(e)
	data := e.data(&l.blocks[i])
	for len(data) > 0 {
		h, err := batch.Parse(data)
		if err != nil {
			return blockError(l.object.Key(r.catalog.o.Cluster), &l.blocks[i], err)
		}
		// After a merge the block may begin earlier and end later than the one that was wanted.
		if metadata.Offset(h.BaseOffset) >= wanted.BaseOffset && metadata.Offset(h.NextOffset()) <= wanted.NextOffset {
			if ok, err := fn(data[:h.SizeBytes], &h); !ok || err != nil {
				return err
			}
		}
		data = data[h.SizeBytes:]
	}
	return nil
}

func blockError(key string, b *segment.Block, err error) error {
	return fmt.Errorf("%w: %s: block at %d: %w", ErrCorrupt, key, b.Position, err)
}
