package classic

import (
	"encoding/binary"
	"hash/crc32"
)

// seal puts a good header before any body.
func seal(body []byte, codec byte) []byte {
	b := append([]byte(magic), Version, kindClassic, codec)
	sum := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, body)
	return append(binary.LittleEndian.AppendUint32(b, sum), body...)
}
