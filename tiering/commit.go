package tiering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/wal"
)

const (
	// uncommittedSeals is how many seals may wait for their turn to be committed. They have no memory but their indexes.
	uncommittedSeals = 16
	// maxCommitted bounds the objects of a transaction.
	maxCommitted = maxSingles + 1
)

// commitAll commits seals in order, those that are ready together in one transaction, until the queue is closed. The first failure that
// is not ctx's is given to fail, which ends ctx; then it waits for what is under way.
func (u *Uploader) commitAll(ctx context.Context, queue <-chan *seal, fail context.CancelCauseFunc) {
	failed := false
	var next *seal
	for {
		s := next
		if next = nil; s == nil {
			if s = <-queue; s == nil {
				return
			}
		}
		<-s.done
		if failed {
			continue
		}
		group, err := []*seal{s}, s.err
		if err == nil {
			group, next = ready(group, queue)
			err = u.commit(ctx, group)
		}
		if err != nil {
			failed = true
			if ctx.Err() == nil {
				fail(fmt.Errorf("commit [%d, %d): %w", s.from, group[len(group)-1].to, err))
			}
		}
	}
}

// ready adds to the group what one transaction can commit with it now: seals whose puts are over and that have objects. It returns what
// it took from the queue otherwise.
func ready(group []*seal, queue <-chan *seal) (_ []*seal, next *seal) {
	objects := len(group[0].objects)
	for objects > 0 {
		select {
		case s := <-queue:
			if s == nil {
				return group, nil
			}
			select {
			case <-s.done:
			default:
				return group, s
			}
			objects += len(s.objects)
			if s.err != nil || len(s.objects) == 0 || objects > maxCommitted {
				return group, s
			}
			group = append(group, s)
		default:
			return group, nil
		}
	}
	return group, nil
}

// commit makes the objects of successive seals known to etcd, then to the catalog and the partitions, and only then trims the WAL.
func (u *Uploader) commit(ctx context.Context, group []*seal) error {
	var records []metadata.PendingObject
	var pending []*pendingObject
	var ranges []Range
	for _, s := range group {
		for _, o := range s.objects {
			f := o.layout.Footer
			r := metadata.PendingObject{Stream: u.o.StreamID, Seq: o.layout.Header.ID.Seq, Key: o.key, SizeBytes: o.layout.SizeBytes(),
				FooterAt: f.IndexAt, CRC: f.IndexCRC, From: uint64(s.from), To: uint64(s.to)}
			records = append(records, r)
			pending = append(pending, newPending(r, o.layout.Header.ID, &o.layout.Index, f))
			u.metrics.sealedBytes.Add(ctx, r.SizeBytes)
			u.metrics.sealedObjects.Add(ctx, 1, kindAttribute(o.layout.Header.ID.Kind.String()))
		}
		ranges = append(ranges, s.ranges...)
	}
	to := group[len(group)-1].to
	if len(records) == 0 {
		if err := u.skip(ctx, to); err != nil {
			return err
		}
	} else {
		if err := u.commitRecords(ctx, records); err != nil {
			return err
		}
		u.o.Catalog.add(pending)
		u.forgetEnds(ranges)
		u.o.OnCommitted(ranges)
	}
	u.committed.Store(uint64(to))
	if to >= u.o.Stream.Durable() {
		u.oldest.Store(0)
	} else {
		u.oldest.Store(u.now().UnixMilli())
	}
	// Never beyond the position in etcd: a recovery that finds the WAL beginning above it knows that a segment was lost.
	if err := u.o.Stream.Trim(to); err != nil {
		// The data is safe; the next trim frees the space.
		u.o.Logger.Warn("WAL could not be trimmed", "to", to, "error", err)
	}
	u.mu.Lock()
	close(u.progress)
	u.progress = make(chan struct{})
	u.mu.Unlock()
	return nil
}

// forgetEnds drops the ends that the catalog knows by now.
func (u *Uploader) forgetEnds(ranges []Range) {
	u.endsMu.Lock()
	defer u.endsMu.Unlock()
	for _, r := range ranges {
		if u.ends[r.Partition] == r.End {
			delete(u.ends, r.Partition)
		}
	}
}

// commitRecords commits in etcd. After an unknown outcome or a conflict it looks whether the objects are there.
func (u *Uploader) commitRecords(ctx context.Context, records []metadata.PendingObject) error {
	b := backoff{base: 50 * time.Millisecond, max: 5 * time.Second}
	failures := 0
	for {
		err := attempt(ctx, 15*time.Second, func(ctx context.Context) error {
			return u.o.Meta.CommitObjects(ctx, u.o.StreamID, u.o.Revision, records)
		})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, metadata.ErrFenced), errors.Is(err, metadata.ErrInvalid), errors.Is(err, metadata.ErrNotFound):
			return err
		}
		there, lerr := u.areCommitted(ctx, records)
		switch {
		case lerr == nil && there:
			return nil
		case lerr == nil && (errors.Is(err, metadata.ErrConflict) || errors.Is(err, metadata.ErrExists)):
			return err
		}
		if failures++; failures&(failures-1) == 0 {
			u.o.Logger.Warn("etcd does not take a commit, trying again", "objects", len(records), "failures", failures, "error", err)
		}
		if werr := b.wait(ctx); werr != nil {
			return fmt.Errorf("%w: %w", werr, err)
		}
	}
}

// skip makes known that nothing below to is left to commit: what is not in objects belonged to deleted topics.
func (u *Uploader) skip(ctx context.Context, to wal.Position) error {
	b := backoff{base: 50 * time.Millisecond, max: 5 * time.Second}
	for {
		err := attempt(ctx, 15*time.Second, func(ctx context.Context) error {
			return u.o.Meta.SkipTo(ctx, u.o.StreamID, u.o.Revision, uint64(to))
		})
		if err == nil || errors.Is(err, metadata.ErrFenced) || errors.Is(err, metadata.ErrInvalid) || errors.Is(err, metadata.ErrNotFound) {
			return err
		}
		u.o.Logger.Warn("etcd does not take a stream's position, trying again", "to", to, "error", err)
		if werr := b.wait(ctx); werr != nil {
			return fmt.Errorf("%w: %w", werr, err)
		}
	}
}

// areCommitted looks for the objects among the pending ones: nothing absorbs them before this uploader has told the catalog.
func (u *Uploader) areCommitted(ctx context.Context, records []metadata.PendingObject) (bool, error) {
	all, err := u.o.Meta.PendingObjects(ctx)
	if err != nil {
		return false, err
	}
	keys := make(map[string]bool, len(all))
	for i := range all {
		keys[all[i].Key] = true
	}
	for i := range records {
		if !keys[records[i].Key] {
			return false, nil
		}
	}
	return true, nil
}
