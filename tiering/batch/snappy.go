package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
)

// Java clients wrap snappy in the framing of xerial's snappy-java: an 8 byte magic, version and compatible version (int32
// each), then blocks of [length int32 | raw snappy]. Clients in other languages send one raw snappy block. Both are read;
// the framing is written, because every consumer knows it.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const (
	xerialHeaderBytes = 16
	xerialBlockBytes  = 32 << 10
)

var errXerial = errors.New("malformed xerial framing")

func inflateSnappy(section, dst []byte, maxBytes int) ([]byte, error) {
	if !bytes.HasPrefix(section, xerialMagic) {
		return appendSnappyBlock(section, dst, maxBytes)
	}
	if len(section) < xerialHeaderBytes {
		return nil, errXerial
	}
	var err error
	for rest := section[xerialHeaderBytes:]; len(rest) > 0; {
		// Concatenated streams repeat the header, as snappy-java's reader allows.
		if bytes.HasPrefix(rest, xerialMagic) {
			if len(rest) < xerialHeaderBytes {
				return nil, errXerial
			}
			rest = rest[xerialHeaderBytes:]
			continue
		}
		if len(rest) < 4 {
			return nil, errXerial
		}
		n := binary.BigEndian.Uint32(rest)
		if uint64(n) > uint64(len(rest)-4) {
			return nil, errXerial
		}
		if dst, err = appendSnappyBlock(rest[4:4+n], dst, maxBytes); err != nil {
			return nil, err
		}
		rest = rest[4+n:]
	}
	return dst, nil
}

func appendSnappyBlock(block, dst []byte, maxBytes int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	// A block cannot expand more than 64 bytes per 3 bytes of input: do not allocate on the declared length's word.
	if n > 24*len(block)+64 {
		return nil, errors.New("declared length cannot be reached")
	}
	if n > maxBytes-len(dst) {
		return nil, fmt.Errorf("%w: over %d bytes", ErrInflated, maxBytes)
	}
	if cap(dst)-len(dst) < n {
		grown := make([]byte, len(dst), max(len(dst)+n, min(2*cap(dst), maxBytes)))
		copy(grown, dst)
		dst = grown
	}
	out, err := s2.Decode(dst[len(dst):len(dst)+n], block)
	if err != nil {
		return nil, err
	}
	return dst[:len(dst)+len(out)], nil
}

func deflateXerial(section, dst []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = binary.BigEndian.AppendUint32(dst, 1)
	dst = binary.BigEndian.AppendUint32(dst, 1)
	for len(section) > 0 {
		block := section[:min(len(section), xerialBlockBytes)]
		section = section[len(block):]
		at := len(dst)
		dst = append(dst, make([]byte, 4+s2.MaxEncodedLen(len(block)))...)
		enc := s2.EncodeSnappy(dst[at+4:], block)
		binary.BigEndian.PutUint32(dst[at:], uint32(len(enc)))
		dst = dst[:at+4+len(enc)]
	}
	return dst
}
