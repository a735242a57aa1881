package wire

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DecodeFetch decodes the body of a Fetch request of any version from 4 to 18 into req, whose slices and topic names it uses again: a
// consumer asks for nearly the same with every request, so that one which keeps its req costs no allocation. What this broker has no use
// for stays at its default: the tagged fields, which are for followers. Nothing of req refers to body. Check is to be called first; it
// bounds what this may allocate. Errors: ErrMalformed, and then req's content is arbitrary.
func DecodeFetch(req *kmsg.FetchRequest, version int16, body []byte) error {
	topics, forgotten := req.Topics, req.ForgottenTopics
	*req = kmsg.NewFetchRequest()
	req.Version = version
	flexible := version >= 12
	c := cursor{b: body}
	if version <= 14 {
		req.ReplicaID = c.int32()
	}
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = c.int32(), c.int32(), c.int32()
	if s := c.span(1); s != nil {
		req.IsolationLevel = int8(s[0])
	}
	if version >= 7 {
		req.SessionID, req.SessionEpoch = c.int32(), c.int32()
	}
	req.Topics = resize(topics, c.count(flexible))
	for i := range req.Topics {
		t := &req.Topics[i]
		c.topicRef(version, &t.Topic, &t.TopicID)
		t.Partitions = resize(t.Partitions, c.count(flexible))
		for j := range t.Partitions {
			c.fetchPartition(version, &t.Partitions[j])
		}
		c.tagsOf(flexible)
	}
	if version >= 7 {
		req.ForgottenTopics = resize(forgotten, c.count(flexible))
		for i := range req.ForgottenTopics {
			t := &req.ForgottenTopics[i]
			c.topicRef(version, &t.Topic, &t.TopicID)
			t.Partitions = resize(t.Partitions, c.count(flexible))
			for j := range t.Partitions {
				t.Partitions[j] = c.int32()
			}
			c.tagsOf(flexible)
		}
	}
	if version >= 11 {
		if n := c.length(flexible, false); n > 0 {
			req.Rack = string(c.span(n))
		}
	}
	c.tagsOf(flexible)
	return c.err
}

func (c *cursor) fetchPartition(version int16, p *kmsg.FetchRequestTopicPartition) {
	*p = kmsg.NewFetchRequestTopicPartition()
	p.Partition = c.int32()
	if version >= 9 {
		p.CurrentLeaderEpoch = c.int32()
	}
	p.FetchOffset = c.int64()
	if version >= 12 {
		p.LastFetchedEpoch = c.int32()
	}
	if version >= 5 {
		p.LogStartOffset = c.int64()
	}
	p.PartitionMaxBytes = c.int32()
	c.tagsOf(version >= 12)
}

// topicRef reads a topic's name up to v12, and its id from v13 on. A name that stays the same is not allocated anew.
func (c *cursor) topicRef(version int16, name *string, id *[16]byte) {
	if version >= 13 {
		*name = ""
		copy(id[:], c.span(16))
		return
	}
	*id = [16]byte{}
	*name = internString(c.span(max(c.length(version >= 12, false), 0)), *name)
}

// count reads the number of an array's elements, each of which has a byte at least.
func (c *cursor) count(compact bool) int {
	n := max(c.length(compact, true), 0)
	if n > len(c.b) {
		c.fail(errShort)
		return 0
	}
	return n
}

func (c *cursor) int64() int64 {
	if s := c.span(8); s != nil {
		return int64(binary.BigEndian.Uint64(s))
	}
	return 0
}

func (c *cursor) tagsOf(flexible bool) {
	if flexible {
		c.skipTags(uint32(len(c.b)))
	}
}

// resize returns s with n elements, of which those that it has capacity for keep what they hold.
func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	grown := make([]T, n)
	copy(grown, s[:cap(s)])
	return grown
}
