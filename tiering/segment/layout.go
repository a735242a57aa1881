package segment

import (
	"fmt"
	"io"
	"slices"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/codec"
)

// EndBlock tells whether a block that has blockBytes and blockEpoch is to be closed before a batch of batchBytes with batchEpoch.
func EndBlock(blockBytes, batchBytes int, blockEpoch, batchEpoch metadata.LeaderEpoch) bool {
	if blockBytes == 0 {
		return false
	}
	return blockBytes >= BlockBytes || blockBytes+batchBytes > MaxBlockBytes || blockEpoch != batchEpoch
}

// Layout is a planned object: everything but the bytes of its blocks.
type Layout struct {
	Header Header
	Index  Index // block positions are set
	Footer Footer
	head   []byte
	tail   []byte
}

// Place sorts the parts of an object and sets the positions of their blocks, in the order of parts and blocks; the blocks' lengths
// must be set. It returns the position after the last block. It fails where a part is malformed.
func Place(parts []Part) (end int64, err error) {
	slices.SortFunc(parts, func(a, b Part) int { return Compare(a.Partition, b.Partition) })
	at := int64(HeaderBytes)
	for i := range parts {
		p := &parts[i]
		if i > 0 && parts[i-1].Partition == p.Partition {
			return 0, fmt.Errorf("plan object: partition %v twice", p.Partition)
		}
		if len(p.Producers) > MaxBlobBytes {
			return 0, fmt.Errorf("plan object: %v has %d bytes of producer state", p.Partition, len(p.Producers))
		}
		next := p.Start
		for j := range p.Blocks {
			b := &p.Blocks[j]
			if b.BaseOffset < next || b.NextOffset <= b.BaseOffset || b.NextOffset > p.End || b.Length <= 0 {
				return 0, fmt.Errorf("plan object: %v [%d, %d): block [%d, %d) of %d bytes after %d", p.Partition, p.Start, p.End,
					b.BaseOffset, b.NextOffset, b.Length, next)
			}
			b.Position = at
			at, next = b.End(), b.NextOffset
		}
	}
	return at, nil
}

// Plan lays out an object with the given parts, which it keeps and places (see Place). Lengths and CRCs of the blocks must be set. It
// fails where a part is malformed or the index would be too long.
func Plan(h Header, parts []Part) (*Layout, error) {
	at, err := Place(parts)
	if err != nil {
		return nil, err
	}
	l := &Layout{Header: h, Index: Index{Parts: parts}}
	l.head = AppendHeader(make([]byte, 0, HeaderBytes), h)
	l.tail = AppendIndex(nil, &l.Index)
	if len(l.tail) > MaxIndexBytes {
		return nil, fmt.Errorf("plan object: index of %d bytes", len(l.tail))
	}
	l.Footer = Footer{IndexAt: at, IndexBytes: int64(len(l.tail)), IndexCRC: codec.CRC(l.tail), Created: h.Created}
	l.tail = AppendFooter(l.tail, l.Footer)
	return l, nil
}

// SizeBytes is the size of the whole object.
func (l *Layout) SizeBytes() int64 { return l.Footer.SizeBytes() }

// Head is the object before its first block, HeaderBytes long. The caller must not change it.
func (l *Layout) Head() []byte { return l.head }

// Tail is the object after its last block, from Footer.IndexAt on. The caller must not change it.
func (l *Layout) Tail() []byte { return l.tail }

// CRC32C is that of the whole object, combined from those of its parts without a look at the blocks.
func (l *Layout) CRC32C() uint32 {
	crc := codec.CRC(l.head)
	for i := range l.Index.Parts {
		for _, b := range l.Index.Parts[i].Blocks {
			crc = codec.CombineCRC(crc, b.CRC, int64(b.Length))
		}
	}
	return codec.CombineCRC(crc, codec.CRC(l.tail), int64(len(l.tail)))
}

// Body is the object's content. blocks reads by position in the object, and is only asked for [HeaderBytes, Footer.IndexAt).
func (l *Layout) Body(blocks io.ReaderAt) *Body { return &Body{layout: l, blocks: blocks} }

// Body reads an object by position; it is an objectstore.Body. It may be read concurrently if its blocks may.
type Body struct {
	layout *Layout
	blocks io.ReaderAt
}

// Size is the size of the whole object in bytes.
func (b *Body) Size() int64 { return b.layout.SizeBytes() }

// CRC32C implements objectstore.Summed.
func (b *Body) CRC32C() uint32 { return b.layout.CRC32C() }

// ReadAt implements io.ReaderAt.
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read object at %d", off)
	}
	done := 0
	for done < len(p) {
		n, err := b.readSome(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (b *Body) readSome(p []byte, off int64) (int, error) {
	indexAt := b.layout.Footer.IndexAt
	switch {
	case off < HeaderBytes:
		return copy(p, b.layout.head[off:]), nil
	case off < indexAt:
		n, err := b.blocks.ReadAt(p[:min(int64(len(p)), indexAt-off)], off)
		if n > 0 && err == io.EOF {
			err = nil
		}
		if n == 0 && err == nil {
			err = io.ErrNoProgress
		}
		return n, err
	case off < b.Size():
		return copy(p, b.layout.tail[off-indexAt:]), nil
	}
	return 0, io.EOF
}
