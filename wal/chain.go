package wal

import (
	"context"
	"errors"
	"fmt"
)

// ErrMalformed says that what came from elsewhere is not what the stream's writer built for that place, or cannot be.
var ErrMalformed = errors.New("wal groups malformed")

// SegmentRef names a segment of a stream and the positions that it holds.
type SegmentRef struct {
	Sequence  uint64 // from 1
	First     Position
	SizeBytes int64 // of the file
}

// Limit is the position after the last byte that the segment can hold: First of its successor.
func (s SegmentRef) Limit() Position { return s.First + Position(s.SizeBytes) - blockBytes }

func (h segmentHeader) ref() SegmentRef {
	return SegmentRef{Sequence: h.Sequence, First: h.First, SizeBytes: h.SizeBytes}
}

// check makes sure that the segment can be one of the stream's.
func (s SegmentRef) check(h StreamHeader) error {
	if s.Sequence == 0 || s.Sequence > 1<<40 || s.First%blockBytes != 0 || s.First > 1<<61 || s.SizeBytes%blockBytes != 0 || s.SizeBytes < 2*blockBytes ||
		s.SizeBytes > h.SegmentBytes || s.Sequence > firstSegmentSeq && s.SizeBytes != h.SegmentBytes || (s.Sequence == firstSegmentSeq) != (s.First == 0) {
		return fmt.Errorf("%w: segment %d of %d bytes at position %d", ErrMalformed, s.Sequence, s.SizeBytes, s.First)
	}
	return nil
}

// Chunk is one or more whole groups that follow each other in one segment, as the writer wrote them.
type Chunk struct {
	Segment  SegmentRef
	Position Position // of the first group
	Bytes    []byte
}

// End is the position after the last group.
func (c Chunk) End() Position { return c.Position + Position(len(c.Bytes)) }

// Chain checks that groups which came from elsewhere are those of one stream, whole, and follow each other without a gap. It trusts
// nothing that it is given. Not safe for concurrent use.
type Chain struct {
	header StreamHeader
	seed   uint32

	known    bool // sequence and link of the next group are
	sequence uint64
	link     uint32
	end      Position
	segment  SegmentRef // that end lies in; Sequence 0: none yet
}

// NewChain begins the chain of the stream at whatever group comes first.
func NewChain(h StreamHeader) *Chain {
	return &Chain{header: h, seed: segmentHeader{Nonce: h.Nonce}.seed()}
}

// End is the position after the last group taken.
func (c *Chain) End() Position { return c.end }

// Take checks the chunk and moves on behind it; after an error nothing has changed. The errors wrap ErrMalformed.
func (c *Chain) Take(k Chunk) error {
	next, _, err := c.take(k)
	if err == nil {
		*c = next
	}
	return err
}

// take returns the chain as it is after the chunk, and the highest promise of a group in it.
func (c *Chain) take(k Chunk) (next Chain, promised Position, err error) {
	next = *c
	if err := next.enter(k.Segment, k.Position); err != nil {
		return next, 0, err
	}
	if len(k.Bytes) == 0 || Position(len(k.Bytes)) > k.Segment.Limit()-k.Position {
		return next, 0, fmt.Errorf("%w: %d bytes at %d in a segment that ends at %d", ErrMalformed, len(k.Bytes), k.Position, k.Segment.Limit())
	}
	for b, at := k.Bytes, k.Position; len(b) > 0; {
		h, err := next.takeGroup(b, at)
		if err != nil {
			return next, 0, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		promised = max(promised, h.Promised)
		at, b = h.end(), b[h.Length:]
	}
	return next, promised, nil
}

// enter makes sure that a group at pos in the segment can be the next one.
func (c *Chain) enter(s SegmentRef, pos Position) error {
	if err := s.check(c.header); err != nil {
		return err
	}
	last := c.segment
	switch {
	case last.Sequence == 0: // the first
		if pos < s.First || pos%blockBytes != 0 || c.known && pos != s.First {
			return fmt.Errorf("%w: a group at %d in segment %d at %d", ErrMalformed, pos, s.Sequence, s.First)
		}
	case last == s:
		if pos != c.end {
			return fmt.Errorf("%w: a group at %d does not follow %d", ErrMalformed, pos, c.end)
		}
	default:
		if last.Sequence+1 != s.Sequence || last.Limit() != s.First || pos != s.First {
			return fmt.Errorf("%w: a group at %d in segment %d at %d does not follow segment %d that ends at %d",
				ErrMalformed, pos, s.Sequence, s.First, last.Sequence, last.Limit())
		}
	}
	if s.Sequence == firstSegmentSeq && pos == 0 {
		c.known, c.sequence, c.link = true, firstGroupSequence, c.seed
	}
	c.segment, c.end = s, pos
	return nil
}

func (c *Chain) takeGroup(b []byte, at Position) (groupHeader, error) {
	h, err := parseGroupHeader(b, c.seed, c.header.Epoch, at)
	if err != nil {
		return h, err
	}
	if err := checkGroup(b, h, true); err != nil {
		return h, err
	}
	if c.known && (h.Sequence != c.sequence || h.Link != c.link) || h.Promised > h.Position {
		return h, fmt.Errorf("group %d at %d does not continue the chain", h.Sequence, at)
	}
	c.known, c.sequence, c.link, c.end = true, h.Sequence+1, h.CRC, h.end()
	return h, nil
}

// EachEntry calls fn for the entries of a checked chunk whose data begins in [from, to).
func (k Chunk) EachEntry(from, to Position, fn func(Entry) error) error {
	for b, at := k.Bytes, k.Position; len(b) >= groupHeaderBytes; {
		h := groupHeader{Position: at, Length: le.Uint32(b[48:]), Entries: le.Uint32(b[52:])}
		if err := eachEntry(b, h, from, to, fn); err != nil {
			return err
		}
		at, b = h.end(), b[h.Length:]
	}
	return nil
}

// chunk reads whole groups from the files, from the first one that ends after from and up to to: at most maxBytes, unless a single
// group is longer, and of one segment only. They are appended to dst[:0], or to new memory if that is too small. Without a group there
// the chunk is empty.
func (s *segments) chunk(ctx context.Context, from, to Position, maxBytes int, dst []byte) (k Chunk, err error) {
	if err := stopIfDone(ctx); err != nil {
		return k, err
	}
	r := fileReader{segs: s}
	defer func() {
		if cerr := r.close(); err == nil {
			err = cerr
		}
	}()
	k.Bytes = dst[:0]
	for pos := from; pos < to; {
		h, b, err := r.groupAfter(pos)
		if err != nil {
			return Chunk{}, err
		}
		if b == nil || h.end() > to {
			break
		}
		if len(k.Bytes) > 0 && (r.seg.Sequence != k.Segment.Sequence || len(k.Bytes)+len(b) > maxBytes) {
			break
		}
		if len(k.Bytes) == 0 {
			k.Segment, k.Position = r.seg.ref(), h.Position
		}
		k.Bytes = append(k.Bytes, b...)
		clear(k.Bytes[len(k.Bytes)-int(h.Length-h.Content):]) // the padding, which no CRC covers: a torn write may have left what was there before
		pos = h.end()
	}
	return k, nil
}
