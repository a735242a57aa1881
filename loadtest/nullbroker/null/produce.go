package null

import "encoding/binary"

// Where a record batch says how many records it has.
const (
	batchHeaderBytes = 61
	batchCountAt     = 57
)

// produce walks over a Produce request and writes the answer meanwhile: both have the same order of topics and partitions.
func (c *conn) produce(version int16, correlation uint32) {
	if version < 3 || version > 13 {
		c.err = errProtocol
		return
	}
	flex := version >= 9
	c.skip(max(0, c.length(false, false))) // client id
	if flex {
		c.tags()
	}
	c.skip(max(0, c.length(flex, false))) // transactional id
	acks := c.int16()
	c.int32()                            // timeout
	o := append(c.aside[:0], 0, 0, 0, 0) // aside, because reading more input flushes c.out
	o = be.AppendUint32(o, correlation)
	if flex {
		o = append(o, 0)
	}
	topics := c.length(flex, true)
	o = appendCount(o, flex, max(0, topics))
	for ; topics > 0 && c.err == nil; topics-- {
		o = c.produceTopic(o, version)
	}
	if flex && c.err == nil {
		c.tags()
	}
	o = be.AppendUint32(o, 0) // throttle
	if flex {
		o = append(o, 0)
	}
	be.PutUint32(o, uint32(len(o)-4))
	c.aside = o
	if acks != 0 {
		c.out = append(c.out, o...)
	}
}

func (c *conn) produceTopic(o []byte, version int16) []byte {
	flex := version >= 9
	var t *topic
	if version <= 12 {
		n := c.length(flex, false)
		name := c.span(n)
		if flex {
			o = binary.AppendUvarint(o, uint64(len(name)+1))
		} else {
			o = be.AppendUint16(o, uint16(len(name)))
		}
		o = append(o, name...)
		if t = c.last; t == nil || t.name != string(name) {
			t = c.b.topic(string(name))
		}
	} else {
		id := c.span(16)
		if id == nil {
			return o
		}
		o = append(o, id...)
		if t = c.last; t == nil || t.id != [16]byte(id) {
			t = c.b.topicByID([16]byte(id))
		}
	}
	c.last = t
	n := c.length(flex, true)
	o = appendCount(o, flex, max(0, n))
	for ; n > 0 && c.err == nil; n-- {
		o = c.producePartition(o, version, t)
	}
	if flex {
		c.tags()
		o = append(o, 0)
	}
	return o
}

func (c *conn) producePartition(o []byte, version int16, t *topic) []byte {
	flex := version >= 9
	partition := c.int32()
	size := c.length(flex, true)
	count := int64(0)
	if size >= batchHeaderBytes {
		if h := c.span(batchHeaderBytes); h != nil {
			count = int64(be.Uint32(h[batchCountAt:]))
		}
		size -= batchHeaderBytes
	}
	c.skip(max(0, size))
	if flex {
		c.tags()
	}
	code, base := uint16(0), int64(0)
	if t == nil || partition < 0 || int(partition) >= len(t.next) {
		code, base = 3, -1 // UNKNOWN_TOPIC_OR_PARTITION
	} else {
		base = t.next[partition].Add(count) - count
	}
	o = be.AppendUint32(o, uint32(partition))
	o = be.AppendUint16(o, code)
	o = be.AppendUint64(o, uint64(base))
	o = be.AppendUint64(o, ^uint64(0)) // log append time
	if version >= 5 {
		o = be.AppendUint64(o, 0) // log start
	}
	switch {
	case flex: // no record errors, no message, no tags
		o = append(o, 1, 0, 0)
	case version >= 8:
		o = append(o, 0, 0, 0, 0, 0xff, 0xff)
	}
	return o
}

func appendCount(o []byte, compact bool, n int) []byte {
	if compact {
		return binary.AppendUvarint(o, uint64(n+1))
	}
	return be.AppendUint32(o, uint32(n))
}
