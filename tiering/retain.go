package tiering

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
)

// Retain raises the log start of owned partitions over all segments that are too old or too many, however many at once. Only what is
// committed counts, once, pending objects included.
func (m *Maintainer) Retain(ctx context.Context) error {
	var errs error
	nowMs := time.Now().UnixMilli()
	loaded := m.preloader(m.owned(), m.mayRetain)
	for i, o := range loaded.owned {
		if o.RetentionMs < 0 && o.RetentionBytes < 0 {
			continue
		}
		if err := loaded.upTo(ctx, i); err != nil {
			return errors.Join(errs, err)
		}
		if err := m.retain(ctx, o, nowMs); err != nil {
			errs = errors.Join(errs, fmt.Errorf("%v: %w", o.Partition, err))
		}
	}
	return errs
}

func (m *Maintainer) retain(ctx context.Context, o Owned, nowMs int64) error {
	q, pieces, err := m.catalog.view(o.Partition)
	if errors.Is(err, ErrUnknownPartition) {
		return nil
	}
	if err != nil {
		return err
	}
	look, err := m.outlookOf(ctx, q)
	if err != nil {
		return err
	}
	size, oldest := look.sizeBytes, look.oldestMs
	for i := range pieces {
		size += pieces[i].part.SizeBytes()
	}
	if look.empty {
		if len(pieces) == 0 {
			return nil
		}
		first := segmentOf(pieces[0])
		oldest = retentionMs(&first)
	}
	if !(o.RetentionMs >= 0 && nowMs-oldest > o.RetentionMs) && !(o.RetentionBytes >= 0 && size > o.RetentionBytes) {
		return nil
	}
	to, err := m.retentionEnd(ctx, o, q.LogStart, nowMs)
	if err != nil || to <= q.LogStart {
		return err
	}
	if err := m.o.Owner.AdvanceLogStart(ctx, o.Partition, to); err != nil {
		return fmt.Errorf("advance log start to %d: %w", to, err)
	}
	m.o.Logger.Debug("retention raised a log start", "partition", o.Partition, "from", q.LogStart, "to", to)
	return nil
}

// retentionEnd is the offset up to which segments, from the oldest on, are older than retention allows or are not needed for the size
// that it keeps (Kafka: log.retention.ms, log.retention.bytes).
func (m *Maintainer) retentionEnd(ctx context.Context, o Owned, logStart metadata.Offset, nowMs int64) (metadata.Offset, error) {
	to := logStart
	// The size first: what is kept is counted from the newest on, and the list is walked from the oldest.
	var size int64
	if o.RetentionBytes >= 0 {
		err := m.catalog.eachSegment(ctx, o.Partition, logStart, math.MinInt64, func(s *manifest.Segment) (bool, error) {
			size += s.SizeBytes
			return true, nil
		})
		if err != nil {
			return 0, err
		}
	}
	err := m.catalog.eachSegment(ctx, o.Partition, logStart, math.MinInt64, func(s *manifest.Segment) (bool, error) {
		tooOld := o.RetentionMs >= 0 && nowMs-retentionMs(s) > o.RetentionMs
		tooMany := o.RetentionBytes >= 0 && size-s.SizeBytes >= o.RetentionBytes
		if !tooOld && !tooMany {
			return false, nil
		}
		to = s.End
		size -= s.SizeBytes
		return true, nil
	})
	return to, err
}
