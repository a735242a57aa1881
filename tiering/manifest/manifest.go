// Package manifest is the format of a partition's list of segments in the object store (FORMAT.md). A manifest holds the list,
// the producers' state and the starts of leader epochs as they are at its end; the oldest part of a long list lies in child blobs.
// Blobs stand one after another in objects of kind segment.Manifests, because many partitions are published together; a Ref
// says where one is. PURE.
package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// Bounds.
const (
	// InlineBytes is what the segments of a manifest may take encoded before the oldest spill to a child of ChildBytes.
	InlineBytes = 128 << 10
	ChildBytes  = 96 << 10
	// MaxBlobBytes bounds a whole manifest or child.
	MaxBlobBytes = 64 << 20
	// MaxInlineBlocks is how many blocks a segment may have in the manifest itself; those of others are in the object's index.
	MaxInlineBlocks = 16
)

// ErrCorrupt is wrapped by every error about bytes that are not a well-formed manifest.
var ErrCorrupt = errors.New("corrupt manifest")

// ErrTooLarge says that a manifest is too long to be written.
var ErrTooLarge = errors.New("manifest too large")

// ErrVersion says that a newer program wrote the manifest.
var ErrVersion = errors.New("unsupported manifest version")

// Segment is what one object holds of the partition.
type Segment struct {
	Object         segment.ID
	Start, End     metadata.Offset // half open
	SizeBytes      int64           // of the partition's blocks in the object
	MaxTimestampMs int64           // -1 when no record has one
	SealedMs       int64           // when the object was made; decides retention where there is no timestamp
	IndexAt        int64           // position, length and CRC32C of the object's index
	IndexBytes     int64
	IndexCRC       uint32
	HasAborted     bool            // the object's index has aborted transactions for the partition
	Blocks         []segment.Block // nil: see the object's index
}

// ObjectBytes is the size of the object.
func (s *Segment) ObjectBytes() int64 { return s.IndexAt + s.IndexBytes + segment.FooterBytes }

// Child is a part of the list that has been moved to a blob of its own: at Position in Object, Length bytes.
type Child struct {
	Object         segment.ID
	Position       int64
	Length         int64
	CRC            uint32
	Start, End     metadata.Offset
	Segments       int32
	SizeBytes      int64 // sum over its segments
	MaxTimestampMs int64
}

// EpochStart says at which offset a leader epoch began.
type EpochStart struct {
	Epoch metadata.LeaderEpoch
	Start metadata.Offset
}

// Manifest is a decoded manifest.
type Manifest struct {
	Partition  metadata.PartitionID
	Generation uint64
	CreatedMs  int64
	End        metadata.Offset // one past the last offset that it covers, also when nothing is left of it
	Children   []Child         // older than all Segments
	Segments   []Segment       // in order of offsets
	Epochs     []EpochStart
	Producers  []byte // encoded state at End; nil: none
}

// Start is the first offset that the manifest still lists, or End.
func (m *Manifest) Start() metadata.Offset {
	switch {
	case len(m.Children) > 0:
		return m.Children[0].Start
	case len(m.Segments) > 0:
		return m.Segments[0].Start
	}
	return m.End
}

// SizeBytes is the sum of the segments' sizes.
func (m *Manifest) SizeBytes() int64 {
	var n int64
	for i := range m.Children {
		n += m.Children[i].SizeBytes
	}
	for i := range m.Segments {
		n += m.Segments[i].SizeBytes
	}
	return n
}

// MaxTimestampMs is the largest timestamp of the segments, or -1.
func (m *Manifest) MaxTimestampMs() int64 {
	ts := int64(-1)
	for i := range m.Children {
		ts = max(ts, m.Children[i].MaxTimestampMs)
	}
	for i := range m.Segments {
		ts = max(ts, m.Segments[i].MaxTimestampMs)
	}
	return ts
}

// AppendEpoch notes that batches of the epoch begin at start, and ignores an epoch that is not above the last.
func AppendEpoch(epochs []EpochStart, epoch metadata.LeaderEpoch, start metadata.Offset) []EpochStart {
	if n := len(epochs); n > 0 && epochs[n-1].Epoch >= epoch {
		return epochs
	}
	return append(epochs, EpochStart{Epoch: epoch, Start: start})
}

// TrimEpochs forgets epochs that ended at or below logStart, but always keeps the last.
func TrimEpochs(epochs []EpochStart, logStart metadata.Offset) []EpochStart {
	n := 0
	for n+1 < len(epochs) && epochs[n+1].Start <= logStart {
		n++
	}
	return slices.Clone(epochs[n:])
}

// EpochEnd answers OffsetForLeaderEpoch (KIP-101, KIP-279): the largest epoch that is not above the asked one, and where it ended:
// the start of the next, or end for the last. found is false when all epochs are above.
func EpochEnd(epochs []EpochStart, end metadata.Offset, asked metadata.LeaderEpoch) (epoch metadata.LeaderEpoch, endOffset metadata.Offset, found bool) {
	i, ok := slices.BinarySearchFunc(epochs, asked, func(e EpochStart, asked metadata.LeaderEpoch) int { return int(e.Epoch) - int(asked) })
	if !ok {
		i--
	}
	if i < 0 {
		return 0, 0, false
	}
	if i+1 < len(epochs) {
		return epochs[i].Epoch, epochs[i+1].Start, true
	}
	return epochs[i].Epoch, end, true
}

// Ref says where a blob is: an object, the blob's first byte in it, and its length.
type Ref struct {
	Object   segment.ID
	Position int64
	Length   int64
}

// EncodeRef makes the pointer that stands in etcd.
func EncodeRef(cluster string, r Ref, generation uint64, end metadata.Offset) metadata.ManifestRef {
	return metadata.ManifestRef{Key: r.Object.Key(cluster) + "@" + strconv.FormatInt(r.Position, 10), Generation: generation, End: end, SizeBytes: r.Length}
}

// DecodeRef is the inverse of EncodeRef. ref must not be empty.
func DecodeRef(cluster string, ref metadata.ManifestRef) (Ref, error) {
	key, at, ok := strings.Cut(ref.Key, "@")
	id, err := segment.ParseKey(cluster, key)
	if err != nil {
		return Ref{}, fmt.Errorf("manifest pointer: %w", err)
	}
	position, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || position < 0 || id.Kind != segment.Manifests || ref.SizeBytes < BlobHeaderBytes || ref.SizeBytes > MaxBlobBytes {
		return Ref{}, fmt.Errorf("%w: manifest pointer %q, %d bytes", ErrCorrupt, ref.Key, ref.SizeBytes)
	}
	return Ref{Object: id, Position: position, Length: ref.SizeBytes}, nil
}
