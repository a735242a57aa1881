package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/wal"
)

// TailFile reads back entries of the WAL whose slab was recycled. *wal.Log implements it.
type TailFile interface {
	ReadEntry(ctx context.Context, pos wal.Position, p []byte) error
}

// Chunk is a piece of a log from the object store or a WAL file: whole batches in offset order, one or more in each element.
// The first holds the asked offset or is the next after it. The bytes are valid until Release.
type Chunk struct {
	Batches [][]byte
	Next    metadata.Offset // one past the last record of Batches
	Release func()          // nil: nothing to release
}

// Found is the answer of a timestamp lookup.
type Found struct {
	Offset      metadata.Offset
	TimestampMs int64
	LeaderEpoch metadata.LeaderEpoch
}

// Cold reads the part of a log that is in the object store.
type Cold interface {
	// Read returns at least one batch, and more up to maxBytes; none when nothing is left up to Chunk.Next (compaction). An
	// offset outside of what the store has is an error.
	Read(ctx context.Context, p metadata.PartitionID, offset metadata.Offset, maxBytes int) (Chunk, error)
	// FindTimestamp returns the first record at or after from with a timestamp of at least tsMs.
	FindTimestamp(ctx context.Context, p metadata.PartitionID, from metadata.Offset, tsMs int64) (Found, bool, error)
	// MaxTimestamp returns the first record with the largest timestamp at or after from.
	MaxTimestamp(ctx context.Context, p metadata.PartitionID, from metadata.Offset) (Found, bool, error)
}

// Position says what a fetch found at an offset: the log's bounds and, where epochs diverge, from where (KIP-595).
type Position struct {
	HighWatermark, LastStable, LogStart metadata.Offset
	Diverging                           *EpochEnd
}

// Locate checks a fetch as Kafka does before it reads: leader epoch, divergence of the last fetched epoch (-1: none), range.
// The position is filled in with every outcome.
func (p *Partition) Locate(offset metadata.Offset, currentEpoch, lastFetchedEpoch int32) (Position, error) {
	pos := Position{HighWatermark: p.HighWatermark(), LogStart: p.LogStart()}
	pos.LastStable = pos.HighWatermark
	if err := p.usable(); err != nil && !errors.Is(err, ErrFailed) { // a failed log still serves what is durable
		return pos, err
	}
	if err := p.CheckEpoch(currentEpoch); err != nil {
		return pos, err
	}
	if lastFetchedEpoch >= 0 {
		end := p.EpochEnd(metadata.LeaderEpoch(lastFetchedEpoch))
		if end == noEpochEnd || offset < pos.LogStart {
			return pos, fmt.Errorf("%w: %d of epoch %d, log starts at %d", ErrOffsetOutOfRange, offset, lastFetchedEpoch, pos.LogStart)
		}
		if end.Epoch < metadata.LeaderEpoch(lastFetchedEpoch) || end.End < offset {
			pos.Diverging = &end
			return pos, nil
		}
	}
	if offset < pos.LogStart || offset > pos.HighWatermark {
		return pos, fmt.Errorf("%w: %d is not in [%d, %d]", ErrOffsetOutOfRange, offset, pos.LogStart, pos.HighWatermark)
	}
	return pos, nil
}

// Batches gathers the record batches of an answer without copying them. It is meant to be reused.
type Batches struct {
	Records [][]byte
	pins    []wal.Ref
	chunks  []func()
}

// Release lets go of all bytes in Records.
func (b *Batches) Release() {
	for _, r := range b.pins {
		r.Release()
	}
	for _, release := range b.chunks {
		release()
	}
	clear(b.Records)
	clear(b.pins)
	clear(b.chunks)
	b.Records, b.pins, b.chunks = b.Records[:0], b.pins[:0], b.chunks[:0]
}

// ReadTail appends the durable batches from offset on that are in memory: those that fit in maxBytes, or the first one when
// atLeastOne is set. hot is false when the batch at offset is not in memory: then ReadSlow has it. It never blocks on I/O.
func (p *Partition) ReadTail(offset metadata.Offset, maxBytes int, atLeastOne bool, into *Batches) (sizeBytes int, hot bool) {
	hw := p.hw.Load()
	if int64(offset) >= hw {
		return 0, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	entries := p.log.tail.from(int64(offset))
	if len(entries) == 0 {
		return 0, false
	}
	for i := range entries {
		e := &entries[i]
		if e.next() > hw {
			break
		}
		if sizeBytes+int(e.sizeBytes) > maxBytes && (sizeBytes > 0 || !atLeastOne) {
			break
		}
		data, ok := e.ref.Acquire()
		if !ok {
			return sizeBytes, i > 0
		}
		into.pins = append(into.pins, e.ref)
		into.Records = append(into.Records, data[entry.HeaderBytes:])
		sizeBytes += int(e.sizeBytes)
	}
	return sizeBytes, true
}

// InMemory tells whether ReadTail would serve offset.
func (p *Partition) InMemory(offset metadata.Offset) bool {
	if int64(offset) >= p.hw.Load() {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	entries := p.log.tail.from(int64(offset))
	return len(entries) > 0 && !gone(entries[0].ref)
}

// readAttempts bounds how often ReadSlow looks again when batches move from the WAL to the object store under it.
const readAttempts = 5

// ReadSlow reads at least one durable batch from offset on, and more up to maxBytes, from the WAL's files or from the object
// store. The offset must lie in [LogStart, HighWatermark).
func (p *Partition) ReadSlow(ctx context.Context, offset metadata.Offset, maxBytes int) (Chunk, error) {
	var last error
	for try := 0; try < readAttempts; {
		refs, next := p.tailRefs(int64(offset), maxBytes)
		if len(refs) == 0 {
			chunk, err := p.readCold(ctx, offset, maxBytes)
			if err == nil && len(chunk.Batches) == 0 && chunk.Next > offset && chunk.Next < p.HighWatermark() {
				offset = chunk.Next
				continue
			}
			return chunk, err
		}
		chunk, err := p.readBack(ctx, refs)
		if err == nil {
			chunk.Next = metadata.Offset(next)
			return chunk, nil
		}
		if ctx.Err() != nil {
			return Chunk{}, ctx.Err()
		}
		last = err
		try++
		// What was uploaded meanwhile may have been trimmed from the WAL: it is in the store now.
		p.mu.Lock()
		p.log.prune(p.uploaded.Load(), len(refs), gone)
		p.mu.Unlock()
	}
	return Chunk{}, fmt.Errorf("read %s-%d at %d from the log: %w", p.topic, p.id.Partition, offset, last)
}

func (p *Partition) readCold(ctx context.Context, offset metadata.Offset, maxBytes int) (Chunk, error) {
	chunk, err := p.set.cold.Read(ctx, p.id, offset, maxBytes)
	if err == nil {
		return chunk, nil
	}
	if start := p.LogStart(); offset < start { // deleted meanwhile
		return Chunk{}, fmt.Errorf("%w: %d, log starts at %d", ErrOffsetOutOfRange, offset, start)
	}
	return Chunk{}, fmt.Errorf("read %s-%d at %d from the object store: %w", p.topic, p.id.Partition, offset, err)
}

// tailRefs returns where the durable tail batches from offset on are: at least one if there is any that is not uploaded or
// still in memory, and more up to maxBytes.
func (p *Partition) tailRefs(offset int64, maxBytes int) (refs []wal.Ref, next int64) {
	hw, uploaded := p.hw.Load(), p.uploaded.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	size := 0
	for i, e := range p.log.tail.from(offset) {
		if e.next() > hw || (i > 0 && size+int(e.sizeBytes) > maxBytes) {
			break
		}
		if e.next() <= uploaded && gone(e.ref) {
			break // the store has it, the WAL may not
		}
		size += int(e.sizeBytes)
		refs, next = append(refs, e.ref), e.next()
	}
	return refs, next
}

// readBack copies the batches from slabs or from the WAL's files.
func (p *Partition) readBack(ctx context.Context, refs []wal.Ref) (Chunk, error) {
	total := 0
	for _, r := range refs {
		total += int(r.Len)
	}
	buf := make([]byte, total)
	chunk := Chunk{Batches: make([][]byte, 0, len(refs))}
	for _, r := range refs {
		data := buf[:r.Len:r.Len]
		buf = buf[r.Len:]
		if mem, ok := r.Acquire(); ok {
			copy(data, mem)
			r.Release()
		} else if err := p.stream.File.ReadEntry(ctx, r.Pos, data); err != nil {
			return Chunk{}, err
		}
		h, b, err := entry.Parse(data)
		if err != nil {
			return Chunk{}, err
		}
		if h.Partition != p.id {
			return Chunk{}, fmt.Errorf("wal position %d holds partition %s", r.Pos, h.Partition)
		}
		chunk.Batches = append(chunk.Batches, b)
	}
	return chunk, nil
}

// AddChunk appends the batches of c that fit in maxBytes, or the first one when atLeastOne is set, and takes c over when it
// used any. It reports how many bytes it took; 0 leaves c with the caller.
func (b *Batches) AddChunk(c Chunk, maxBytes int, atLeastOne bool) (sizeBytes int) {
	for _, run := range c.Batches {
		fits := len(run)
		if sizeBytes+len(run) > maxBytes {
			fits = wholeBatches(run, maxBytes-sizeBytes, atLeastOne && sizeBytes == 0)
		}
		if fits > 0 {
			b.Records = append(b.Records, run[:fits:fits])
			sizeBytes += fits
		}
		if fits < len(run) {
			break
		}
	}
	if sizeBytes > 0 && c.Release != nil {
		b.chunks = append(b.chunks, c.Release)
	}
	return sizeBytes
}

// wholeBatches is the length of the batches at the start of run that fit in maxBytes, or of the first one when atLeastOne is set.
func wholeBatches(run []byte, maxBytes int, atLeastOne bool) int {
	n := 0
	for n < len(run) {
		h, err := batch.Parse(run[n:])
		if err != nil || (n+h.SizeBytes > maxBytes && (n > 0 || !atLeastOne)) {
			break
		}
		n += h.SizeBytes
	}
	return n
}
