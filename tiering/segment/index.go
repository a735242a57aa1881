package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/codec"
)

// Index says what an object holds. Parts are sorted by Compare of their partitions, each partition at most once.
type Index struct {
	Parts []Part
}

// Compare orders partitions as indexes do: by topic id, then by number.
func Compare(a, b metadata.PartitionID) int {
	if c := bytes.Compare(a.Topic[:], b.Topic[:]); c != 0 {
		return c
	}
	return cmp.Compare(a.Partition, b.Partition)
}

// Part returns the part of partition p, or nil.
func (x *Index) Part(p metadata.PartitionID) *Part {
	i, ok := slices.BinarySearchFunc(x.Parts, p, func(part Part, p metadata.PartitionID) int { return Compare(part.Partition, p) })
	if !ok {
		return nil
	}
	return &x.Parts[i]
}

// Smallest encodings, to bound counts by the bytes at hand.
const (
	minPartBytes    = 5
	minBlockBytes   = 10
	minAbortedBytes = 4
)

const (
	flagSameTopic = 1 << iota
	flagProducers
	flagAborted
	flagsKnown = 1<<iota - 1
)

// AppendIndex appends the encoded index to dst.
func AppendIndex(dst []byte, x *Index) []byte {
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, uint64(len(x.Parts)))
	var topic metadata.TopicID
	for i := range x.Parts {
		p := &x.Parts[i]
		flags := byte(0)
		if i > 0 && p.Partition.Topic == topic {
			flags |= flagSameTopic
		}
		if len(p.Producers) > 0 {
			flags |= flagProducers
		}
		if len(p.Aborted) > 0 {
			flags |= flagAborted
		}
		dst = append(dst, flags)
		if flags&flagSameTopic == 0 {
			topic = p.Partition.Topic
			dst = append(dst, topic[:]...)
		}
		dst = appendPart(dst, p, flags)
	}
	return dst
}

func appendPart(dst []byte, p *Part, flags byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.Partition.Partition))
	dst = binary.AppendUvarint(dst, uint64(p.Start))
	dst = binary.AppendUvarint(dst, uint64(p.End-p.Start))
	dst = AppendBlocks(dst, p.Start, p.Blocks)
	if flags&flagProducers != 0 {
		dst = binary.AppendUvarint(dst, uint64(p.ProducersAt))
		dst = codec.AppendBlob(dst, p.Producers)
	}
	if flags&flagAborted != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(p.Aborted)))
		for _, a := range p.Aborted {
			dst = codec.AppendVarint(dst, a.ProducerID)
			dst = binary.AppendUvarint(dst, uint64(a.FirstOffset))
			dst = binary.AppendUvarint(dst, uint64(a.LastOffset))
			dst = binary.AppendUvarint(dst, uint64(a.LastStable))
		}
	}
	return dst
}

// AppendBlocks appends a delta-encoded list of blocks that begin at or after offset start.
func AppendBlocks(dst []byte, start metadata.Offset, blocks []Block) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(blocks)))
	prev := Block{NextOffset: start}
	prevEnd := int64(0)
	for _, b := range blocks {
		dst = binary.AppendUvarint(dst, uint64(b.BaseOffset-prev.NextOffset))
		dst = binary.AppendUvarint(dst, uint64(b.NextOffset-b.BaseOffset))
		dst = codec.AppendVarint(dst, b.MaxTimestampMs-prev.MaxTimestampMs)
		dst = binary.AppendUvarint(dst, uint64(b.Position-prevEnd))
		dst = binary.AppendUvarint(dst, uint64(b.Length))
		dst = codec.AppendVarint(dst, int64(b.LeaderEpoch)-int64(prev.LeaderEpoch))
		dst = binary.LittleEndian.AppendUint32(dst, b.CRC)
		prev, prevEnd = b, b.End()
	}
	return dst
}

// ReadBlocks reads what AppendBlocks wrote; end is the offset that the blocks must not exceed.
func ReadBlocks(r *codec.Reader, start, end metadata.Offset) []Block {
	n := r.Count(minBlockBytes)
	if n == 0 {
		return nil
	}
	blocks := make([]Block, 0, n)
	prev := Block{NextOffset: start}
	prevEnd := int64(0)
	for range n {
		var b Block
		gap, count := r.Int63(), r.Int63()
		b.MaxTimestampMs = prev.MaxTimestampMs + r.Varint()
		skip := r.Int63()
		b.Length = r.Int31()
		epoch := int64(prev.LeaderEpoch) + r.Varint()
		b.CRC = r.Uint32()
		if r.Err() != nil {
			return nil
		}
		room := int64(end - prev.NextOffset)
		if count == 0 || gap > room || count > room-gap || b.Length == 0 || skip > 1<<62-prevEnd || epoch < math.MinInt32 || epoch > math.MaxInt32 {
			r.Fail(fmt.Errorf("%w: block of %d offsets after a gap of %d with %d left, %d bytes, epoch %d", ErrCorrupt, count, gap, room, b.Length, epoch))
			return nil
		}
		b.BaseOffset = prev.NextOffset + metadata.Offset(gap)
		b.NextOffset = b.BaseOffset + metadata.Offset(count)
		b.Position = prevEnd + skip
		b.LeaderEpoch = metadata.LeaderEpoch(epoch)
		blocks = append(blocks, b)
		prev, prevEnd = b, b.End()
	}
	return blocks
}

// DecodeIndex decodes an index whose CRC has been checked. Producer blobs alias b.
func DecodeIndex(b []byte) (*Index, error) {
	if len(b) > MaxIndexBytes {
		return nil, fmt.Errorf("%w: index of %d bytes", ErrCorrupt, len(b))
	}
	r := codec.NewReader(b)
	if v := r.Uint8(); r.Err() == nil && v != version {
		return nil, fmt.Errorf("%w: index version %d", ErrVersion, v)
	}
	n := r.Count(minPartBytes)
	x := &Index{Parts: make([]Part, 0, n)}
	for i := range n {
		p := Part{}
		flags := r.Uint8()
		if flags&^flagsKnown != 0 || flags&flagSameTopic != 0 && i == 0 {
			r.Fail(fmt.Errorf("%w: part flags %02x", ErrCorrupt, flags))
		}
		if flags&flagSameTopic != 0 && i > 0 {
			p.Partition.Topic = x.Parts[i-1].Partition.Topic
		} else {
			copy(p.Partition.Topic[:], r.Bytes(len(p.Partition.Topic)))
		}
		readPart(r, &p, flags)
		if r.Err() != nil {
			break
		}
		if i > 0 && Compare(x.Parts[i-1].Partition, p.Partition) >= 0 {
			r.Fail(fmt.Errorf("%w: parts out of order at %d", ErrCorrupt, i))
			break
		}
		x.Parts = append(x.Parts, p)
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: index: %w", ErrCorrupt, err)
	}
	if r.Len() != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the index", ErrCorrupt, r.Len())
	}
	return x, nil
}

func readPart(r *codec.Reader, p *Part, flags byte) {
	p.Partition.Partition = r.Int31()
	start, count := r.Int63(), r.Int63()
	if count > math.MaxInt64-start {
		r.Fail(fmt.Errorf("%w: %d offsets from %d", ErrCorrupt, count, start))
		return
	}
	p.Start, p.End = metadata.Offset(start), metadata.Offset(start+count)
	p.Blocks = ReadBlocks(r, p.Start, p.End)
	if flags&flagProducers != 0 {
		p.ProducersAt = metadata.Offset(r.Int63())
		p.Producers = r.Blob()
		if len(p.Producers) > MaxBlobBytes {
			r.Fail(fmt.Errorf("%w: producer state of %d bytes", ErrCorrupt, len(p.Producers)))
		}
	}
	if flags&flagAborted != 0 {
		n := r.Count(minAbortedBytes)
		p.Aborted = make([]Aborted, 0, n)
		for range n {
			p.Aborted = append(p.Aborted, Aborted{ProducerID: r.Varint(), FirstOffset: metadata.Offset(r.Int63()),
				LastOffset: metadata.Offset(r.Int63()), LastStable: metadata.Offset(r.Int63())})
		}
	}
}

// DecodeTail decodes index and footer from the end of an object, which b must hold from the index on. It checks both CRCs.
func DecodeTail(b []byte) (*Index, Footer, error) {
	f, err := DecodeFooter(b)
	if err != nil {
		return nil, Footer{}, err
	}
	if int64(len(b)) < f.IndexBytes+FooterBytes {
		return nil, f, fmt.Errorf("%w: %d bytes do not reach back to the index of %d", ErrCorrupt, len(b), f.IndexBytes)
	}
	end := len(b) - FooterBytes
	raw := b[end-int(f.IndexBytes) : end]
	if got := codec.CRC(raw); got != f.IndexCRC {
		return nil, f, fmt.Errorf("%w: index CRC %08x, want %08x", ErrCorrupt, got, f.IndexCRC)
	}
	x, err := DecodeIndex(raw)
	return x, f, err
}
