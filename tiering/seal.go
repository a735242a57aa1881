package tiering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/tiering/producers"
	"github.com/tidemarkmq/tidemark/tiering/segment"
	"github.com/tidemarkmq/tidemark/wal"
)

// seal is a sealed range of a stream on its way into the store.
type seal struct {
	from, to wal.Position // what the objects say that they hold; the next seal begins at to
	objects  []*sealed
	ranges   []Range
	bytes    int64
	done     chan error
}

// release gives the memory of the objects back.
func (s *seal) release() {
	for _, o := range s.objects {
		o.image.release()
	}
}

// sealed is one object of a seal.
type sealed struct {
	kind   segment.Kind
	parts  []segment.Part
	image  *image
	layout *segment.Layout
	key    string
}

// sealer looks through a range of the stream twice: first it reads headers and decides which batches go where (add), then it copies
// each batch to its place in its object (place). It belongs to one goroutine.
type sealer struct {
	end    func(metadata.PartitionID) metadata.Offset // of what is committed or sealed
	exists func(metadata.PartitionID) bool
	nowMs  int64

	bytes    int64
	index    int64 // bound of what the index will take encoded
	parts    map[metadata.PartitionID]*sealPart
	order    []*sealPart
	lastPart *sealPart
	entries  []sealEntry
	placed   int // how many of entries have been copied
}

// sealEntry is an entry of the stream that goes into an object.
type sealEntry struct {
	pos  wal.Position
	part *sealPart
}

type sealPart struct {
	part     segment.Part
	skip     bool
	bytes    int64
	state    producers.State
	maxTs    int64
	open     segment.Block // the last block
	hasOpen  bool
	expected metadata.Offset

	// Of the copying.
	object *sealed
	blocks []segment.Block // those of the object's part
	at     int64           // where in the object the next batch goes
}

// add decides where an entry goes.
func (s *sealer) add(e wal.Entry) error {
	h, b, bh, err := parseEntry(e)
	if err != nil {
		return err
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
	p.open.NextOffset = next
	p.open.Length += int32(len(b))
	p.open.MaxTimestampMs = max(p.open.MaxTimestampMs, bh.MaxTimestampMs)
	p.maxTs = max(p.maxTs, bh.MaxTimestampMs)
	p.expected = next
	p.bytes += int64(len(b))
	s.bytes += int64(len(b))
	s.entries = append(s.entries, sealEntry{e.Pos, p})
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

// parseEntry splits an entry of the stream, which holds one batch.
func parseEntry(e wal.Entry) (entry.Header, []byte, batch.Header, error) {
	h, b, err := entry.Parse(e.Data)
	if err != nil {
		return h, nil, batch.Header{}, fmt.Errorf("%w: WAL position %d: %w", ErrCorrupt, e.Pos, err)
	}
	bh, err := batch.Parse(b)
	if err == nil && bh.SizeBytes != len(b) {
		err = fmt.Errorf("%d bytes follow the batch", len(b)-bh.SizeBytes)
	}
	if err != nil {
		return h, nil, bh, fmt.Errorf("%w: WAL position %d: %w", ErrCorrupt, e.Pos, err)
	}
	return h, b, bh, nil
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

// place copies an entry into its object if add has chosen it, and checks the batch's CRC on the way.
func (s *sealer) place(e wal.Entry) error {
	if s.placed == len(s.entries) || s.entries[s.placed].pos != e.Pos {
		return nil
	}
	p := s.entries[s.placed].part
	s.placed++
	_, b, bh, err := parseEntry(e)
	if err != nil {
		return err
	}
	block := &p.blocks[0]
	if p.at == block.End() && len(p.blocks) > 1 {
		p.blocks = p.blocks[1:]
		block = &p.blocks[0]
	}
	if p.at+int64(len(b)) > block.End() {
		return fmt.Errorf("%w: WAL position %d: a batch of %d bytes where another one was", ErrCorrupt, e.Pos, len(b))
	}
	if crc := p.object.image.putBatch(p.at, b); crc != bh.CRC {
		return fmt.Errorf("%w: WAL position %d: %v: batch at %d has CRC %08x, want %08x", ErrCorrupt, e.Pos, p.part.Partition, bh.BaseOffset, crc, bh.CRC)
	}
	block.CRC = addBatchCRC(block.CRC, b, bh.CRC)
	p.at += int64(len(b))
	return nil
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

// collect reads [from, to) of the stream until maxBytes, or half of what an index may have, are at hand, and builds the objects.
func (u *Uploader) collect(ctx context.Context, from, to wal.Position, maxBytes int64) (*seal, error) {
	s := &sealer{end: u.sealedEnd, exists: u.exists, nowMs: u.now().UnixMilli(), parts: map[metadata.PartitionID]*sealPart{}, entries: u.entries}
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
		return nil, err
	}
	out.bytes = s.bytes
	defer func() {
		clear(s.entries)
		u.entries = s.entries[:0]
	}()
	if err := u.divide(out, s.order); err != nil {
		out.release()
		return nil, err
	}
	if err = u.o.Stream.Scan(ctx, from, out.to, s.place); err == nil && s.placed < len(s.entries) {
		err = fmt.Errorf("%w: WAL position %d: an entry is gone that was there before", ErrCorrupt, s.entries[s.placed].pos)
	}
	for _, p := range s.order {
		if err == nil && p.object != nil && (len(p.blocks) > 1 || p.at != p.blocks[0].End()) {
			err = fmt.Errorf("%w: WAL positions %d to %d: %v: batches are shorter than they were", ErrCorrupt, out.from, out.to, p.part.Partition)
		}
	}
	for _, o := range out.objects {
		if err == nil {
			err = u.encode(out, o)
		}
	}
	if err != nil {
		out.release()
		return nil, err
	}
	return out, nil
}

// divide gives each partition its place in one of the seal's objects.
func (u *Uploader) divide(out *seal, parts []*sealPart) error {
	var shared, single []*sealPart
	for _, p := range parts {
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
		if err := u.allot(out, segment.Shared, shared); err != nil {
			return err
		}
	}
	for _, p := range single {
		if err := u.allot(out, segment.Single, []*sealPart{p}); err != nil {
			return err
		}
	}
	return nil
}

// allot adds an object with the given parts to the seal, with memory for its blocks.
func (u *Uploader) allot(out *seal, kind segment.Kind, from []*sealPart) error {
	slices.SortFunc(from, func(a, b *sealPart) int { return segment.Compare(a.part.Partition, b.part.Partition) })
	o := &sealed{kind: kind, parts: make([]segment.Part, len(from))}
	for i, p := range from {
		o.parts[i] = p.part
	}
	end, err := segment.Place(o.parts)
	if err != nil {
		return err
	}
	o.image = newImage(&u.staging, end)
	for i, p := range from {
		p.object, p.blocks, p.at = o, o.parts[i].Blocks, o.parts[i].Blocks[0].Position
	}
	out.objects = append(out.objects, o)
	return nil
}

// encode completes an object whose blocks are in place.
func (u *Uploader) encode(out *seal, o *sealed) error {
	u.nextSeq++
	id := segment.ID{Kind: o.kind, Epoch: uint64(u.o.StreamID), Seq: u.nextSeq, Nonce: rand.Uint64()}
	layout, err := segment.Plan(segment.Header{ID: id, Cluster: u.o.Catalog.o.Cluster, Stream: u.o.StreamID.String(),
		From: uint64(out.from), To: uint64(out.to), Created: u.now().UnixMilli()}, o.parts)
	if err != nil {
		return err
	}
	o.layout, o.key = layout, id.Key(u.o.Catalog.o.Cluster)
	o.image.finish(layout)
	return nil
}
