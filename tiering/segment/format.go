// Package segment is the layout of the objects that hold record batches: header, blocks, index, footer (FORMAT.md). It plans an
// object before its bytes are at hand, so that a body can be read by position, and decodes what it is given without
// trusting it. An object describes itself: bucket contents suffice to rebuild the metadata. PURE.
package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/codec"
)

// Sizes of the fixed parts and bounds of the others.
const (
	HeaderBytes = 160
	FooterBytes = 64
	// BlockBytes is where a block is closed; MaxBlockBytes is what it may reach, unless one batch alone is longer.
	BlockBytes    = 512 << 10
	MaxBlockBytes = 1 << 20
	// MaxIndexBytes bounds an index; MaxBlobBytes bounds the producer state of one partition in it.
	MaxIndexBytes = 64 << 20
	MaxBlobBytes  = 32 << 20

	version      = 1
	clusterBytes = 32
	streamBytes  = 32
)

var (
	headerMagic = [8]byte{'T', 'I', 'D', 'E', 'O', 'B', 'J', '1'}
	footerMagic = [8]byte{'T', 'I', 'D', 'E', 'E', 'N', 'D', '1'}
)

// ErrCorrupt is wrapped by every error about bytes that are not a well-formed part of an object.
var ErrCorrupt = errors.New("corrupt object")

// ErrVersion says that a newer program wrote the object.
var ErrVersion = errors.New("unsupported object version")

// Header says where an object comes from.
type Header struct {
	ID       ID
	Cluster  string // at most 32 bytes, no NUL
	Stream   string // name of the WAL stream that was sealed, for people; at most 32 bytes, empty if not sealed
	From, To uint64 // WAL positions of the sealed range, half open; zero if not sealed
	Created  int64  // milliseconds since the Unix epoch
}

// Footer says where the index is.
type Footer struct {
	IndexAt    int64
	IndexBytes int64
	IndexCRC   uint32
	Created    int64 // as in the header
}

// SizeBytes is the size of the whole object.
func (f Footer) SizeBytes() int64 { return f.IndexAt + f.IndexBytes + FooterBytes }

// Block is one partition's run of record batches in an object: [BaseOffset, NextOffset), all with one leader epoch.
type Block struct {
	BaseOffset, NextOffset metadata.Offset
	MaxTimestampMs         int64
	Position               int64 // in the object
	Length                 int32 // bytes
	LeaderEpoch            metadata.LeaderEpoch
	CRC                    uint32 // CRC32C of the block's bytes
}

// End is the position one past the block.
func (b *Block) End() int64 { return b.Position + int64(b.Length) }

// Aborted is an aborted transaction that the offsets of a part may belong to.
type Aborted struct {
	ProducerID                          int64
	FirstOffset, LastOffset, LastStable metadata.Offset
}

// Part is what an object holds of one partition.
type Part struct {
	Partition  metadata.PartitionID
	Start, End metadata.Offset // half open; offsets that no block has were compacted away
	Blocks     []Block         // in order of offsets
	// Producers is encoded producer state (package producers): of the part's own batches in sealed objects, and as it was at
	// offset ProducersAt in others. Nil where no batch has a producer.
	Producers   []byte
	ProducersAt metadata.Offset
	Aborted     []Aborted
}

// SizeBytes is the sum of the blocks' lengths.
func (p *Part) SizeBytes() int64 {
	var n int64
	for i := range p.Blocks {
		n += int64(p.Blocks[i].Length)
	}
	return n
}

// MaxTimestampMs is the largest timestamp of the blocks, or -1.
func (p *Part) MaxTimestampMs() int64 {
	ts := int64(-1)
	for i := range p.Blocks {
		ts = max(ts, p.Blocks[i].MaxTimestampMs)
	}
	return ts
}

// AppendHeader appends the encoded header to dst. It panics if the names are too long, which the caller has checked long before.
func AppendHeader(dst []byte, h Header) []byte {
	if len(h.Cluster) > clusterBytes || len(h.Stream) > streamBytes {
		panic(fmt.Sprintf("segment: cluster %q or stream %q too long", h.Cluster, h.Stream))
	}
	at := len(dst)
	dst = append(dst, make([]byte, HeaderBytes)...)
	b := dst[at:]
	le := binary.LittleEndian
	copy(b, headerMagic[:])
	le.PutUint16(b[8:], version)
	b[10] = byte(h.ID.Kind)
	copy(b[16:48], h.Cluster)
	copy(b[48:80], h.Stream)
	le.PutUint64(b[80:], h.ID.Epoch)
	le.PutUint64(b[88:], h.ID.Seq)
	le.PutUint64(b[96:], h.ID.Nonce)
	le.PutUint64(b[104:], h.From)
	le.PutUint64(b[112:], h.To)
	le.PutUint64(b[120:], uint64(h.Created))
	le.PutUint32(b[HeaderBytes-4:], codec.CRC(b[:HeaderBytes-4]))
	return dst
}

// DecodeHeader decodes the first HeaderBytes of an object.
func DecodeHeader(b []byte) (Header, error) {
	if len(b) < HeaderBytes {
		return Header{}, fmt.Errorf("%w: %d bytes are shorter than a header", ErrCorrupt, len(b))
	}
	b = b[:HeaderBytes]
	le := binary.LittleEndian
	if !bytes.Equal(b[:8], headerMagic[:]) {
		return Header{}, fmt.Errorf("%w: header magic %x", ErrCorrupt, b[:8])
	}
	if v := le.Uint16(b[8:]); v != version {
		return Header{}, fmt.Errorf("%w: %d", ErrVersion, v)
	}
	if got, want := codec.CRC(b[:HeaderBytes-4]), le.Uint32(b[HeaderBytes-4:]); got != want {
		return Header{}, fmt.Errorf("%w: header CRC %08x, want %08x", ErrCorrupt, got, want)
	}
	h := Header{
		ID:      ID{Kind: Kind(b[10]), Epoch: le.Uint64(b[80:]), Seq: le.Uint64(b[88:]), Nonce: le.Uint64(b[96:])},
		Cluster: string(bytes.TrimRight(b[16:48], "\x00")),
		Stream:  string(bytes.TrimRight(b[48:80], "\x00")),
		From:    le.Uint64(b[104:]),
		To:      le.Uint64(b[112:]),
		Created: int64(le.Uint64(b[120:])),
	}
	if !h.ID.Kind.Data() || h.From > h.To {
		return Header{}, fmt.Errorf("%w: header of kind %d, range [%d, %d)", ErrCorrupt, b[10], h.From, h.To)
	}
	return h, nil
}

// AppendFooter appends the encoded footer to dst.
func AppendFooter(dst []byte, f Footer) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, FooterBytes)...)
	b := dst[at:]
	le := binary.LittleEndian
	le.PutUint16(b, version)
	le.PutUint64(b[8:], uint64(f.IndexAt))
	le.PutUint64(b[16:], uint64(f.IndexBytes))
	le.PutUint32(b[24:], f.IndexCRC)
	le.PutUint64(b[32:], uint64(f.Created))
	le.PutUint32(b[52:], codec.CRC(b[:52]))
	copy(b[56:], footerMagic[:])
	return dst
}

// DecodeFooter decodes the last FooterBytes of an object.
func DecodeFooter(b []byte) (Footer, error) {
	if len(b) < FooterBytes {
		return Footer{}, fmt.Errorf("%w: %d bytes are shorter than a footer", ErrCorrupt, len(b))
	}
	b = b[len(b)-FooterBytes:]
	le := binary.LittleEndian
	if !bytes.Equal(b[56:], footerMagic[:]) {
		return Footer{}, fmt.Errorf("%w: footer magic %x", ErrCorrupt, b[56:])
	}
	if v := le.Uint16(b); v != version {
		return Footer{}, fmt.Errorf("%w: %d", ErrVersion, v)
	}
	if got, want := codec.CRC(b[:52]), le.Uint32(b[52:]); got != want {
		return Footer{}, fmt.Errorf("%w: footer CRC %08x, want %08x", ErrCorrupt, got, want)
	}
	f := Footer{IndexAt: int64(le.Uint64(b[8:])), IndexBytes: int64(le.Uint64(b[16:])), IndexCRC: le.Uint32(b[24:]), Created: int64(le.Uint64(b[32:]))}
	if f.IndexAt < HeaderBytes || f.IndexAt > 1<<62 || f.IndexBytes < 0 || f.IndexBytes > MaxIndexBytes {
		return Footer{}, fmt.Errorf("%w: index of %d bytes at %d", ErrCorrupt, f.IndexBytes, f.IndexAt)
	}
	return f, nil
}
