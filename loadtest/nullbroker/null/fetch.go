package null

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// baseOffsetBytes at the front of a batch are not covered by its checksum: each answer has its own in front of the same bytes.
const baseOffsetBytes = 8

// makeBatch builds one batch of as many records as fit into maxBytes, at least one, without its base offset.
func makeBatch(maxBytes, recordBytes int) ([]byte, int64) {
	value := make([]byte, recordBytes)
	for i := range value {
		value[i] = byte(i*7 + i>>8)
	}
	count := max(1, (maxBytes-batchHeaderBytes)/(recordBytes+12))
	var records []byte
	for i := range count {
		r := kmsg.Record{OffsetDelta: int32(i), Value: value}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		records = r.AppendTo(records)
	}
	rb := kmsg.RecordBatch{
		Length: int32(batchHeaderBytes - 12 + len(records)), Magic: 2, LastOffsetDelta: int32(count - 1), FirstTimestamp: 1, MaxTimestamp: 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(count), Records: records,
	}
	b := rb.AppendTo(nil)
	be.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b[baseOffsetBytes:], int64(count)
}

// fetch answers with a batch for every partition that has one, up to the request's limits, in one gathered write.
func (c *conn) fetch(req *kmsg.FetchRequest, correlation uint32) {
	left := int(req.MaxBytes)
	size := len(c.b.batch) + baseOffsetBytes
	var cuts []int // where in the answer's own bytes a batch belongs
	v := req.Version
	flex := v >= 12
	o := append(c.aside[:0], 0, 0, 0, 0)
	o = be.AppendUint32(o, correlation)
	if flex {
		o = append(o, 0)
	}
	o = be.AppendUint32(o, 0) // throttle
	if v >= 7 {
		o = append(o, 0, 0, 0, 0, 0, 0) // no error, no session
	}
	o = appendCount(o, flex, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		switch {
		case v >= 13:
			o = append(o, t.TopicID[:]...)
		case flex:
			o = binary.AppendUvarint(o, uint64(len(t.Topic)+1))
			o = append(o, t.Topic...)
		default:
			o = be.AppendUint16(o, uint16(len(t.Topic)))
			o = append(o, t.Topic...)
		}
		o = appendCount(o, flex, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			n := 0
			if p.FetchOffset >= 0 && p.FetchOffset < c.b.opts.EndOffset && (len(cuts) == 0 || left >= size) {
				n = size
				left -= n
			}
			o = c.fetchPartition(o, v, p, n)
			if n > 0 {
				o = be.AppendUint64(o, uint64(p.FetchOffset-p.FetchOffset%c.b.batchCount))
				cuts = append(cuts, len(o))
			}
			if flex {
				o = append(o, 0)
			}
		}
		if flex {
			o = append(o, 0)
		}
	}
	if flex {
		o = append(o, 0)
	}
	be.PutUint32(o, uint32(len(o)-4+len(cuts)*len(c.b.batch)))
	c.aside = o
	if len(cuts) == 0 && req.MinBytes > 0 { // at the end: a long poll that never gets anything
		time.Sleep(time.Duration(min(max(0, req.MaxWaitMillis), 1000)) * time.Millisecond)
	}
	c.writeFetch(o, cuts)
}

func (c *conn) fetchPartition(o []byte, v int16, p *kmsg.FetchRequestTopicPartition, recordBytes int) []byte {
	flex := v >= 12
	o = be.AppendUint32(o, uint32(p.Partition))
	o = be.AppendUint16(o, 0)
	o = be.AppendUint64(o, uint64(c.b.opts.EndOffset)) // high watermark
	o = be.AppendUint64(o, uint64(c.b.opts.EndOffset)) // last stable
	if v >= 5 {
		o = be.AppendUint64(o, 0) // log start
	}
	if flex {
		o = append(o, 0) // no aborted transactions
	} else {
		o = append(o, 0xff, 0xff, 0xff, 0xff)
	}
	if v >= 11 {
		o = append(o, 0xff, 0xff, 0xff, 0xff) // no preferred replica
	}
	return appendCount(o, flex, recordBytes)
}

func (c *conn) writeFetch(o []byte, cuts []int) {
	vec := append(c.vec[:0], c.out)
	from := 0
	for _, k := range cuts {
		vec = append(vec, o[from:k], c.b.batch)
		from = k
	}
	vec = append(vec, o[from:])
	c.vec = vec
	_, c.err = vec.WriteTo(c.nc)
	c.out = c.out[:0]
}
