package tiering

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"unsafe"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/codec"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

const (
	// pieceBytes is the length of a piece of staging memory.
	pieceBytes = 1 << 20
	// pieceAlign is what the addresses of memory for objects are a multiple of: a store on a local disk can write and read it directly.
	pieceAlign = 4096
	// crcStepBytes is how much is copied at a time, so that the checksum finds it in the processor's cache.
	crcStepBytes = 64 << 10
	// combineBytes is the size from which a CRC is computed from those of the parts instead of from the bytes.
	combineBytes = 4 << 10
)

// staging is memory for objects on their way into the store, taken piece by piece and reused.
type staging struct {
	mu   sync.Mutex
	free [][]byte
}

func (s *staging) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return alignedBytes(pieceBytes)
}

// alignedBytes returns n bytes at a multiple of pieceAlign.
func alignedBytes(n int) []byte {
	b := make([]byte, n)
	if uintptr(unsafe.Pointer(&b[0]))&(pieceAlign-1) == 0 {
		return b // as a rule: large allocations begin at pages
	}
	b = make([]byte, n+pieceAlign)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (pieceAlign - 1)
	return b[skip : skip+n : skip+n]
}

func (s *staging) give(pieces [][]byte) {
	s.mu.Lock()
	s.free = append(s.free, pieces...)
	s.mu.Unlock()
}

// shrink frees all but n idle pieces.
func (s *staging) shrink(n int) {
	s.mu.Lock()
	if len(s.free) > n {
		s.free = slices.Clone(s.free[:n])
	}
	s.mu.Unlock()
}

// image is an object in memory, in pieces of pieceBytes that together are the whole object from its header to its footer. Batches
// are copied once out of the WAL, each to its place; from then on nothing is copied on its way to a disk, and a retry reads nothing
// again. It is an objectstore.Body.
type image struct {
	staging *staging
	pieces  [][]byte
	size    int64
	layout  *segment.Layout // once it is finished
}

var (
	_ objectstore.Stretches = (*image)(nil)
	_ objectstore.Summed    = (*image)(nil)
)

// newImage takes memory for n bytes.
func newImage(s *staging, n int64) *image {
	m := &image{staging: s}
	m.grow(n)
	return m
}

func (m *image) grow(size int64) {
	for int64(len(m.pieces))*pieceBytes < size {
		m.pieces = append(m.pieces, m.staging.take())
	}
	m.size = size
}

// release gives the memory back; the image must not be used any more.
func (m *image) release() {
	m.staging.give(m.pieces)
	m.pieces, m.size = nil, 0
}

// Size implements objectstore.Body.
func (m *image) Size() int64 { return m.size }

// CRC32C implements objectstore.Summed: it follows from the batches' own, so that a store also finds what happened to them in memory.
func (m *image) CRC32C() uint32 { return m.layout.CRC32C() }

// Stretch implements objectstore.Stretches.
func (m *image) Stretch(offset int64) []byte {
	piece := m.pieces[offset/pieceBytes]
	return piece[offset%pieceBytes : min(pieceBytes, m.size-(offset-offset%pieceBytes))]
}

// ReadAt implements io.ReaderAt. It may be called concurrently.
func (m *image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read object at %d", off)
	}
	n := 0
	for n < len(p) && off+int64(n) < m.size {
		n += copy(p[n:], m.Stretch(off+int64(n)))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// put copies b to its place at offset.
func (m *image) put(offset int64, b []byte) {
	for len(b) > 0 {
		n := copy(m.Stretch(offset), b)
		b, offset = b[n:], offset+int64(n)
	}
}

// putBatch copies a batch to its place at offset and returns the CRC that its header should have, computed over the copy.
func (m *image) putBatch(offset int64, b []byte) uint32 {
	m.put(offset, b[:batch.CRCFrom])
	b, offset = b[batch.CRCFrom:], offset+batch.CRCFrom
	crc := uint32(0)
	for len(b) > 0 {
		dst := m.Stretch(offset)
		dst = dst[:copy(dst[:min(len(dst), crcStepBytes)], b)]
		crc = codec.UpdateCRC(crc, dst)
		b, offset = b[len(dst):], offset+int64(len(dst))
	}
	return crc
}

// addBatchCRC goes on with the CRC of a block, by a batch whose own CRC has been checked.
func addBatchCRC(block uint32, b []byte, crc uint32) uint32 {
	if len(b) < combineBytes {
		return codec.UpdateCRC(block, b)
	}
	return codec.CombineCRC(codec.UpdateCRC(block, b[:batch.CRCFrom]), crc, int64(len(b)-batch.CRCFrom))
}

// finish puts header, index and footer around the blocks.
func (m *image) finish(l *segment.Layout) {
	m.layout = l
	m.grow(l.SizeBytes())
	m.put(0, l.Head())
	m.put(l.Footer.IndexAt, l.Tail())
}
