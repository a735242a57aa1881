package wal

import (
	"context"
	"fmt"
	"time"
	"unsafe"
)

const (
	// MaxChunkBytes bounds what one Append takes.
	MaxChunkBytes = 2 * maxGroupBytes
	// keptScratchBytes is what an idle replica keeps for copies.
	keptScratchBytes = 256 << 10
)

// prepared is a segment that was made beforehand, or why not.
type prepared struct {
	seg *segment
	err error
}

// Appender is a writer's access to a replica of its stream, until the replica is opened again.
type Appender struct {
	r       *replica
	session uint64
}

// AlignedBytes returns memory that Append writes from without a copy.
func AlignedBytes(sizeBytes int) []byte { return alignedBytes(sizeBytes) }

// Append checks that the groups are what the stream's writer built for that place and that they follow what is there, makes them
// durable with one write, and returns the position before which all is durable now. The chunk, of at most MaxChunkBytes, stays the
// caller's.
//
// Errors: ErrFenced, ErrSuperseded, ErrMalformed, ErrFull (nothing has happened; there may be room later), ErrLimbo (a write failed).
func (a *Appender) Append(ctx context.Context, k Chunk) (Position, error) {
	r := a.r
	if err := r.lock(ctx); err != nil {
		return 0, err
	}
	defer r.unlock()
	if err := r.load(); err != nil {
		return 0, err
	}
	switch {
	case a.session != r.session:
		return 0, ErrSuperseded
	case r.state.Header.Epoch < r.state.Promise:
		return 0, fmt.Errorf("%w: epoch %d, promised %d", ErrFenced, r.state.Header.Epoch, r.state.Promise)
	case len(k.Bytes) > MaxChunkBytes:
		return 0, fmt.Errorf("%w: %d bytes at once", ErrMalformed, len(k.Bytes))
	case r.chain.segment.Sequence == 0 && k.Position != k.Segment.First:
		return 0, fmt.Errorf("%w: the first group at %d, not at the beginning of its segment", ErrMalformed, k.Position)
	}
	next, promised, err := r.chain.take(k)
	if err != nil {
		return 0, err
	}
	seg, err := r.segmentFor(k.Segment)
	if err != nil {
		return 0, err
	}
	if promised > k.Position {
		r.state.BatchTo = max(r.state.BatchTo, k.End())
		if err := r.save(false); err != nil {
			return 0, err
		}
	}
	if err := r.write(seg, k); err != nil {
		return 0, r.fail(fmt.Errorf("%s: %w", seg.path, err))
	}
	for b, at := k.Bytes, k.Position; len(b) > 0; {
		n := le.Uint32(b[48:])
		seg.committed(at, at+Position(n))
		at, b = at+Position(n), b[n:]
	}
	r.chain = next
	r.rs.metrics.written.Add(int64(len(k.Bytes)))
	r.rs.metrics.writes.Add(1)
	r.prepareNext()
	return r.chain.end, nil
}

func (r *replica) write(seg *segment, k Chunk) error {
	b := k.Bytes
	if r.rs.mode == SyncDirect && uintptr(unsafe.Pointer(&b[0]))%blockBytes != 0 {
		if len(r.scratch) < len(b) {
			r.scratch = alignedBytes(len(b))
		}
		b = r.scratch[:copy(r.scratch, b)]
		if len(r.scratch) > keptScratchBytes {
			r.scratch = nil
		}
	}
	_, err := seg.w.WriteAt(b, seg.offset(k.Position))
	if err == nil && r.rs.mode == SyncData {
		err = seg.w.SyncData()
	}
	return err
}

// segmentFor returns the segment, open for writing: the one being written to, or one made for it.
func (r *replica) segmentFor(s SegmentRef) (*segment, error) {
	if r.cur != nil && r.cur.ref() == s {
		return r.cur, nil
	}
	r.segs.mu.Lock()
	var seg, last *segment
	for _, x := range r.segs.list {
		if x.ref() == s {
			seg = x
		}
		last = x
	}
	r.segs.mu.Unlock()
	if seg == nil {
		if last != nil && (last.Sequence+1 != s.Sequence || last.limit() != s.First) {
			return nil, fmt.Errorf("%w: segment %d at %d does not follow %d, which ends at %d", ErrMalformed, s.Sequence, s.First, last.Sequence, last.limit())
		}
		return r.addSegment(s)
	}
	if r.cur != nil {
		r.closeWriter(r.cur)
		r.cur = nil
	}
	w, err := r.rs.o.FS.Open(seg.path, writeFlags(r.rs.mode))
	if err != nil {
		return nil, fmt.Errorf("wal replica: %w", err)
	}
	seg.w, r.cur = w, seg
	return seg, nil
}

// addSegment makes the segment, or takes the one that was made, and notes that it must be there from now on.
func (r *replica) addSegment(s SegmentRef) (*segment, error) {
	if r.rs.used.Load()+r.state.Header.SegmentBytes > r.rs.o.MaxBytes {
		return nil, fmt.Errorf("%w: replicas take %d bytes", ErrFull, r.rs.used.Load())
	}
	var seg *segment
	var err error
	if r.next != nil {
		r.hungry.Store(true)
		p := <-r.next
		r.hungry.Store(false)
		r.next = nil
		seg, err = p.seg, p.err
	}
	if seg == nil || err != nil {
		seg, err = r.segs.prepare(r.rs.ctx, r.state.Header.segment(s), r.rs.mode, nil)
	}
	if err != nil {
		return nil, err
	}
	r.state.Newest = s.Sequence
	if r.state.Oldest == 0 {
		r.state.Oldest = s.Sequence
	}
	if err := r.save(false); err != nil {
		_ = seg.w.Close() // nothing was written since it was synced
		return nil, err
	}
	if r.cur != nil {
		r.closeWriter(r.cur)
	}
	r.segs.add(seg)
	r.cur = seg
	return seg, nil
}

// prepareNext has the next segment made once the current one is half full.
func (r *replica) prepareNext() {
	seg := r.cur
	if r.next != nil || 2*(r.chain.end-seg.First) < seg.limit()-seg.First || r.rs.used.Load()+r.state.Header.SegmentBytes > r.rs.o.MaxBytes {
		return
	}
	h := r.state.Header.segment(SegmentRef{Sequence: seg.Sequence + 1, First: seg.limit(), SizeBytes: r.state.Header.SegmentBytes})
	next := make(chan prepared, 1)
	r.next = next
	r.rs.working.Go(func() {
		p, err := r.segs.prepare(r.rs.ctx, h, r.rs.mode, func(took time.Duration) {
			if !r.hungry.Load() {
				time.Sleep(took)
			}
		})
		next <- prepared{p, err}
	})
}
