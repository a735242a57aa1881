package classic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/s2"
)

const (
	magic = "TMGS"
	// Version is the version of the format that Encode writes.
	Version = 1
	// kindClassic tells the state of a classic group from those that other coordinators will store under the same key.
	kindClassic = 1

	codecNone = 0
	codecS2   = 1

	headerBytes = len(magic) + 3 + 4
	// compressAbove is where compression begins to pay: subscriptions and assignments repeat the same topic names.
	compressAbove = 2 << 10
	// MaxDecodedBytes bounds what Decode allocates for a compressed state.
	MaxDecodedBytes = 64 << 20
	// minMemberBytes is the least that a member takes: one byte per field.
	minMemberBytes = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the stored form of a snapshot. See FORMAT.md.
func Encode(s *Snapshot) []byte {
	body := appendBody(nil, s)
	codec := byte(codecNone)
	if len(body) > compressAbove {
		if packed := s2.EncodeBetter(nil, body); len(packed) < len(body) {
			body, codec = packed, codecS2
		}
	}
	b := make([]byte, 0, headerBytes+len(body))
	b = append(b, magic...)
	b = append(b, Version, kindClassic, codec)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, body))
	return append(b, body...)
}

func appendBody(b []byte, s *Snapshot) []byte {
	b = binary.AppendVarint(b, s.Incarnation)
	b = binary.AppendUvarint(b, s.Sequence)
	b = binary.AppendVarint(b, s.SinceMillis)
	b = binary.AppendVarint(b, int64(s.Generation))
	b = appendBytes(b, s.ProtocolType)
	b = appendBytes(b, s.Protocol)
	b = appendBytes(b, s.Leader)
	b = binary.AppendUvarint(b, uint64(len(s.Members)))
	for i := range s.Members {
		m := &s.Members[i]
		b = appendBytes(b, m.MemberID)
		b = appendNullable(b, m.InstanceID)
		b = appendBytes(b, m.ClientID)
		b = appendBytes(b, m.ClientHost)
		b = binary.AppendVarint(b, int64(m.RebalanceTimeoutMillis))
		b = binary.AppendVarint(b, int64(m.SessionTimeoutMillis))
		b = binary.AppendUvarint(b, uint64(len(m.Protocols)))
		for _, p := range m.Protocols {
			b = appendBytes(b, p.Name)
			b = appendBytes(b, p.Metadata)
		}
		b = appendBytes(b, m.Assignment)
	}
	return b
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// appendNullable stores length + 1, so that 0 is null.
func appendNullable(b []byte, v *string) []byte {
	if v == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(*v))+1), *v...)
}

// Decode parses a stored state. The snapshot's slices alias b unless the state is compressed; b must not change afterwards.
// Nothing is allocated beyond what b's length, or MaxDecodedBytes, allows.
func Decode(b []byte) (Snapshot, error) {
	var s Snapshot
	body, err := unwrap(b)
	if err != nil {
		return s, fmt.Errorf("group state: %w", err)
	}
	r := reader{b: body}
	s.Incarnation = r.varint()
	s.Sequence = r.uvarint()
	s.SinceMillis = r.varint()
	s.Generation = r.int32()
	s.ProtocolType = string(r.bytes())
	s.Protocol = string(r.bytes())
	s.Leader = string(r.bytes())
	n := r.count(minMemberBytes)
	if n > 0 {
		s.Members = make([]SnapshotMember, 0, n)
	}
	for range n {
		s.Members = append(s.Members, r.member())
	}
	switch {
	case r.err != nil:
		return Snapshot{}, fmt.Errorf("group state: %w", r.err)
	case len(r.b) != 0:
		return Snapshot{}, fmt.Errorf("group state: %d bytes after the end", len(r.b))
	}
	return s, nil
}

func unwrap(b []byte) ([]byte, error) {
	if len(b) < headerBytes || string(b[:len(magic)]) != magic {
		return nil, errors.New("no magic")
	}
	version, kind, codec := b[4], b[5], b[6]
	if version != Version {
		return nil, fmt.Errorf("version %d, this program knows %d", version, Version)
	}
	if kind != kindClassic {
		return nil, fmt.Errorf("kind %d is not a classic group", kind)
	}
	body := b[headerBytes:]
	if want, got := binary.LittleEndian.Uint32(b[7:]), crc32.Update(crc32.Checksum(b[:7], castagnoli), castagnoli, body); want != got {
		return nil, fmt.Errorf("checksum %08x, want %08x", got, want)
	}
	switch codec {
	case codecNone:
		return body, nil
	case codecS2:
		n, err := s2.DecodedLen(body)
		if err != nil {
			return nil, fmt.Errorf("compressed length: %w", err)
		}
		if n > MaxDecodedBytes {
			return nil, fmt.Errorf("%d bytes when decompressed, at most %d are allowed", n, MaxDecodedBytes)
		}
		body, err := s2.Decode(nil, body)
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		return body, nil
	}
	return nil, fmt.Errorf("codec %d is unknown", codec)
}

// reader takes fields off b until one is bad; then all further fields are zero.
type reader struct {
	b   []byte
	err error
}

var errTruncated = errors.New("truncated or malformed")

func (r *reader) fail() { r.b, r.err = nil, errTruncated }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int32() int32 {
	v := r.varint()
	if int64(int32(v)) != v {
		r.fail()
		return 0
	}
	return int32(v)
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte { return r.take(r.uvarint()) }

// count reads a number of elements that take at least so many bytes each.
func (r *reader) count(leastBytes int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/leastBytes) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) nullable() *string {
	n := r.uvarint()
	if n == 0 {
		return nil
	}
	v := string(r.take(n - 1))
	return &v
}

func (r *reader) member() SnapshotMember {
	m := SnapshotMember{
		MemberID: string(r.bytes()), InstanceID: r.nullable(), ClientID: string(r.bytes()), ClientHost: string(r.bytes()),
		RebalanceTimeoutMillis: r.int32(), SessionTimeoutMillis: r.int32(),
	}
	n := r.count(2)
	if n > 0 {
		m.Protocols = make([]Protocol, 0, n)
	}
	for range n {
		m.Protocols = append(m.Protocols, Protocol{Name: string(r.bytes()), Metadata: r.bytes()})
	}
	m.Assignment = r.bytes()
	return m
}

// Dump writes a stored state as text, for people.
func Dump(w io.Writer, b []byte) error {
	s, err := Decode(b)
	if err != nil {
		return err
	}
	state := Empty
	if len(s.Members) > 0 {
		state = Stable
	}
	_, err = fmt.Fprintf(w, "classic group, format version %d, %d bytes\n  written by incarnation %d, sequence %d\n"+
		"  state %s since %d ms, generation %d, protocol type %q, protocol %q, leader %q\n",
		b[4], len(b), s.Incarnation, s.Sequence, state, s.SinceMillis, s.Generation, s.ProtocolType, s.Protocol, s.Leader)
	if err != nil {
		return err
	}
	for i := range s.Members {
		m := &s.Members[i]
		instance := "none"
		if m.InstanceID != nil {
			instance = fmt.Sprintf("%q", *m.InstanceID)
		}
		if _, err := fmt.Fprintf(w, "  member %q, instance %s, client %q at %q, rebalance timeout %d ms, session timeout %d ms, assignment %x\n",
			m.MemberID, instance, m.ClientID, m.ClientHost, m.RebalanceTimeoutMillis, m.SessionTimeoutMillis, m.Assignment); err != nil {
			return err
		}
		for _, p := range m.Protocols {
			if _, err := fmt.Fprintf(w, "    protocol %q: %x\n", p.Name, p.Metadata); err != nil {
				return err
			}
		}
	}
	return nil
}
