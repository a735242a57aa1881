package batch

import (
	"encoding/binary"
	"math/bits"
)

// The primes of xxHash with 32 bits, seed 0, which the LZ4 frame format uses for all of its checksums.
const (
	xxPrime1 uint32 = 2654435761
	xxPrime2 uint32 = 2246822519
	xxPrime3 uint32 = 3266489917
	xxPrime4 uint32 = 668265263
	xxPrime5 uint32 = 374761393
)

const xxStripeBytes = 16

// xxh32 computes an xxHash over pieces. reset makes it ready.
type xxh32 struct {
	lanes [4]uint32
	kept  [xxStripeBytes]byte
	nKept int
	total uint64
}

func (x *xxh32) reset() {
	p1, p2 := xxPrime1, xxPrime2
	*x = xxh32{lanes: [4]uint32{p1 + p2, p2, 0, -p1}}
}

func (x *xxh32) write(b []byte) {
	x.total += uint64(len(b))
	if x.nKept > 0 {
		n := copy(x.kept[x.nKept:], b)
		x.nKept += n
		b = b[n:]
		if x.nKept < xxStripeBytes {
			return
		}
		x.stripes(x.kept[:])
		x.nKept = 0
	}
	whole := len(b) &^ (xxStripeBytes - 1)
	x.stripes(b[:whole])
	x.nKept = copy(x.kept[:], b[whole:])
}

func (x *xxh32) stripes(b []byte) {
	v1, v2, v3, v4 := x.lanes[0], x.lanes[1], x.lanes[2], x.lanes[3]
	for ; len(b) >= xxStripeBytes; b = b[xxStripeBytes:] {
		v1 = xxRound(v1, binary.LittleEndian.Uint32(b))
		v2 = xxRound(v2, binary.LittleEndian.Uint32(b[4:]))
		v3 = xxRound(v3, binary.LittleEndian.Uint32(b[8:]))
		v4 = xxRound(v4, binary.LittleEndian.Uint32(b[12:]))
	}
	x.lanes = [4]uint32{v1, v2, v3, v4}
}

func xxRound(v, word uint32) uint32 { return bits.RotateLeft32(v+word*xxPrime2, 13) * xxPrime1 }

func (x *xxh32) sum() uint32 {
	h := xxPrime5
	if x.total >= xxStripeBytes {
		v := x.lanes
		h = bits.RotateLeft32(v[0], 1) + bits.RotateLeft32(v[1], 7) + bits.RotateLeft32(v[2], 12) + bits.RotateLeft32(v[3], 18)
	}
	h += uint32(x.total)
	b := x.kept[:x.nKept]
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(b)*xxPrime3, 17) * xxPrime4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*xxPrime5, 11) * xxPrime1
	}
	h ^= h >> 15
	h *= xxPrime2
	h ^= h >> 13
	h *= xxPrime3
	return h ^ h>>16
}

// xxSum is the hash of b.
func xxSum(b []byte) uint32 {
	var x xxh32
	x.reset()
	x.write(b)
	return x.sum()
}
