package acceptance

import (
	"bytes"
	"io"
	"unsafe"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// block is what memory and ranges are aligned to where stores on local disks bypass the page cache.
const block = 4096

// aligned returns n bytes at an address that is a multiple of block.
func aligned(n int) []byte {
	b := make([]byte, n+block)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (block - 1)
	return b[skip : skip+n : skip+n]
}

// alignedRanges reads into memory, from offsets and of lengths that a store may treat in a way of their own.
func (s *suite) alignedRanges() {
	data := pattern(11, 6*mib+777)
	s.mustPut("a/object", data)
	for _, test := range []struct {
		offset int64
		length int
		shift  int // of the memory
	}{
		{0, mib, 0}, {block, mib, 0}, {0, 6 * mib, 0}, {0, 7 * mib, 0}, {5 * mib, 2 * mib, 0}, {6 * mib, mib, 0}, {6*mib + block, mib, 0}, {1 << 40, mib, 0},
		{block, mib, 1}, {block + 1, mib, 0}, {block, mib + 1, 0}, {mib, 64 << 10, 0}, {4*mib - block, 2*mib + 2*block, 0},
	} {
		p := aligned(test.length + block)[test.shift : test.shift+test.length]
		want := data[min(test.offset, int64(len(data))):min(test.offset+int64(test.length), int64(len(data)))]
		n, err := s.store.GetRange(s.ctx, "a/object", p, test.offset)
		wantErr := error(nil)
		if len(want) < test.length {
			wantErr = io.EOF
		}
		if err != wantErr || !bytes.Equal(p[:n], want) { //nolint:errorlint // the contract says: itself
			s.Errorf("GetRange(%d bytes at %d, memory at +%d) = %d, %v; want %d, %v, or wrong bytes", test.length, test.offset, test.shift, n, err, len(want), wantErr)
		}
	}
}

// stretchedBody lies in memory in pieces of some length.
type stretchedBody struct {
	*bytes.Reader
	data  []byte
	piece int
}

func (b stretchedBody) Stretch(offset int64) []byte {
	return b.data[offset:min((int(offset)/b.piece+1)*b.piece, len(b.data))]
}

// putStretches puts bodies whose memory a store may take as it is.
func (s *suite) putStretches() {
	for i, piece := range []int{mib, 3 * mib, block, 1000, mib + 1} {
		for _, size := range []int{2 * mib, 2*mib + 5, 4 * mib} {
			for _, shift := range []int{0, 16} {
				memory := aligned(size + block)[shift : shift+size]
				copy(memory, pattern(uint64(i), size))
				body := stretchedBody{bytes.NewReader(memory), memory, piece}
				if err := s.store.Put(s.ctx, "p/stretches", body, objectstore.PutOptions{}); err != nil {
					s.Fatalf("Put of %d bytes in pieces of %d: %v", size, piece, err)
				}
				s.wantData("p/stretches", memory)
			}
		}
	}
}
