// Package record is the envelope of the group states that are stored under one key each in the metadata store, and the fields of
// which their bodies are made. What a body means, its kind says. The package is PURE.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
)

// Kind says what a body describes. Numbers are never used again.
type Kind byte

// The kinds that there are.
const (
	Classic  Kind = 1
	Consumer Kind = 2
)

// ErrUnknown is wrapped by errors about a record of a later program: its version, kind or codec is not known here. Such a record is
// whole and must not be overwritten.
var ErrUnknown = errors.New("written by a later program")

const (
	magic = "TMGS"
	// Version is the version of the envelope that Seal writes.
	Version = 1

	codecNone = 0
	codecS2   = 1

	headerBytes = len(magic) + 3 + 4
	// compressAbove is where compression begins to pay: subscriptions and assignments repeat the same topic names.
	compressAbove = 2 << 10
	// MaxBodyBytes bounds what Open allocates for a compressed body.
	MaxBodyBytes = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seal returns the stored form of a body, which it may keep. See FORMAT.md.
func Seal(kind Kind, body []byte) []byte {
	if len(body) > compressAbove {
		if packed := s2.EncodeBetter(nil, body); len(packed) < len(body) {
			return seal(kind, codecS2, packed)
		}
	}
	return seal(kind, codecNone, body)
}

func seal(kind Kind, codec byte, body []byte) []byte {
	b := make([]byte, 0, headerBytes+len(body))
	b = append(b, magic...)
	b = append(b, Version, byte(kind), codec)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, body))
	return append(b, body...)
}

// KindOf reads the kind of a stored state: ErrUnknown is wrapped if only a later program can read the rest; other errors say that b is
// damaged. The body is checked by Open.
func KindOf(b []byte) (Kind, error) {
	if len(b) < headerBytes || string(b[:len(magic)]) != magic {
		return 0, errors.New("no magic")
	}
	version, kind, codec := b[4], Kind(b[5]), b[6]
	body := b[headerBytes:]
	want, got := binary.LittleEndian.Uint32(b[7:]), crc32.Update(crc32.Checksum(b[:7], castagnoli), castagnoli, body)
	switch {
	case version != Version: // what its checksum covers is not known either
		return kind, fmt.Errorf("version %d, this program knows %d: %w", version, Version, ErrUnknown)
	case want != got:
		return 0, fmt.Errorf("checksum %08x, want %08x", got, want)
	case kind != Classic && kind != Consumer:
		return kind, fmt.Errorf("kind %d: %w", kind, ErrUnknown)
	case codec != codecNone && codec != codecS2:
		return kind, fmt.Errorf("codec %d: %w", codec, ErrUnknown)
	}
	return kind, nil
}

// Open returns the body of a stored state of a kind. It aliases b unless it was compressed. Nothing is allocated beyond MaxBodyBytes.
func Open(kind Kind, b []byte) ([]byte, error) {
	switch got, err := KindOf(b); {
	case err != nil:
		return nil, err
	case got != kind:
		return nil, fmt.Errorf("kind %d, want %d", got, kind)
	}
	body := b[headerBytes:]
	if b[6] == codecNone {
		return body, nil
	}
	n, err := s2.DecodedLen(body)
	if err != nil {
		return nil, fmt.Errorf("compressed length: %w", err)
	}
	if n > MaxBodyBytes {
		return nil, fmt.Errorf("%d bytes when decompressed, at most %d are allowed", n, MaxBodyBytes)
	}
	if body, err = s2.Decode(nil, body); err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return body, nil
}

// Writer reads who wrote a state of a known kind: every body begins with the incarnation and the sequence of its write.
func Writer(b []byte) (incarnation int64, sequence uint64, err error) {
	kind, err := KindOf(b)
	if err != nil {
		return 0, 0, err
	}
	body, err := Open(kind, b)
	if err != nil {
		return 0, 0, err
	}
	r := Reader{B: body}
	incarnation, sequence = r.Varint(), r.Uvarint()
	return incarnation, sequence, r.Err
}
