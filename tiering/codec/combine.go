package codec

import "hash/crc32"

// matrix is a linear map on CRC registers over GF(2): column n is the image of bit n.
type matrix [32]uint32

func (m *matrix) times(v uint32) uint32 {
	var sum uint32
	for n := 0; v != 0; n, v = n+1, v>>1 {
		sum ^= m[n] & -(v & 1)
	}
	return sum
}

// zeroBytes[k] advances a CRC32C register over 1<<k zero bytes.
var zeroBytes = buildZeroBytes()

func buildZeroBytes() *[40]matrix {
	var ops [40]matrix
	var bit matrix // one zero bit
	bit[0] = crc32.Castagnoli
	for n := 1; n < 32; n++ {
		bit[n] = 1 << (n - 1)
	}
	two := square(&bit)
	four := square(&two)
	ops[0] = square(&four) // eight zero bits
	for k := 1; k < len(ops); k++ {
		ops[k] = square(&ops[k-1])
	}
	return &ops
}

func square(m *matrix) (out matrix) {
	for n := range m {
		out[n] = m.times(m[n])
	}
	return out
}

// CombineCRC returns the CRC32C of A||B from those of A and of B and from the length of B, without looking at the bytes. It lets
// a merge lay out its object before it has read what goes in.
func CombineCRC(crcA, crcB uint32, lengthB int64) uint32 {
	for k := 0; lengthB != 0 && k < len(zeroBytes); k, lengthB = k+1, lengthB>>1 {
		if lengthB&1 != 0 {
			crcA = zeroBytes[k].times(crcA)
		}
	}
	return crcA ^ crcB
}
