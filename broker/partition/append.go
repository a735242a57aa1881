package partition

import (
	"context"
	"sync"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/codec"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/wal"
)

// WAL is the stream that the partitions append to. *wal.Log implements it.
type WAL interface {
	Admit(ctx context.Context, nBytes int) (wal.Admission, error)
	Append(a wal.Admission, nBytes int, c wal.Completion) wal.Region
}

// Appended is where a batch was put.
type Appended struct {
	BaseOffset  metadata.Offset
	LogStart    metadata.Offset
	TimestampMs int64 // LogAppendTime of the batch, or -1 when the timestamps are the producer's
	Duplicate   bool  // it had been appended before, at BaseOffset
}

// Acker takes the outcome of an append.
type Acker interface {
	// Appended is called once for each append that Append accepted, when the batch is durable or will never be (err wraps
	// ErrFailed). It may be called before Append returns and runs on the committer goroutine otherwise: it must not block.
	// token is Append's.
	Appended(token int, a Appended, err error)
}

// inflight is an append on its way to durability; as a wal.Completion it costs no allocation because it is pooled.
type inflight struct {
	p      *Partition
	acker  Acker
	token  int
	result Appended
	next   int64 // the high watermark once it is durable
	size   int64
	header [entry.HeaderBytes + batch.HeaderBytes]byte
}

var inflights = sync.Pool{New: func() any { return new(inflight) }}

// Append appends the validated batch b, whose header is h, and has acker called when it is durable. It waits for admission
// to the WAL, and while the partition is paused, until ctx is done, never for the disk. b is copied before Append returns; h
// gets the assigned offset and epoch.
// A non-nil error means that nothing was appended and acker will not be called: ErrClosed, ErrFailed, the producers
// package's refusals, or the WAL's admission errors are wrapped.
func (p *Partition) Append(ctx context.Context, b []byte, h *batch.Header, acker Acker, token int) error {
	f := inflights.Get().(*inflight)
	f.p, f.acker, f.token, f.size = p, acker, token, int64(len(b))
	f.result = Appended{LogStart: p.LogStart(), TimestampMs: -1}
	admission, err := p.enter(ctx, entry.HeaderBytes+len(b))
	if err != nil {
		f.free()
		return err
	}
	nowMs := p.set.now().UnixMilli()
	dup, duplicate, err := p.log.place(h, nowMs)
	if duplicate || err != nil {
		p.mu.Unlock()
		if err != nil {
			return f.refuse(&admission, err)
		}
		admission.Cancel()
		f.result.BaseOffset, f.result.Duplicate = metadata.Offset(dup.FirstOffset), true
		if h.IsLogAppendTime() {
			f.result.TimestampMs = dup.TimestampMs
		}
		p.park(f, dup.LastOffset+1)
		return nil
	}
	f.next = h.NextOffset()
	f.result.BaseOffset = metadata.Offset(h.BaseOffset)
	if h.IsLogAppendTime() {
		f.result.TimestampMs = h.MaxTimestampMs
	}
	f.write(admission, b, h)
	p.log.prune(p.uploaded.Load(), 2, gone)
	forgotten := p.log.forgotten
	p.log.forgotten = 0
	p.mu.Unlock()

	if forgotten > 0 {
		p.set.forgot(p, forgotten)
	}
	p.set.stats.batches.Add(1)
	p.set.stats.records.Add(int64(h.Count))
	p.set.stats.bytes.Add(int64(len(b)))
	return nil
}

// combineBytes is the size from which computing a CRC from others is cheaper than from bytes in the processor's cache.
const combineBytes = 32 << 10

// write copies the batch, whose CRC is h.CRC, into the WAL with its patched header and indexes it. The caller holds mu. The
// commit may overtake it: from Done on, f belongs to the committer.
func (f *inflight) write(admission wal.Admission, b []byte, h *batch.Header) {
	p := f.p
	entry.Put(f.header[:], entry.Header{Partition: p.id, LeaderEpoch: p.epoch})
	patched := f.header[entry.HeaderBytes:]
	copy(patched, b[:batch.HeaderBytes])
	batch.PutBaseOffset(patched, h.BaseOffset)
	batch.PutLeaderEpoch(patched, int32(p.epoch))
	region := p.stream.WAL.Append(admission, entry.HeaderBytes+len(b), f)
	region.Write(f.header[:])
	if len(b) < combineBytes {
		region.Write(b[batch.HeaderBytes:])
	} else {
		// The batch's own CRC, which has been checked, covers all but its first bytes, so the entry's follows from it.
		head := codec.CRC(f.header[:entry.HeaderBytes+batch.CRCFrom])
		region.WriteSummed(b[batch.HeaderBytes:], codec.CombineCRC(head, h.CRC, int64(len(b)-batch.CRCFrom)))
	}
	p.log.placed(h, region.Done())
}

// refuse gives back what an append took that will not be made.
func (f *inflight) refuse(admission *wal.Admission, err error) error {
	admission.Cancel()
	f.free()
	return err
}

// Committed implements wal.Completion.
func (f *inflight) Committed(err error) {
	if err != nil {
		set := f.p.set
		set.Fail(err)
		f.p.fail() // Fail knows only open partitions, and duplicates may be parked in a closed one
		f.answer(set.failure())
		return
	}
	f.p.commit(f.next, f.size)
	f.answer(nil)
}

func (f *inflight) answer(err error) {
	acker, token, result := f.acker, f.token, f.result
	f.free()
	acker.Appended(token, result, err)
}

func (f *inflight) free() {
	f.p, f.acker = nil, nil
	inflights.Put(f)
}

// park answers a duplicate as soon as its original, which ends at next, is durable.
func (p *Partition) park(f *inflight, next int64) {
	p.set.stats.duplicates.Add(1)
	f.next = next
	if p.hw.Load() >= next {
		f.answer(nil)
		return
	}
	p.waitMu.Lock()
	p.parked = append(p.parked, f)
	p.watched.Add(1)
	// The original may have been committed, or have failed, before the committer could see the parked one.
	due := p.takeParked(p.hw.Load())
	p.waitMu.Unlock()
	for _, d := range due {
		d.answer(nil)
	}
	if p.set.failed.Load() != nil {
		p.fail()
	}
}

// gone tells whether the bytes of ref have left memory.
func gone(ref wal.Ref) bool {
	if _, ok := ref.Acquire(); ok {
		ref.Release()
		return false
	}
	return true
}
