package classic

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/tidemarkmq/tidemark/broker/group/record"
)

// minMemberBytes is the least that a member takes: one byte per field.
const minMemberBytes = 8

// Encode returns the stored form of a snapshot. See FORMAT.md.
func Encode(s *Snapshot) []byte { return record.Seal(record.Classic, appendBody(nil, s)) }

func appendBody(b []byte, s *Snapshot) []byte {
	b = binary.AppendVarint(b, s.Incarnation)
	b = binary.AppendUvarint(b, s.Sequence)
	b = binary.AppendVarint(b, s.SinceMillis)
	b = binary.AppendVarint(b, int64(s.Generation))
	b = record.AppendBytes(b, s.ProtocolType)
	b = record.AppendBytes(b, s.Protocol)
	b = record.AppendBytes(b, s.Leader)
	b = binary.AppendUvarint(b, uint64(len(s.Members)))
	for i := range s.Members {
		m := &s.Members[i]
		b = record.AppendBytes(b, m.MemberID)
		b = record.AppendNullable(b, m.InstanceID)
		b = record.AppendBytes(b, m.ClientID)
		b = record.AppendBytes(b, m.ClientHost)
		b = binary.AppendVarint(b, int64(m.RebalanceTimeoutMillis))
		b = binary.AppendVarint(b, int64(m.SessionTimeoutMillis))
		b = binary.AppendUvarint(b, uint64(len(m.Protocols)))
		for _, p := range m.Protocols {
			b = record.AppendBytes(b, p.Name)
			b = record.AppendBytes(b, p.Metadata)
		}
		b = record.AppendBytes(b, m.Assignment)
	}
	return b
}

// Decode parses a stored state. The snapshot's slices alias b unless the state is compressed; b must not change afterwards.
// Nothing is allocated beyond what b's length, or record.MaxBodyBytes, allows.
func Decode(b []byte) (Snapshot, error) {
	var s Snapshot
	body, err := record.Open(record.Classic, b)
	if err != nil {
		return s, fmt.Errorf("group state: %w", err)
	}
	r := record.Reader{B: body}
	s.Incarnation = r.Varint()
	s.Sequence = r.Uvarint()
	s.SinceMillis = r.Varint()
	s.Generation = r.Int32()
	s.ProtocolType = string(r.Bytes())
	s.Protocol = string(r.Bytes())
	s.Leader = string(r.Bytes())
	n := r.Count(minMemberBytes)
	if n > 0 {
		s.Members = make([]SnapshotMember, 0, n)
	}
	for range n {
		s.Members = append(s.Members, readMember(&r))
	}
	if err := r.End(); err != nil {
		return Snapshot{}, fmt.Errorf("group state: %w", err)
	}
	return s, nil
}

func readMember(r *record.Reader) SnapshotMember {
	m := SnapshotMember{
		MemberID: string(r.Bytes()), InstanceID: r.Nullable(), ClientID: string(r.Bytes()), ClientHost: string(r.Bytes()),
		RebalanceTimeoutMillis: r.Int32(), SessionTimeoutMillis: r.Int32(),
	}
	n := r.Count(2)
	if n > 0 {
		m.Protocols = make([]Protocol, 0, n)
	}
	for range n {
		m.Protocols = append(m.Protocols, Protocol{Name: string(r.Bytes()), Metadata: r.Bytes()})
	}
	m.Assignment = r.Bytes()
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
