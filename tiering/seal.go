package tiering

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/codec"
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

	done chan struct{} // closed when the puts are over, with err
	err  error

	mu      sync.Mutex
	entries *[]sealEntry // of gathered objects; nil: there are none, or no longer
	pins    []wal.Ref    // of the slabs that entries lie in
}

// sealed is one object of a seal.
type sealed struct {
	kind   segment.Kind
	parts  []segment.Part
	from   []*sealPart // in the order of parts
	end    int64       // of the blocks
	layout *segment.Layout
	key    string

	// One of them, or both while a gathered object is copied or put after that.
	gathered *gathered
	image    *image
}

// sealer looks through a range of the stream and decides which batches go where (add). It looks at headers, since the CRCs of blocks
// follow from those of the batches. It holds the slabs that it comes by: what can be held, the puts copy from there; else it is copied
// in a second look (place). It belongs to one goroutine.
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
	pins     []wal.Ref
	loose    bool // not all of entries lie in held slabs
}

// sealEntry is an entry of the stream that goes into an object.
type sealEntry struct {
	pos  wal.Position
	part *sealPart
	data []byte // the batch; valid while its slab is held
	next int32  // the part's next entry
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

	first, last int32 // among the sealer's entries, or -1

	// Of the copying.
	object *sealed
	blocks []segment.Block // those of the object's part that are not full
	at     int64           // where in the object the next batch goes
	crc    uint32          // of the block so far
}

// hold keeps the entry where it is. It reports false when it is not in memory, or no more may be held.
func (s *sealer) hold(r wal.Ref) bool {
	if n := len(s.pins); n > 0 && s.pins[n-1].SameSlab(r) {
		return true
	}
	if !r.Hold() {
		return false
	}
	s.pins = append(s.pins, r)
	return true
}

// letGo gives up holding slabs.
func (s *sealer) letGo() {
	releasePins(s.pins)
	s.pins, s.loose = nil, true
}

func releasePins(pins []wal.Ref) {
	for _, r := range pins {
		r.Release()
	}
}

// note puts an entry into the list of its part.
func (s *sealer) note(pos wal.Position, p *sealPart, b []byte) {
	i := int32(len(s.entries))
	if s.loose {
		b = nil
	}
	s.entries = append(s.entries, sealEntry{pos: pos, part: p, data: b})
	if p.first < 0 {
		p.first = i
	} else {
		s.entries[p.last].next = i
	}
	p.last = i
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
	if len(b) < combineBytes {
		// The block's CRC is computed from the bytes, which must be the right ones then. That of a long batch says itself what they are.
		if crc := codec.CRC(b[batch.CRCFrom:]); crc != bh.CRC {
			return batchMismatch(e.Pos, h.Partition, &bh, crc)
		}
	}
	p.open.CRC = addBatchCRC(p.open.CRC, b, bh.CRC)
	p.open.NextOffset = next
	p.open.Length += int32(len(b))
	p.open.MaxTimestampMs = max(p.open.MaxTimestampMs, bh.MaxTimestampMs)
	p.maxTs = max(p.maxTs, bh.MaxTimestampMs)
	p.expected = next
	p.bytes += int64(len(b))
	s.bytes += int64(len(b))
	s.note(e.Pos, p, b)
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
		p = &sealPart{maxTs: -1, expected: s.end(id), first: -1, last: -1}
		p.skip = !s.exists(id)
		p.part.Partition, p.part.Start = id, p.expected
		s.parts[id] = p
		s.index += partIndexBytes
		s.order = append(s.order, p)
	}
	s.lastPart = p
	return p
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

func batchMismatch(pos wal.Position, p metadata.PartitionID, h *batch.Header, crc uint32) error {
	return fmt.Errorf("%w: WAL position %d: %v: batch at %d has CRC %08x, want %08x", ErrCorrupt, pos, p, h.BaseOffset, crc, h.CRC)
}

// place copies an entry into its object's image if add has chosen it, and checks the CRCs of batch and block on the way.
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
	if len(p.blocks) == 0 || p.at+int64(len(b)) > p.blocks[0].End() {
		return fmt.Errorf("%w: WAL position %d: a batch of %d bytes where another one was", ErrCorrupt, e.Pos, len(b))
	}
	if crc := p.object.image.putBatch(p.at, b); crc != bh.CRC {
		return batchMismatch(e.Pos, p.part.Partition, &bh, crc)
	}
	p.crc = addBatchCRC(p.crc, b, bh.CRC)
	p.at += int64(len(b))
	if p.at == p.blocks[0].End() {
		if p.crc != p.blocks[0].CRC {
			return fmt.Errorf("%w: WAL position %d: %v: the block that ends here has changed while it was sealed", ErrCorrupt, e.Pos, p.part.Partition)
		}
		p.blocks, p.crc = p.blocks[1:], 0
	}
	return nil
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

// entryLists are lists of sealEntry, reused.
var entryLists = sync.Pool{New: func() any { return new([]sealEntry) }}

// collect reads [from, to) of the stream until maxBytes, or half of what an index may have, are at hand, and builds the objects. A
// seal also ends where no more slabs can be held, unless that makes it much smaller.
func (u *Uploader) collect(ctx context.Context, from, to wal.Position, maxBytes int64) (out *seal, err error) {
	list := entryLists.Get().(*[]sealEntry)
	s := &sealer{end: u.sealedEnd, exists: u.exists, nowMs: u.now().UnixMilli(), parts: map[metadata.PartitionID]*sealPart{}, entries: *list}
	out = &seal{from: u.nextFrom, to: to, done: make(chan struct{})}
	defer func() {
		*list = s.entries
		if err != nil || s.loose {
			putEntryList(list)
		} else {
			out.entries, out.pins = list, s.pins
		}
		if err != nil {
			s.letGo()
			out.release()
			out = nil
		}
	}()
	var before wal.Position
	err = u.o.Stream.Scan(ctx, from, to, func(e wal.Entry) error {
		if !s.loose && !s.hold(e.Ref) {
			if s.bytes >= maxBytes/4 {
				out.to = before
				return errSealFull
			}
			s.letGo()
		}
		if err := s.add(e); err != nil {
			return err
		}
		before = e.Next
		if (s.bytes >= maxBytes || s.index >= u.indexBytes) && e.Next < to {
			out.to = e.Next
			return errSealFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, errSealFull) {
		return out, err
	}
	out.bytes = s.bytes
	if err = u.divide(out, s.order); err != nil {
		return out, err
	}
	if !s.loose {
		for _, o := range out.objects {
			o.gathered = &gathered{cursor: cursor{object: o, entries: s.entries}}
		}
		return out, nil
	}
	return out, u.placeAll(ctx, s, from, out)
}

// placeAll copies the entries to images of the objects in a second look.
func (u *Uploader) placeAll(ctx context.Context, s *sealer, from wal.Position, out *seal) error {
	for _, o := range out.objects {
		o.image = newImage(&u.staging, o.end)
	}
	if err := u.o.Stream.Scan(ctx, from, out.to, s.place); err != nil {
		return err
	}
	if s.placed < len(s.entries) {
		return fmt.Errorf("%w: WAL position %d: an entry is gone that was there before", ErrCorrupt, s.entries[s.placed].pos)
	}
	for _, p := range s.order {
		if p.object != nil && len(p.blocks) > 0 {
			return fmt.Errorf("%w: WAL positions %d to %d: %v: batches are shorter than they were", ErrCorrupt, out.from, out.to, p.part.Partition)
		}
	}
	for _, o := range out.objects {
		o.image.finish(o.layout)
	}
	return nil
}

func putEntryList(list *[]sealEntry) {
	clear(*list)
	*list = (*list)[:0]
	entryLists.Put(list)
}
