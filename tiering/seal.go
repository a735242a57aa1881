package tiering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/codec"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/tiering/producers"
	"github.com/tidemarkmq/tidemark/tiering/segment"
	"github.com/tidemarkmq/tidemark/wal"
)

// stagingBytes is the length of a piece of staging memory.
const stagingBytes = 1 << 20

// crcStepBytes is how much is copied at a time, so that the checksums find it in the processor's cache.
const crcStepBytes = 64 << 10

// staging is memory for sealed ranges, taken piece by piece and reused. A sealed range is copied once out of the WAL, in the
// WAL's order, while both checksums are computed; bodies gather from it. So uploads never pin slabs, and a retry reads nothing again.
type staging struct {
	mu   sync.Mutex
	free [][]byte
}

func (s *staging) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return make([]byte, stagingBytes)
}

func (s *staging) give(pieces [][]byte) {
	s.mu.Lock()
	s.free = append(s.free, pieces...)
	s.mu.Unlock()
}

// shrink frees all but n idle pieces.
func (s *staging) shrink(n int) {
	s.mu.Lock()
	if len(s.free) > n {
		s.free = slices.Clone(s.free[:n])
	}
	s.mu.Unlock()
}

// seal is a sealed range of a stream on its way into the store.
type seal struct {
	from, to wal.Position // what the objects say that they hold; the next seal begins at to
	objects  []*sealed
	ranges   []Range
	bytes    int64
	pieces   [][]byte // staging memory
	done     chan error
}

// sealed is one object of a seal.
type sealed struct {
	layout *segment.Layout
	body   *gather
	key    string
}

// sealer collects a range of the stream. It belongs to one goroutine.
type sealer struct {
	staging *staging
	end     func(metadata.PartitionID) metadata.Offset // of what is committed or sealed
	exists  func(metadata.PartitionID) bool
	nowMs   int64

	pieces   [][]byte
	room     []byte // rest of the last piece
	bytes    int64
	index    int64 // bound of what the index will take encoded
	parts    map[metadata.PartitionID]*sealPart
	order    []*sealPart
	lastPart *sealPart
}

type sealPart struct {
	part     segment.Part
	skip     bool
	data     [][]byte // the batches' bytes, in order, as they lie in the staging memory
	bytes    int64
	state    producers.State
	maxTs    int64
	open     segment.Block // the last block
	hasOpen  bool
	expected metadata.Offset
}

func (s *sealer) add(e wal.Entry) error {
	h, b, err := entry.Parse(e.Data)
	if err != nil {
		return fmt.Errorf("%w: WAL position %d: %w", ErrCorrupt, e.Pos, err)
	}
	bh, err := batch.Parse(b)
	if err == nil && bh.SizeBytes != len(b) {
		err = fmt.Errorf("%d bytes follow the batch", len(b)-bh.SizeBytes)
	}
	if err != nil {
		return fmt.Errorf("%w: WAL position %d: %w", ErrCorrupt, e.Pos, err)
	}
	p := s.partOf(h.Partition)
	base, next := metadata.Offset(bh.BaseOffset), metadata.Offset(bh.NextOffset())
	if p.skip || next <= p.expected {
		return nil // the topic is deleted, or an earlier run committed the batch
	}
	if base != p.expected {
		return fmt.Errorf("%w: WAL position %d: %v: batch [%d, %d) where offset %d comes next", ErrCorrupt, e.Pos, h.Partition, base, next, p.expected)
	}
	if !p.hasOpen || segment.EndBlock(int(p.open.Length), len(b), p.open.LeaderEpoch, h.LeaderEpoch) {
		p.closeBlock()
		s.index += blockIndexBytes
		p.open, p.hasOpen = segment.Block{BaseOffset: base, MaxTimestampMs: bh.MaxTimestampMs, LeaderEpoch: h.LeaderEpoch}, true
	}
	crc := s.copyIn(p, b)
	if crc != bh.CRC {
		return fmt.Errorf("%w: WAL position %d: %v: batch at %d has CRC %08x, want %08x", ErrCorrupt, e.Pos, h.Partition, base, crc, bh.CRC)
	}
	p.open.NextOffset = next
	p.open.Length += int32(len(b))
	p.open.MaxTimestampMs = max(p.open.MaxTimestampMs, bh.MaxTimestampMs)
	p.maxTs = max(p.maxTs, bh.MaxTimestampMs)
	p.expected = next
	p.bytes += int64(len(b))
	s.bytes += int64(len(b))
	if bh.IsControl() {
		// Only ApplyBatch knows how to read markers.
		if err := p.state.ApplyBatch(b, s.nowMs); err != nil {
			return fmt.Errorf("%w: WAL position %d: %v: %w", ErrCorrupt, e.Pos, h.Partition, err)
		}
		return nil
	}
	known := p.state.Len()
	p.state.Apply(&bh, s.nowMs)
	if p.state.Len() > known {
		s.index += producers.MaxEntryBytes
	}
	return nil
}

func (s *sealer) partOf(id metadata.PartitionID) *sealPart {
	if s.lastPart != nil && s.lastPart.part.Partition == id {
		return s.lastPart
	}
	p := s.parts[id]
	if p == nil {
		// The end first: of a topic that is deleted in between it would be 0.
		p = &sealPart{maxTs: -1, expected: s.end(id)}
		p.skip = !s.exists(id)
		p.part.Partition, p.part.Start = id, p.expected
		s.parts[id] = p
		s.index += partIndexBytes
		s.order = append(s.order, p)
	}
	s.lastPart = p
	return p
}

// crcFrom is the first byte that a batch's own CRC covers.
const crcFrom = 21

// copyIn copies a batch into the staging memory and returns the CRC of the batch; it goes on with that of the block.
func (s *sealer) copyIn(p *sealPart, b []byte) uint32 {
	var crc uint32
	for at := 0; at < len(b); {
		if len(s.room) == 0 {
			piece := s.staging.take()
			s.pieces = append(s.pieces, piece)
			s.room = piece
		}
		n := copy(s.room[:min(len(s.room), crcStepBytes)], b[at:])
		dst := s.room[:n:len(s.room)]
		s.room = s.room[n:]
		p.open.CRC = codec.UpdateCRC(p.open.CRC, dst)
		if at+n > crcFrom {
			crc = codec.UpdateCRC(crc, dst[max(0, crcFrom-at):])
		}
		p.keep(dst)
		at += n
	}
	return crc
}

// keep notes a stretch of staging memory, as part of the one before where they touch.
func (p *sealPart) keep(dst []byte) {
	if n := len(p.data); n > 0 {
		last := p.data[n-1]
		if cap(last)-len(last) >= len(dst) && &last[:len(last)+1][len(last)] == &dst[0] {
			p.data[n-1] = last[:len(last)+len(dst)]
			return
		}
	}
	p.data = append(p.data, dst)
}

func (p *sealPart) closeBlock() {
	if p.hasOpen {
		p.part.Blocks = append(p.part.Blocks, p.open)
		p.hasOpen = false
	}
}

func (p *sealPart) finish() {
	p.closeBlock()
	p.part.End = p.expected
	if p.state.Len() > 0 {
		p.part.Producers, p.part.ProducersAt = p.state.Encode(nil), p.expected
	}
}

// What a part and a block take in an index at most, without producer state; generously.
const (
	partIndexBytes  = 96
	blockIndexBytes = 64
)

// errSealFull ends a scan early.
var errSealFull = errors.New("seal is full")

// maxSingles bounds the objects of a seal, which etcd takes in one transaction.
const maxSingles = 100

// collect reads [from, to) of the stream until maxBytes, or half of what an index may have, are at hand, and plans the objects.
func (u *Uploader) collect(ctx context.Context, from, to wal.Position, maxBytes int64) (*seal, error) {
	now := u.now()
	s := &sealer{staging: &u.staging, end: u.sealedEnd, exists: u.exists, nowMs: now.UnixMilli(), parts: map[metadata.PartitionID]*sealPart{}}
	out := &seal{from: u.nextFrom, to: to, done: make(chan error, 1)}
	err := u.o.Stream.Scan(ctx, from, to, func(e wal.Entry) error {
		if err := s.add(e); err != nil {
			return err
		}
		if (s.bytes >= maxBytes || s.index >= u.indexBytes) && e.Next < to {
			out.to = e.Next
			return errSealFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, errSealFull) {
		u.staging.give(s.pieces)
		return nil, err
	}
	out.pieces, out.bytes = s.pieces, s.bytes
	var shared, single []*sealPart
	for _, p := range s.order {
		if p.bytes == 0 {
			continue
		}
		p.finish()
		out.ranges = append(out.ranges, Range{Partition: p.part.Partition, Start: p.part.Start, End: p.part.End, SizeBytes: p.bytes, MaxTimestampMs: p.maxTs})
		if p.bytes >= u.o.SingleBytes {
			single = append(single, p)
		} else {
			shared = append(shared, p)
		}
	}
	if len(shared) == 1 {
		// Nothing is shared with nobody: as a single object it need not be looked through when its partition drops it.
		single, shared = append(single, shared...), nil
	}
	if len(single) > maxSingles {
		slices.SortFunc(single, func(a, b *sealPart) int { return cmp.Compare(b.bytes, a.bytes) })
		shared, single = append(shared, single[maxSingles:]...), single[:maxSingles]
	}
	if len(shared) > 0 {
		err = u.plan(out, segment.Shared, shared)
	} else {
		err = nil
	}
	for _, p := range single {
		err = errors.Join(err, u.plan(out, segment.Single, []*sealPart{p}))
	}
	if err != nil {
		u.staging.give(s.pieces)
		return nil, err
	}
	return out, nil
}

// plan adds an object with the given parts to the seal.
func (u *Uploader) plan(out *seal, kind segment.Kind, from []*sealPart) error {
	slices.SortFunc(from, func(a, b *sealPart) int { return segment.Compare(a.part.Partition, b.part.Partition) })
	parts := make([]segment.Part, len(from))
	g := &gather{}
	at := int64(segment.HeaderBytes)
	for i, p := range from {
		parts[i] = p.part
		for _, b := range p.data {
			g.at = append(g.at, at)
			g.data = append(g.data, b)
			at += int64(len(b))
		}
	}
	g.end = at
	u.nextSeq++
	id := segment.ID{Kind: kind, Epoch: uint64(u.o.StreamID), Seq: u.nextSeq, Nonce: rand.Uint64()}
	layout, err := segment.Plan(segment.Header{ID: id, Cluster: u.o.Catalog.o.Cluster, Stream: u.o.StreamID.String(),
		From: uint64(out.from), To: uint64(out.to), Created: u.now().UnixMilli()}, parts)
	if err != nil {
		return err
	}
	if layout.Footer.IndexAt != at {
		return fmt.Errorf("seal: %d bytes gathered for %d planned", at, layout.Footer.IndexAt)
	}
	out.objects = append(out.objects, &sealed{layout: layout, body: g, key: id.Key(u.o.Catalog.o.Cluster)})
	return nil
}

// gather reads stretches of memory as if they lay one after another from position segment.HeaderBytes on.
type gather struct {
	at   []int64
	data [][]byte
	end  int64
}

// ReadAt implements io.ReaderAt.
func (g *gather) ReadAt(p []byte, off int64) (int, error) {
	i, ok := slices.BinarySearch(g.at, off)
	if !ok {
		i--
	}
	n := 0
	for i >= 0 && i < len(g.at) && n < len(p) && off < g.end {
		c := copy(p[n:], g.data[i][off-g.at[i]:])
		n, off, i = n+c, off+int64(c), i+1
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
