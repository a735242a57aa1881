// Package codec reads and writes the integers and byte strings of the tiering formats. A Reader never trusts what it reads:
// every length is compared with the bytes at hand before anything is allocated. PURE.
package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// ErrTruncated is wrapped by errors about bytes that end too early or lengths that exceed them.
var ErrTruncated = errors.New("truncated")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC is the CRC32C of b.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// UpdateCRC adds b to a running CRC32C.
func UpdateCRC(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// Reader decodes from a byte slice. The first failure sticks: later reads return zero values and Err returns the failure.
// Slices that it returns alias the input.
type Reader struct {
	buf []byte
	at  int
	err error
}

// NewReader reads from b, which must not change while slices of it are in use.
func NewReader(b []byte) *Reader { return &Reader{buf: b} }

// Err is the first failure, or nil.
func (r *Reader) Err() error { return r.err }

// Len is the number of unread bytes.
func (r *Reader) Len() int { return len(r.buf) - r.at }

// Fail makes err the reader's failure, unless it has one.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.at = len(r.buf)
}

// Uvarint reads an unsigned varint.
func (r *Reader) Uvarint() uint64 {
	if r.at < len(r.buf) && r.buf[r.at] < 0x80 {
		r.at++
		return uint64(r.buf[r.at-1])
	}
	v, n := binary.Uvarint(r.buf[r.at:])
	if n <= 0 {
		r.Fail(fmt.Errorf("varint: %w", ErrTruncated))
		return 0
	}
	r.at += n
	return v
}

// Varint reads a zigzag varint.
func (r *Reader) Varint() int64 {
	u := r.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// Int63 reads an unsigned varint that must fit a non-negative int64.
func (r *Reader) Int63() int64 {
	u := r.Uvarint()
	if u > math.MaxInt64 {
		r.Fail(fmt.Errorf("varint %d exceeds 63 bits", u))
		return 0
	}
	return int64(u)
}

// Int31 reads an unsigned varint that must fit a non-negative int32.
func (r *Reader) Int31() int32 {
	u := r.Uvarint()
	if u > math.MaxInt32 {
		r.Fail(fmt.Errorf("varint %d exceeds 31 bits", u))
		return 0
	}
	return int32(u)
}

// Uint8 reads one byte.
func (r *Reader) Uint8() uint8 {
	b := r.Bytes(1)
	if b == nil {
		return 0
	}
	return b[0]
}

// Uint32 reads four bytes, little endian.
func (r *Reader) Uint32() uint32 {
	b := r.Bytes(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// Uint64 reads eight bytes, little endian.
func (r *Reader) Uint64() uint64 {
	b := r.Bytes(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// Bytes returns the next n bytes, or nil after a failure.
func (r *Reader) Bytes(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > r.Len() {
		r.Fail(fmt.Errorf("%d bytes wanted, %d at hand: %w", n, r.Len(), ErrTruncated))
		return nil
	}
	r.at += n
	return r.buf[r.at-n : r.at : r.at]
}

// Blob reads a byte string that is preceded by its length as a varint; nil when it is empty.
func (r *Reader) Blob() []byte {
	n := r.Uvarint()
	if n == 0 {
		return nil
	}
	if n > uint64(r.Len()) {
		r.Fail(fmt.Errorf("byte string of %d, %d at hand: %w", n, r.Len(), ErrTruncated))
		return nil
	}
	return r.Bytes(int(n))
}

// Count reads a number of items that take at least minBytes each, so that it cannot exceed what the input can hold.
func (r *Reader) Count(minBytes int) int {
	n := r.Uvarint()
	if n > uint64(r.Len()/minBytes) {
		r.Fail(fmt.Errorf("%d items of at least %d bytes, %d at hand: %w", n, minBytes, r.Len(), ErrTruncated))
		return 0
	}
	return int(n)
}

// AppendVarint appends v in zigzag encoding.
func AppendVarint(dst []byte, v int64) []byte {
	return binary.AppendUvarint(dst, uint64(v)<<1^uint64(v>>63))
}

// AppendBlob appends b preceded by its length.
func AppendBlob(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}
