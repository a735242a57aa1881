package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func produceSources() []source {
	return []source{
		{"InitProducerID", 4, drawInitProducerID},
		{"Produce", 30, drawProduce},
	}
}

func drawInitProducerID(p *plan) step {
	v := p.version(22)
	pr := &producerPlan{name: fmt.Sprintf("producer %d", len(p.producers)+1), next: map[string]int32{}}
	p.producers = append(p.producers, pr)
	return one("InitProducerID", func(*side) kmsg.Request {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.Version, req.TransactionTimeoutMillis = v, 60000
		return req
	}, func(s *side, resp kmsg.Response) {
		if r := resp.(*kmsg.InitProducerIDResponse); r.ErrorCode == 0 {
			s.producers[pr.name] = producer{r.ProducerID, r.ProducerEpoch}
		}
	})
}

// batch is what a produce request has; it is made for a side, since producers' ids differ.
type batch struct {
	producer string // none if empty
	epoch    int16
	sequence int32
	stamps   []int64
	keys     bool
	size     int
	codec    int8
	spoil    string
}

// make encodes it.
func (b batch) make(s *side) []byte {
	var records []byte
	for i, t := range b.stamps {
		r := kmsg.Record{TimestampDelta64: t - b.stamps[0], OffsetDelta: int32(i), Value: bytes.Repeat([]byte{byte('a' + i)}, b.size)}
		if b.keys {
			r.Key = []byte{'k', byte('0' + i%3)}
		}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		for {
			enc := r.AppendTo(nil)
			_, n := binary.Varint(enc)
			if int32(len(enc)-n) == r.Length {
				records = append(records, enc...)
				break
			}
			r.Length = int32(len(enc) - n)
		}
	}
	out := kmsg.RecordBatch{Magic: 2, PartitionLeaderEpoch: -1, LastOffsetDelta: int32(len(b.stamps) - 1), ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(len(b.stamps)), FirstTimestamp: b.stamps[0], Attributes: int16(b.codec)}
	for _, t := range b.stamps {
		out.MaxTimestamp = max(out.MaxTimestamp, t)
	}
	if b.producer != "" {
		pr := s.producer(b.producer)
		out.ProducerID, out.ProducerEpoch, out.FirstSequence = pr.id, pr.epoch+b.epoch, b.sequence
	}
	out.Records = compressed(records, b.codec)
	switch b.spoil {
	case "count":
		out.NumRecords++
	case "last delta":
		out.LastOffsetDelta += 3
	case "magic 1":
		out.Magic = 1
	case "magic 3":
		out.Magic = 3
	case "control":
		out.Attributes |= 0x20
	case "transactional":
		out.Attributes |= 0x10
	case "log append time":
		out.Attributes |= 8
	case "codec 5":
		out.Attributes |= 5
	case "first offset":
		out.FirstOffset = 7
	case "max timestamp":
		out.MaxTimestamp += 5000
	case "no records":
		out.NumRecords, out.LastOffsetDelta, out.Records = 0, -1, nil
	case "junk records":
		out.Records = []byte("no record")
	}
	raw := seal(&out)
	switch b.spoil {
	case "crc":
		raw[17] ^= 1
	case "cut short":
		raw = raw[:len(raw)-3]
	case "two batches":
		raw = append(raw, raw...)
	case "length":
		raw[11] += 5
	case "nothing":
		raw = []byte{}
	}
	return raw
}

// seal encodes a batch with its length and checksum.
func seal(b *kmsg.RecordBatch) []byte {
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

func compressed(records []byte, codec int8) []byte {
	var c kgo.CompressionCodec
	switch codec {
	case 1:
		c = kgo.GzipCompression()
	case 2:
		c = kgo.SnappyCompression()
	case 3:
		c = kgo.Lz4Compression()
	case 4:
		c = kgo.ZstdCompression()
	default:
		return records
	}
	compressor, err := kgo.DefaultCompressor(c)
	if err != nil {
		return records
	}
	var into bytes.Buffer
	out, _ := compressor.Compress(&into, records)
	return bytes.Clone(out)
}

// spoils are ways to make a batch wrong. Not among them is what Tidemark refuses and Kafka writes down: it would make the logs differ from
// then on (records whose offset deltas do not count up, a producer id with epoch -1), nor null records, which Kafka never answers.
var spoils = []string{"count", "last delta", "magic 1", "magic 3", "control", "transactional", "log append time", "codec 5", "first offset", "max timestamp", "no records",
	"junk records", "crc", "cut short", "two batches", "length", "nothing"}

func drawProduce(p *plan) step {
	v, t, acks := p.version(0), p.topic(), pick(p, int16(-1), -1, -1, -1, 1, 1, 0, 2)
	part := p.partition(t)
	b := batch{size: pick(p, 1, 10, 10, 100, 100, 900, 3000), keys: !p.chance(4)}
	label := "Produce"
	at := p.now
	if p.chance(6) {
		at += pick(p, int64(-7200_000), 7200_000, -30*24*3600_000, -p.now-1)
		label = "Produce other times"
	}
	for i := range 1 + p.IntN(4) {
		b.stamps = append(b.stamps, at+int64(i)*int64(p.IntN(30)-5))
	}
	if acks != 2 && p.chance(4) {
		b.codec = int8(1 + p.IntN(4))
	}
	if len(p.producers) > 0 && p.chance(2) {
		label += p.sequenced(&b, fmt.Sprint(t.name, part))
	}
	if acks != 2 && slices.Contains(p.topics, t) && p.chance(5) { // one mistake at a time
		b.spoil = pick(p, spoils...)
		label += " " + b.spoil
	} else if acks < 2 && part >= 0 && int(part) < t.partitions {
		t.records[part] += int64(len(b.stamps))
	}
	return one(label, func(s *side) kmsg.Request {
		req := kmsg.NewPtrProduceRequest()
		req.Version, req.Acks, req.TimeoutMillis = v, acks, 10000
		one := kmsg.NewProduceRequestTopic()
		one.Topic = s.full(t.name)
		if v >= 13 {
			one.TopicID = s.topicID(t.name)
		}
		pt := kmsg.NewProduceRequestTopicPartition()
		pt.Partition, pt.Records = part, b.make(s)
		one.Partitions = append(one.Partitions, pt)
		req.Topics = append(req.Topics, one)
		return req
	}, nil)
}

// sequenced gives a batch a producer and a sequence that is next, or one that is not, and returns what it is.
func (p *plan) sequenced(b *batch, where string) string {
	pr := p.producers[max(0, len(p.producers)-1-p.IntN(3))]
	b.producer, b.sequence = pr.name, pr.next[where]
	switch p.IntN(12) {
	case 0:
		b.sequence += 3
		return " gap"
	case 1, 2:
		b.sequence = max(0, b.sequence-int32(len(b.stamps)))
		return " repeated"
	case 3:
		b.sequence = 0
		return " from 0"
	case 4:
		b.epoch = 1
		b.sequence = pick(p, int32(0), b.sequence)
		return " other epoch"
	case 5:
		b.sequence = -1
		return " without sequence"
	case 6:
		b.producer = "nobody"
		return " unknown producer"
	}
	pr.next[where] += int32(len(b.stamps))
	return " next"
}
