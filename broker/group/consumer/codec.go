package consumer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/group/record"
)

const (
	// Version is the version of the body that Encode writes.
	Version = 1
	// minMemberBytes is the least that a member takes.
	minMemberBytes = 16
	// minTopicBytes is the least that a topic's partitions take.
	minTopicBytes = 17
)

// Encode returns the stored form of a snapshot. See FORMAT.md.
func Encode(s *Snapshot) []byte { return record.Seal(record.Consumer, appendBody(nil, s)) }

func appendBody(b []byte, s *Snapshot) []byte {
	b = binary.AppendVarint(b, s.Incarnation)
	b = binary.AppendUvarint(b, s.Sequence)
	b = binary.AppendUvarint(b, Version)
	b = binary.AppendVarint(b, int64(s.Epoch))
	b = binary.AppendVarint(b, int64(s.AssignmentEpoch))
	b = binary.AppendUvarint(b, uint64(len(s.Topics)))
	for _, name := range slices.Sorted(maps.Keys(s.Topics)) {
		topic := s.Topics[name]
		b = record.AppendBytes(b, name)
		b = append(b, topic.ID[:]...)
		b = binary.AppendVarint(b, int64(topic.Partitions))
	}
	b = binary.AppendUvarint(b, uint64(len(s.Members)))
	for i := range s.Members {
		b = appendMember(b, &s.Members[i])
	}
	return b
}

func appendMember(b []byte, m *SnapshotMember) []byte {
	b = record.AppendBytes(b, m.MemberID)
	b = record.AppendNullable(b, m.InstanceID)
	b = record.AppendNullable(b, m.RackID)
	b = record.AppendBytes(b, m.ClientID)
	b = record.AppendBytes(b, m.ClientHost)
	b = binary.AppendVarint(b, int64(m.RebalanceTimeoutMillis))
	b = binary.AppendUvarint(b, uint64(len(m.Names)))
	for _, name := range m.Names {
		b = record.AppendBytes(b, name)
	}
	b = record.AppendBytes(b, m.Regex)
	b = record.AppendBytes(b, m.Assignor)
	b = append(b, byte(m.State))
	b = binary.AppendVarint(b, int64(m.Epoch))
	b = binary.AppendVarint(b, int64(m.PreviousEpoch))
	b = appendTarget(b, m.Target)
	b = appendOwned(b, m.Assigned)
	b = appendOwned(b, m.Revoking)
	if m.Classic == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	b = binary.AppendVarint(b, int64(m.Classic.SessionTimeoutMillis))
	b = binary.AppendUvarint(b, uint64(len(m.Classic.Protocols)))
	for _, p := range m.Classic.Protocols {
		b = record.AppendBytes(b, p.Name)
		b = record.AppendBytes(b, p.Metadata)
	}
	return b
}

func sortedTopics[V any](of map[TopicID]V) []TopicID {
	return slices.SortedFunc(maps.Keys(of), func(a, b TopicID) int { return bytes.Compare(a[:], b[:]) })
}

func appendTarget(b []byte, a Assignment) []byte {
	b = binary.AppendUvarint(b, uint64(len(a)))
	for _, topic := range sortedTopics(a) {
		b = append(b, topic[:]...)
		b = appendPartitions(b, a[topic])
	}
	return b
}

// appendPartitions stores ascending numbers by their distances.
func appendPartitions(b []byte, partitions []int32) []byte {
	b = binary.AppendUvarint(b, uint64(len(partitions)))
	last := int32(0)
	for _, p := range partitions {
		b = binary.AppendVarint(b, int64(p)-int64(last))
		last = p
	}
	return b
}

func appendOwned(b []byte, o owned) []byte {
	b = binary.AppendUvarint(b, uint64(len(o)))
	for _, topic := range sortedTopics(o) {
		b = append(b, topic[:]...)
		partitions := slices.Sorted(maps.Keys(o[topic]))
		b = appendPartitions(b, partitions)
		for _, p := range partitions {
			b = binary.AppendVarint(b, int64(o[topic][p]))
		}
	}
	return b
}

// Decode parses a stored state. Nothing is allocated beyond what b's length, or record.MaxBodyBytes, allows. A body of a later version
// is record.ErrUnknown.
func Decode(b []byte) (Snapshot, error) {
	var s Snapshot
	body, err := record.Open(record.Consumer, b)
	if err != nil {
		return s, fmt.Errorf("consumer group state: %w", err)
	}
	r := reader{record.Reader{B: body}}
	s.Incarnation, s.Sequence = r.Varint(), r.Uvarint()
	if v := r.Uvarint(); r.Err == nil && v != Version {
		return Snapshot{}, fmt.Errorf("consumer group state of version %d: %w", v, record.ErrUnknown)
	}
	s.Epoch, s.AssignmentEpoch = r.Int32(), r.Int32()
	n := r.Count(minTopicBytes + 1)
	if n > 0 {
		s.Topics = make(map[string]Topic, n)
	}
	for range n {
		name := string(r.Bytes())
		s.Topics[name] = Topic{ID: r.topic(), Partitions: r.Int32()}
	}
	n = r.Count(minMemberBytes)
	if n > 0 {
		s.Members = make([]SnapshotMember, 0, n)
	}
	for range n {
		s.Members = append(s.Members, r.member())
	}
	if err := r.End(); err != nil {
		return Snapshot{}, fmt.Errorf("consumer group state: %w", err)
	}
	return s, nil
}

type reader struct{ record.Reader }

func (r *reader) topic() (id TopicID) {
	copy(id[:], r.Take(uint64(len(id))))
	return id
}

func (r *reader) member() SnapshotMember {
	m := SnapshotMember{
		MemberID: string(r.Bytes()), InstanceID: r.Nullable(), RackID: r.Nullable(), ClientID: string(r.Bytes()),
		ClientHost: string(r.Bytes()), RebalanceTimeoutMillis: r.Int32(),
	}
	for range r.Count(1) {
		m.Names = append(m.Names, string(r.Bytes()))
	}
	m.Regex, m.Assignor, m.State = string(r.Bytes()), string(r.Bytes()), MemberState(r.one())
	if r.Err == nil && (m.State < MemberStable || m.State > Unreleased) {
		r.Fail()
	}
	m.Epoch, m.PreviousEpoch = r.Int32(), r.Int32()
	m.Target, m.Assigned, m.Revoking = r.target(), r.owned(), r.owned()
	if r.one() == 0 || r.Err != nil {
		return m
	}
	m.Classic = &SnapshotClassic{SessionTimeoutMillis: r.Int32()}
	for range r.Count(2) {
		m.Classic.Protocols = append(m.Classic.Protocols, classic.Protocol{Name: string(r.Bytes()), Metadata: r.Bytes()})
	}
	if len(m.Classic.Protocols) == 0 {
		r.Fail()
	}
	return m
}

func (r *reader) one() byte {
	if b := r.Take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) target() Assignment {
	n := r.Count(minTopicBytes)
	if n == 0 {
		return nil
	}
	a := make(Assignment, n)
	for range n {
		topic := r.topic()
		a[topic] = r.partitions()
	}
	return a
}

func (r *reader) partitions() []int32 {
	n := r.Count(1)
	if n == 0 {
		return nil
	}
	out := make([]int32, 0, n)
	last := int64(0)
	for range n {
		last += r.Varint()
		if last < 0 || int64(int32(last)) != last || len(out) > 0 && int32(last) <= out[len(out)-1] {
			r.Fail()
			return nil
		}
		out = append(out, int32(last))
	}
	return out
}

func (r *reader) owned() map[TopicID]map[int32]int32 {
	n := r.Count(minTopicBytes)
	if n == 0 {
		return nil
	}
	o := make(owned, n)
	for range n {
		topic := r.topic()
		for _, p := range r.partitions() {
			o.add(topic, p, r.Int32())
		}
	}
	return o
}

// Dump writes a stored state as text, for people.
func Dump(w io.Writer, b []byte) error {
	s, err := Decode(b)
	if err != nil {
		return err
	}
	p := &printer{w: w}
	p.line("consumer group, format version %d, %d bytes", Version, len(b))
	p.line("  written by incarnation %d, sequence %d", s.Incarnation, s.Sequence)
	p.line("  epoch %d, target of epoch %d", s.Epoch, s.AssignmentEpoch)
	for _, name := range slices.Sorted(maps.Keys(s.Topics)) {
		p.line("  topic %q, id %x, %d partitions", name, s.Topics[name].ID, s.Topics[name].Partitions)
	}
	for i := range s.Members {
		m := &s.Members[i]
		kind := "consumer"
		if m.Classic != nil {
			kind = "classic"
		}
		p.line("  member %q (%s protocol), instance %s, rack %s, client %q at %q, state %d, epoch %d, before %d", m.MemberID, kind,
			nullable(m.InstanceID), nullable(m.RackID), m.ClientID, m.ClientHost, m.State, m.Epoch, m.PreviousEpoch)
		p.line("    subscribes to %q and %q, assignor %q, rebalance timeout %d ms", m.Names, m.Regex, m.Assignor, m.RebalanceTimeoutMillis)
		p.line("    target %x", m.Target)
		p.line("    has %x (epochs of assignment)", m.Assigned)
		p.line("    gives up %x", m.Revoking)
		if m.Classic != nil {
			p.line("    session timeout %d ms, protocols %q", m.Classic.SessionTimeoutMillis, m.Classic.Protocols)
		}
	}
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func nullable(v *string) string {
	if v == nil {
		return "none"
	}
	return fmt.Sprintf("%q", *v)
}
