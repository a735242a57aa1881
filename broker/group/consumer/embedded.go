package consumer

import (
	"encoding/binary"
	"errors"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// subscription is what a consumer of the classic protocol sends as its metadata (ConsumerProtocolSubscription).
type subscription struct {
	version int16
	topics  []string
	owned   map[string][]int32 // from v1
	rackID  *string            // from v3
}

var errEmbedded = errors.New("the embedded consumer protocol is malformed")

// wireReader takes big-endian fields off b until one is bad.
type wireReader struct {
	b   []byte
	bad bool
}

func (r *wireReader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *wireReader) int16() int16 {
	if v := r.take(2); v != nil {
		return int16(binary.BigEndian.Uint16(v))
	}
	return 0
}

func (r *wireReader) int32() int32 {
	if v := r.take(4); v != nil {
		return int32(binary.BigEndian.Uint32(v))
	}
	return 0
}

// count reads the length of an array whose elements take at least so many bytes.
func (r *wireReader) count(leastBytes int) int {
	n := int(r.int32())
	if n < 0 || n > len(r.b)/leastBytes {
		r.b, r.bad = nil, true
		return 0
	}
	return n
}

func (r *wireReader) str() string { return string(r.take(int(r.int16()))) }

// skipBytes passes over nullable bytes.
func (r *wireReader) skipBytes() {
	if n := int(r.int32()); n != -1 {
		r.take(n)
	}
}

func (r *wireReader) topicPartitions() map[string][]int32 {
	n := r.count(6)
	out := make(map[string][]int32, n)
	for range n {
		name := r.str()
		partitions := make([]int32, 0, 8)
		for range r.count(4) {
			partitions = append(partitions, r.int32())
		}
		out[name] = partitions
	}
	return out
}

func parseSubscription(b []byte) (subscription, error) {
	r := wireReader{b: b}
	s := subscription{version: r.int16()}
	for range r.count(2) {
		s.topics = append(s.topics, r.str())
	}
	r.skipBytes()
	if s.version >= 1 {
		s.owned = r.topicPartitions()
	}
	if s.version >= 2 {
		r.int32() // generation
	}
	if s.version >= 3 {
		if n := int(r.int16()); n >= 0 {
			rack := string(r.take(n))
			s.rackID = &rack
		}
	}
	if r.bad || s.version < 0 {
		return subscription{}, errEmbedded
	}
	return s, nil
}

// parseAssignment reads a ConsumerProtocolAssignment; none at all assigns nothing.
func parseAssignment(b []byte) (map[string][]int32, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := wireReader{b: b}
	version := r.int16()
	a := r.topicPartitions()
	r.skipBytes()
	if r.bad || version < 0 {
		return nil, errEmbedded
	}
	return a, nil
}

// encodeAssignment writes a ConsumerProtocolAssignment in the version of the member's subscription. Topics that are gone are left out.
func encodeAssignment(m *member, topics Topics) []byte {
	version := int16(0)
	if m.classic != nil && len(m.classic.protocols) > 0 {
		if s, err := parseSubscription(m.classic.protocols[0].Metadata); err == nil {
			version = s.version
		}
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(version))
	b = append(b, 0, 0, 0, 0) // the number of topics, below
	n := uint32(0)
	assigned := m.assigned.assignment()
	for _, id := range sortedTopics(assigned) {
		name, ok := topics.Name(id)
		if !ok {
			continue
		}
		n++
		b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
		b = append(b, name...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(assigned[id])))
		for _, p := range assigned[id] {
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		}
	}
	binary.BigEndian.PutUint32(b[2:], n)
	return binary.BigEndian.AppendUint32(b, 0xffffffff) // no user data
}

// byID turns names of topics into ids; topics that are not there are left out.
func byID(of map[string][]int32, topics Topics) Assignment {
	a := make(Assignment, len(of))
	for name, partitions := range of {
		if topic, ok := topics.Topic(name); ok && len(partitions) > 0 {
			a[topic.ID] = ascending(partitions)
		}
	}
	return a
}

func ownedOf(a Assignment, epoch int32) owned {
	o := owned{}
	for topic, partitions := range a {
		for _, p := range partitions {
			o.add(topic, p, epoch)
		}
	}
	return o
}

// chosen is the member's subscription for a protocol, else for its first.
func chosen(m *classic.SnapshotMember, protocol string) []byte {
	for _, p := range m.Protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	if len(m.Protocols) > 0 {
		return m.Protocols[0].Metadata
	}
	return nil
}
