package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pierrec/lz4/v4"
)

// The LZ4 frame format 1.6, as far as Kafka's clients read it: one frame of independent blocks, without dictionary. Bits of
// the flag byte:
const (
	lz4Magic           = 0x184D2204
	lz4ReservedBits    = 0x03 // one is the dictionary's
	lz4ContentSum      = 0x04
	lz4ContentSize     = 0x08
	lz4BlockSum        = 0x10
	lz4Independent     = 0x20
	lz4VersionMask     = 0xc0
	lz4Version1        = 0x40
	lz4Uncompressed    = 1 << 31 // in a block's size
	lz4LeastFrameBytes = 7
)

var (
	errLZ4Header = errors.New("malformed frame header")
	errLZ4Cut    = errors.New("cut off")
	errLZ4Sum    = errors.New("wrong checksum")
)

// lz4Frame reads the blocks of a frame. It checks everything that readers do: the Java client refuses blocks that depend on
// each other, liblz4 refuses bytes after the frame and wrong content sizes and checksums.
type lz4Frame struct {
	rest     []byte
	flags    byte
	maxBlock int
	size     uint64 // declared
	seen     uint64
	sum      xxh32
	block    []byte // kept
	ended    bool
}

func (f *lz4Frame) open(section []byte) error {
	if len(section) < lz4LeastFrameBytes || binary.LittleEndian.Uint32(section) != lz4Magic {
		return errLZ4Header
	}
	f.flags = section[4]
	blockCode := section[5] >> 4 & 7
	if f.flags&lz4VersionMask != lz4Version1 || f.flags&lz4ReservedBits != 0 || section[5]&0x8f != 0 || blockCode < 4 {
		return errLZ4Header
	}
	if f.flags&lz4Independent == 0 {
		return errors.New("blocks that depend on each other, which Kafka's clients do not read")
	}
	f.maxBlock = 1 << (2*blockCode + 8)
	end := 6
	f.size = 0
	if f.flags&lz4ContentSize != 0 {
		end += 8
		if len(section) <= end {
			return errLZ4Cut
		}
		f.size = binary.LittleEndian.Uint64(section[6:])
	}
	if byte(xxSum(section[4:end])>>8) != section[end] {
		return fmt.Errorf("frame header: %w", errLZ4Sum)
	}
	f.rest, f.seen, f.ended = section[end+1:], 0, false
	f.sum.reset()
	return nil
}

// next implements chunks: a chunk is a block.
func (f *lz4Frame) next() ([]byte, error) {
	for !f.ended {
		word, ok := f.word()
		if !ok {
			return nil, errLZ4Cut
		}
		size := int(word &^ lz4Uncompressed)
		if size == 0 {
			f.ended = true
			return nil, f.end()
		}
		if size > f.maxBlock || size > len(f.rest) {
			return nil, fmt.Errorf("block of %d bytes: %w", size, errLZ4Cut)
		}
		src := f.rest[:size]
		f.rest = f.rest[size:]
		if f.flags&lz4BlockSum != 0 {
			if sum, ok := f.word(); !ok || sum != xxSum(src) {
				return nil, fmt.Errorf("block: %w", errLZ4Sum)
			}
		}
		out := src
		if word&lz4Uncompressed == 0 {
			if cap(f.block) < f.maxBlock {
				f.block = make([]byte, f.maxBlock)
			}
			n, err := lz4.UncompressBlock(src, f.block[:f.maxBlock])
			if err != nil {
				return nil, err
			}
			out = f.block[:n]
		}
		f.seen += uint64(len(out))
		if f.flags&lz4ContentSum != 0 {
			f.sum.write(out)
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, io.EOF
}

// end checks what follows the last block. It returns io.EOF when all is well.
func (f *lz4Frame) end() error {
	if f.flags&lz4ContentSum != 0 {
		if sum, ok := f.word(); !ok || sum != f.sum.sum() {
			return fmt.Errorf("content: %w", errLZ4Sum)
		}
	}
	if f.flags&lz4ContentSize != 0 && f.seen != f.size {
		return fmt.Errorf("%d bytes where the frame declares %d", f.seen, f.size)
	}
	if len(f.rest) != 0 {
		return fmt.Errorf("%d bytes after the frame", len(f.rest))
	}
	return io.EOF
}

func (f *lz4Frame) word() (uint32, bool) {
	if len(f.rest) < 4 {
		return 0, false
	}
	v := binary.LittleEndian.Uint32(f.rest)
	f.rest = f.rest[4:]
	return v, true
}

func (f *lz4Frame) release() { f.rest = nil }
