package manifest

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/codec"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// BlobHeaderBytes is the length of the header before each blob's body.
const BlobHeaderBytes = 16

const (
	version      = 1
	kindManifest = 1
	kindChild    = 2

	minSegmentBytes = 25
	minChildBytes   = 25
	minEpochBytes   = 2
)

var blobMagic = [4]byte{'T', 'I', 'D', 'M'}

const (
	segmentHasBlocks = 1 << iota
	segmentHasAborted
	segmentFlagsKnown = 1<<iota - 1
)

// Append appends the encoded manifest to dst. A manifest that Decode would refuse for its length is an error, and dst comes back as
// it was.
func Append(dst []byte, m *Manifest) ([]byte, error) {
	at := len(dst)
	dst = append(dst, make([]byte, BlobHeaderBytes)...)
	dst = appendPartition(dst, m.Partition)
	dst = binary.AppendUvarint(dst, m.Generation)
	dst = binary.AppendUvarint(dst, uint64(m.CreatedMs))
	dst = binary.AppendUvarint(dst, uint64(m.End))
	dst = binary.AppendUvarint(dst, uint64(len(m.Children)))
	for i := range m.Children {
		dst = appendChildRef(dst, &m.Children[i])
	}
	dst = appendSegments(dst, m.Segments)
	dst = binary.AppendUvarint(dst, uint64(len(m.Epochs)))
	prev := EpochStart{}
	for _, e := range m.Epochs {
		dst = codec.AppendVarint(dst, int64(e.Epoch)-int64(prev.Epoch))
		dst = binary.AppendUvarint(dst, uint64(e.Start-prev.Start))
		prev = e
	}
	dst = codec.AppendBlob(dst, m.Producers)
	return finishBlob(dst, at, kindManifest, m.Partition)
}

// AppendChild appends the encoded child that holds segments of a partition to dst; it fails as Append does.
func AppendChild(dst []byte, p metadata.PartitionID, segments []Segment) ([]byte, error) {
	at := len(dst)
	dst = append(dst, make([]byte, BlobHeaderBytes)...)
	dst = appendPartition(dst, p)
	dst = appendSegments(dst, segments)
	return finishBlob(dst, at, kindChild, p)
}

// finishBlob writes the header of the blob that dst ends with, from at on.
func finishBlob(dst []byte, at int, kind byte, p metadata.PartitionID) ([]byte, error) {
	b := dst[at:]
	if len(b) > MaxBlobBytes {
		return dst[:at], fmt.Errorf("%w: %v: blob of %d bytes, at most %d", ErrTooLarge, p, len(b), MaxBlobBytes)
	}
	copy(b, blobMagic[:])
	b[4], b[5] = version, kind
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-BlobHeaderBytes))
	binary.LittleEndian.PutUint32(b[12:], codec.CRC(b[BlobHeaderBytes:]))
	return dst, nil
}

func appendPartition(dst []byte, p metadata.PartitionID) []byte {
	dst = append(dst, p.Topic[:]...)
	return binary.AppendUvarint(dst, uint64(p.Partition))
}

func appendID(dst []byte, id, prev segment.ID) []byte {
	dst = append(dst, byte(id.Kind))
	dst = codec.AppendVarint(dst, int64(id.Epoch-prev.Epoch))
	dst = codec.AppendVarint(dst, int64(id.Seq-prev.Seq))
	return binary.LittleEndian.AppendUint64(dst, id.Nonce)
}

func appendChildRef(dst []byte, c *Child) []byte {
	dst = appendID(dst, c.Object, segment.ID{})
	dst = binary.AppendUvarint(dst, uint64(c.Position))
	dst = binary.AppendUvarint(dst, uint64(c.Length))
	dst = binary.LittleEndian.AppendUint32(dst, c.CRC)
	dst = binary.AppendUvarint(dst, uint64(c.Start))
	dst = binary.AppendUvarint(dst, uint64(c.End-c.Start))
	dst = binary.AppendUvarint(dst, uint64(c.Segments))
	dst = binary.AppendUvarint(dst, uint64(c.SizeBytes))
	return codec.AppendVarint(dst, c.MaxTimestampMs)
}

func appendSegments(dst []byte, segments []Segment) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(segments)))
	prev := Segment{}
	for i := range segments {
		dst = appendSegment(dst, &segments[i], &prev)
		prev = segments[i]
	}
	return dst
}

func appendSegment(dst []byte, s, prev *Segment) []byte {
	flags := byte(0)
	if len(s.Blocks) > 0 {
		flags |= segmentHasBlocks
	}
	if s.HasAborted {
		flags |= segmentHasAborted
	}
	dst = append(dst, flags)
	dst = appendID(dst, s.Object, prev.Object)
	dst = binary.AppendUvarint(dst, uint64(s.Start-prev.End))
	dst = binary.AppendUvarint(dst, uint64(s.End-s.Start))
	dst = binary.AppendUvarint(dst, uint64(s.SizeBytes))
	dst = codec.AppendVarint(dst, s.MaxTimestampMs-prev.MaxTimestampMs)
	dst = codec.AppendVarint(dst, s.SealedMs-prev.SealedMs)
	dst = binary.AppendUvarint(dst, uint64(s.IndexAt))
	dst = binary.AppendUvarint(dst, uint64(s.IndexBytes))
	dst = binary.LittleEndian.AppendUint32(dst, s.IndexCRC)
	if len(s.Blocks) > 0 {
		dst = segment.AppendBlocks(dst, s.Start, s.Blocks)
	}
	return dst
}

// openBlob checks header and CRC of the blob that b must be exactly, and returns a reader of its body.
func openBlob(b []byte, kind byte) (*codec.Reader, error) {
	n, got, err := BlobLength(b)
	if err != nil {
		return nil, err
	}
	if got != kind {
		return nil, fmt.Errorf("%w: blob kind %d, want %d", ErrCorrupt, got, kind)
	}
	if n != int64(len(b)) {
		return nil, fmt.Errorf("%w: blob of %d bytes in %d", ErrCorrupt, n, len(b))
	}
	if got, want := codec.CRC(b[BlobHeaderBytes:]), binary.LittleEndian.Uint32(b[12:]); got != want {
		return nil, fmt.Errorf("%w: CRC %08x, want %08x", ErrCorrupt, got, want)
	}
	return codec.NewReader(b[BlobHeaderBytes:]), nil
}

// BlobLength returns the whole length of the blob whose header b begins with, and its kind.
func BlobLength(b []byte) (length int64, kind byte, err error) {
	if len(b) < BlobHeaderBytes || [4]byte(b[:4]) != blobMagic {
		return 0, 0, fmt.Errorf("%w: no blob header in %d bytes", ErrCorrupt, len(b))
	}
	if b[4] != version {
		return 0, 0, fmt.Errorf("%w: %d", ErrVersion, b[4])
	}
	n := int64(binary.LittleEndian.Uint32(b[8:])) + BlobHeaderBytes
	if n > MaxBlobBytes {
		return 0, 0, fmt.Errorf("%w: blob of %d bytes", ErrCorrupt, n)
	}
	return n, b[5], nil
}

// Decode decodes a manifest. Producers aliases b.
func Decode(b []byte) (*Manifest, error) {
	r, err := openBlob(b, kindManifest)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Partition: readPartition(r)}
	m.Generation = r.Uvarint()
	m.CreatedMs = r.Int63()
	m.End = metadata.Offset(r.Int63())
	children := r.Count(minChildBytes)
	next := metadata.Offset(0)
	for range children {
		c := readChildRef(r)
		if c.Start < next || c.End > m.End {
			r.Fail(fmt.Errorf("%w: child [%d, %d) after %d, end %d", ErrCorrupt, c.Start, c.End, next, m.End))
			break
		}
		next = c.End
		m.Children = append(m.Children, c)
	}
	m.Segments = readSegments(r, next, m.End)
	readEpochs(r, m)
	m.Producers = r.Blob()
	if err := finish(r); err != nil {
		return nil, err
	}
	return m, nil
}

// DecodeChild decodes a child.
func DecodeChild(b []byte) (metadata.PartitionID, []Segment, error) {
	r, err := openBlob(b, kindChild)
	if err != nil {
		return metadata.PartitionID{}, nil, err
	}
	p := readPartition(r)
	segments := readSegments(r, 0, math.MaxInt64)
	return p, segments, finish(r)
}

func finish(r *codec.Reader) error {
	if err := r.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if r.Len() != 0 {
		return fmt.Errorf("%w: %d bytes too many", ErrCorrupt, r.Len())
	}
	return nil
}

func readPartition(r *codec.Reader) (p metadata.PartitionID) {
	copy(p.Topic[:], r.Bytes(len(p.Topic)))
	p.Partition = r.Int31()
	return p
}

func readID(r *codec.Reader, prev segment.ID) segment.ID {
	return segment.ID{Kind: segment.Kind(r.Uint8()), Epoch: prev.Epoch + uint64(r.Varint()), Seq: prev.Seq + uint64(r.Varint()), Nonce: r.Uint64()}
}

func readChildRef(r *codec.Reader) Child {
	c := Child{Object: readID(r, segment.ID{}), Position: r.Int63(), Length: r.Int63(), CRC: r.Uint32()}
	c.Start, c.End = readRange(r, 0)
	c.Segments = r.Int31()
	c.SizeBytes = r.Int63()
	c.MaxTimestampMs = r.Varint()
	if r.Err() == nil && (c.Object.Kind != segment.Manifests || c.Length < BlobHeaderBytes || c.Length > MaxBlobBytes) {
		r.Fail(fmt.Errorf("%w: child of %d bytes in an object of kind %d", ErrCorrupt, c.Length, c.Object.Kind))
	}
	return c
}

// readRange reads a start relative to prev, and a count.
func readRange(r *codec.Reader, prev metadata.Offset) (start, end metadata.Offset) {
	gap, count := r.Int63(), r.Int63()
	if gap > math.MaxInt64-int64(prev) || count > math.MaxInt64-int64(prev)-gap {
		r.Fail(fmt.Errorf("%w: %d offsets at %d after %d", ErrCorrupt, count, gap, prev))
		return 0, 0
	}
	start = prev + metadata.Offset(gap)
	return start, start + metadata.Offset(count)
}

func readSegments(r *codec.Reader, from, end metadata.Offset) []Segment {
	n := r.Count(minSegmentBytes)
	if n == 0 {
		return nil
	}
	segments := make([]Segment, 0, n)
	prev := Segment{}
	for range n {
		s := readSegment(r, &prev)
		if r.Err() == nil && (s.Start < from || s.End > end) {
			r.Fail(fmt.Errorf("%w: segment [%d, %d) outside [%d, %d)", ErrCorrupt, s.Start, s.End, from, end))
		}
		if r.Err() != nil {
			return nil
		}
		segments = append(segments, s)
		prev = s
	}
	return segments
}

func readSegment(r *codec.Reader, prev *Segment) Segment {
	flags := r.Uint8()
	s := Segment{Object: readID(r, prev.Object), HasAborted: flags&segmentHasAborted != 0}
	s.Start, s.End = readRange(r, prev.End)
	s.SizeBytes = r.Int63()
	s.MaxTimestampMs = prev.MaxTimestampMs + r.Varint()
	s.SealedMs = prev.SealedMs + r.Varint()
	s.IndexAt, s.IndexBytes, s.IndexCRC = r.Int63(), r.Int63(), r.Uint32()
	kind := s.Object.Kind
	if flags&^segmentFlagsKnown != 0 || !kind.Data() ||
		s.IndexBytes > segment.MaxIndexBytes || s.IndexAt > 1<<62 {
		r.Fail(fmt.Errorf("%w: segment flags %02x, object kind %d, index of %d bytes", ErrCorrupt, flags, kind, s.IndexBytes))
	}
	if flags&segmentHasBlocks != 0 {
		s.Blocks = segment.ReadBlocks(r, s.Start, s.End)
		if r.Err() == nil && (len(s.Blocks) == 0 || s.Blocks[len(s.Blocks)-1].End() > s.IndexAt) {
			r.Fail(fmt.Errorf("%w: blocks exceed their object", ErrCorrupt))
		}
	}
	return s
}

func readEpochs(r *codec.Reader, m *Manifest) {
	n := r.Count(minEpochBytes)
	prev := EpochStart{}
	for i := range n {
		epoch := int64(prev.Epoch) + r.Varint()
		start := readGap(r, prev.Start)
		if epoch < math.MinInt32 || epoch > math.MaxInt32 || i > 0 && epoch <= int64(prev.Epoch) || start > m.End {
			r.Fail(fmt.Errorf("%w: epoch %d at %d after %d at %d", ErrCorrupt, epoch, start, prev.Epoch, prev.Start))
		}
		if r.Err() != nil {
			return
		}
		prev = EpochStart{Epoch: metadata.LeaderEpoch(epoch), Start: start}
		m.Epochs = append(m.Epochs, prev)
	}
}

func readGap(r *codec.Reader, prev metadata.Offset) metadata.Offset {
	gap := r.Int63()
	if gap > math.MaxInt64-int64(prev) {
		r.Fail(fmt.Errorf("%w: %d after %d", ErrCorrupt, gap, prev))
		return 0
	}
	return prev + metadata.Offset(gap)
}
