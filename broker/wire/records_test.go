package wire

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
)

// newBatch makes a record batch header with a right checksum and n bytes of records; their content does not matter here.
func newBatch(r *rand.Rand, n int) []byte {
	b := make([]byte, batchHeaderBytes+n, batchHeaderBytes+n+8)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:i+8], r.Uint64())
	}
	binary.BigEndian.PutUint64(b, 0)
	binary.BigEndian.PutUint32(b[batchLengthAt:], uint32(len(b)-batchLengthOverhead))
	b[batchMagicAt] = 2
	binary.BigEndian.PutUint32(b[batchCRCAt:], crc32.Checksum(b[batchChecksummedAt:], castagnoli))
	return b
}
