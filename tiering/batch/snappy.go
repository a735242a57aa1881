package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
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

// snappyBlocks reads both forms, a chunk for each block.
type snappyBlocks struct {
	rest          []byte
	xerial        bool
	maxBlockBytes int
	block         []byte // kept
}

func (s *snappyBlocks) open(section []byte) error {
	s.rest, s.xerial = section, bytes.HasPrefix(section, xerialMagic)
	if s.xerial {
		return s.header()
	}
	return nil
}

// header skips the framing's header, which is repeated where streams were concatenated.
func (s *snappyBlocks) header() error {
	if len(s.rest) < xerialHeaderBytes {
		return errXerial
	}
	s.rest = s.rest[xerialHeaderBytes:]
	return nil
}

// next implements chunks.
func (s *snappyBlocks) next() ([]byte, error) {
	for len(s.rest) > 0 {
		block := s.rest
		if !s.xerial {
			s.rest = nil
		} else {
			if bytes.HasPrefix(block, xerialMagic) {
				if err := s.header(); err != nil {
					return nil, err
				}
				continue
			}
			if len(block) < 4 {
				return nil, errXerial
			}
			n := binary.BigEndian.Uint32(block)
			if uint64(n) > uint64(len(block)-4) {
				return nil, errXerial
			}
			s.rest, block = block[4+n:], block[4:4+n]
		}
		out, err := s.decode(block)
		if err != nil || len(out) > 0 {
			return out, err
		}
	}
	return nil, io.EOF
}

func (s *snappyBlocks) decode(block []byte) ([]byte, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	// A block cannot expand more than 64 bytes per 3 bytes of input: do not allocate on the declared length's word.
	if n > 24*len(block)+64 {
		return nil, errors.New("declared length cannot be reached")
	}
	if n > s.maxBlockBytes {
		return nil, ErrMemory
	}
	if cap(s.block) < n {
		s.block = make([]byte, max(n, 2*xerialBlockBytes))
	}
	// s2.Decode would take S2's extension of the format too, which is known to no reader of snappy, and is not faster.
	return snappy.DecodeStrict(s.block[:n], block)
}

func (s *snappyBlocks) release() { s.rest = nil }

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
