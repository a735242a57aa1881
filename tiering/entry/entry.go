// Package entry is the content of a WAL entry as Tidemark uses it: one record batch of one partition. Package wal itself
// knows entries only as bytes. PURE: no I/O, clock or goroutines.
package entry

import (
	"encoding/binary"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata"
)

// HeaderBytes is the length of the header before the batch.
const HeaderBytes = 32

const (
	version   = 1
	kindBatch = 1
)

// Header says whose batch follows. FORMAT.md has its layout.
type Header struct {
	Partition   metadata.PartitionID
	LeaderEpoch metadata.LeaderEpoch
}

// String is for dumps and logs.
func (h Header) String() string { return fmt.Sprintf("%s epoch %d", h.Partition, h.LeaderEpoch) }

// Put writes h to the first HeaderBytes of dst, which must be that long.
func Put(dst []byte, h Header) {
	_ = dst[HeaderBytes-1]
	dst[0], dst[1], dst[2], dst[3] = version, kindBatch, 0, 0
	binary.LittleEndian.PutUint32(dst[4:], uint32(h.Partition.Partition))
	copy(dst[8:24], h.Partition.Topic[:])
	binary.LittleEndian.PutUint32(dst[24:], uint32(h.LeaderEpoch))
	binary.LittleEndian.PutUint32(dst[28:], 0)
}

// Parse returns the header of an entry and its record batch, which aliases data.
func Parse(data []byte) (Header, []byte, error) {
	if len(data) < HeaderBytes {
		return Header{}, nil, fmt.Errorf("wal entry of %d bytes: shorter than its header", len(data))
	}
	if data[0] != version || data[1] != kindBatch {
		return Header{}, nil, fmt.Errorf("wal entry version %d kind %d: not known", data[0], data[1])
	}
	var h Header
	h.Partition.Partition = int32(binary.LittleEndian.Uint32(data[4:]))
	copy(h.Partition.Topic[:], data[8:24])
	h.LeaderEpoch = metadata.LeaderEpoch(binary.LittleEndian.Uint32(data[24:]))
	return h, data[HeaderBytes:], nil
}
