package tiering

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/codec"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

func crcOf(b []byte) uint32 { return codec.CRC(b) }

// located is one object's share of a partition.
type located struct {
	object     segment.ID
	start, end metadata.Offset
	blocks     []segment.Block // in order; must not be changed
	// index is the whole object's; nil where it cannot have more than this partition.
	index func(context.Context) (*segment.Index, error)
}

// blockAt is the index of the block that holds offset or is the next after it; len(blocks) if there is none.
func (l *located) blockAt(offset metadata.Offset) int {
	i, _ := slices.BinarySearchFunc(l.blocks, offset, func(b segment.Block, offset metadata.Offset) int {
		if b.NextOffset <= offset {
			return -1
		}
		return 1
	})
	return i
}

// segmentAt returns what holds offset, or comes next after it where the offset was compacted away; found is false when nothing
// is left up to the end of what is committed.
func (c *Catalog) segmentAt(ctx context.Context, p metadata.PartitionID, offset metadata.Offset) (l located, found bool, err error) {
	q, pieces, err := c.view(p)
	if err != nil {
		return l, false, err
	}
	if offset < q.Manifest.End {
		m, err := c.manifest(ctx, p, q.Manifest)
		if err != nil {
			return l, false, err
		}
		s, err := c.findSegment(ctx, m, offset)
		if err != nil {
			return l, false, err
		}
		if s != nil {
			l, err := c.locatedOf(ctx, p, s)
			return l, err == nil, err
		}
	}
	for _, piece := range pieces {
		if piece.part.End > offset {
			index := func(context.Context) (*segment.Index, error) { return piece.object.index, nil }
			return located{piece.object.id, piece.part.Start, piece.part.End, piece.part.Blocks, index}, true, nil
		}
	}
	return l, false, nil
}

// findSegment returns the first segment of m that ends after offset, or nil.
func (c *Catalog) findSegment(ctx context.Context, m *manifest.Manifest, offset metadata.Offset) (*manifest.Segment, error) {
	for i := range m.Children {
		if m.Children[i].End <= offset {
			continue
		}
		segments, err := c.child(ctx, m.Partition, &m.Children[i])
		if err != nil {
			return nil, err
		}
		if s := firstAfter(segments, offset); s != nil {
			return s, nil
		}
	}
	return firstAfter(m.Segments, offset), nil
}

func firstAfter(segments []manifest.Segment, offset metadata.Offset) *manifest.Segment {
	i, _ := slices.BinarySearchFunc(segments, offset, func(s manifest.Segment, offset metadata.Offset) int {
		if s.End <= offset {
			return -1
		}
		return 1
	})
	if i == len(segments) {
		return nil
	}
	return &segments[i]
}

// locatedOf finds the blocks of a manifest's segment.
func (c *Catalog) locatedOf(ctx context.Context, p metadata.PartitionID, s *manifest.Segment) (located, error) {
	index := func(ctx context.Context) (*segment.Index, error) { return c.index(ctx, s) }
	if len(s.Blocks) > 0 {
		return located{s.Object, s.Start, s.End, s.Blocks, index}, nil
	}
	x, err := c.index(ctx, s)
	if err != nil {
		return located{}, err
	}
	part := x.Part(p)
	if part == nil {
		return located{}, fmt.Errorf("%w: %s has nothing of %v", ErrCorrupt, s.Object.Key(c.o.Cluster), p)
	}
	return located{s.Object, s.Start, s.End, part.Blocks, index}, nil
}

// segmentOf is a pending piece as a manifest will list it. Its blocks are all inline.
func segmentOf(q piece) manifest.Segment {
	f := q.object.footer
	return manifest.Segment{Object: q.object.id, Start: q.part.Start, End: q.part.End, SizeBytes: q.part.SizeBytes(),
		MaxTimestampMs: q.part.MaxTimestampMs(), SealedMs: f.Created, IndexAt: f.IndexAt, IndexBytes: f.IndexBytes, IndexCRC: f.IndexCRC,
		HasAborted: len(q.part.Aborted) > 0, Blocks: q.part.Blocks}
}

// eachSegment calls fn for the committed segments of p that end after from, manifest first and then pending, in order, until it
// returns false. Segments of a child whose largest timestamp is below minTimestampMs are passed over unread.
func (c *Catalog) eachSegment(ctx context.Context, p metadata.PartitionID, from metadata.Offset, minTimestampMs int64, fn func(*manifest.Segment) (bool, error)) error {
	q, pieces, err := c.view(p)
	if err != nil {
		return err
	}
	m, err := c.manifest(ctx, p, q.Manifest)
	if err != nil {
		return err
	}
	each := func(segments []manifest.Segment) (bool, error) {
		for i := range segments {
			if segments[i].End <= from {
				continue
			}
			if ok, err := fn(&segments[i]); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	for i := range m.Children {
		if m.Children[i].End <= from || m.Children[i].MaxTimestampMs < minTimestampMs {
			continue
		}
		segments, err := c.child(ctx, p, &m.Children[i])
		if err != nil {
			return err
		}
		if ok, err := each(segments); !ok || err != nil {
			return err
		}
	}
	if ok, err := each(m.Segments); !ok || err != nil {
		return err
	}
	for _, piece := range pieces {
		if ok, err := each([]manifest.Segment{segmentOf(piece)}); !ok || err != nil {
			return err
		}
	}
	return nil
}
