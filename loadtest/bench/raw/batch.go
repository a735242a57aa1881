package raw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Where a record batch has its fields.
const (
	lengthAt        = 8
	magicAt         = 16
	crcAt           = 17
	attributesAt    = 21
	lastDeltaAt     = 23
	firstTimeAt     = 27
	maxTimeAt       = 35
	producerIDAt    = 43
	producerEpochAt = 51
	sequenceAt      = 53
	countAt         = 57
	headerBytes     = 61
	beforeLength    = 12 // bytes that the length does not count

	compressionMask = 0x07
	controlBit      = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errBatch = errors.New("malformed batch")

// batchSize is the size of the batch that begins b; 0 if it is cut short.
func batchSize(b []byte) int {
	if len(b) < headerBytes {
		return 0
	}
	n := int(int32(be.Uint32(b[lengthAt:]))) + beforeLength
	if n < headerBytes || n > len(b) {
		return 0
	}
	return n
}

// AfterBatch is the offset behind a batch.
func AfterBatch(b []byte) int64 {
	return int64(be.Uint64(b)) + int64(int32(be.Uint32(b[lastDeltaAt:]))) + 1
}

// Reader walks over batches. Not safe for concurrent use.
type Reader struct{ decompressor kgo.Decompressor }

// NewReader makes a reader that knows all of Kafka's codecs.
func NewReader() *Reader { return &Reader{kgo.DefaultDecompressor()} }

// Each checks one batch and calls fn for its records, whose values are valid during the call. A control batch has none.
func (r *Reader) Each(b []byte, fn func(offset int64, value []byte)) error {
	if b[magicAt] != 2 {
		return fmt.Errorf("%w: magic %d", errBatch, b[magicAt])
	}
	base := int64(be.Uint64(b))
	if want, got := be.Uint32(b[crcAt:]), crc32.Checksum(b[attributesAt:], castagnoli); want != got {
		return fmt.Errorf("batch at offset %d: checksum %08x, stated %08x", base, got, want)
	}
	attributes := be.Uint16(b[attributesAt:])
	if attributes&controlBit != 0 {
		return nil
	}
	records := b[headerBytes:]
	if codec := attributes & compressionMask; codec != 0 {
		var err error
		if records, err = r.decompressor.Decompress(records, kgo.CompressionCodecType(codec)); err != nil {
			return fmt.Errorf("batch at offset %d: %w", base, err)
		}
	}
	for range be.Uint32(b[countAt:]) {
		offset, value, rest, ok := nextRecord(records)
		if !ok {
			return fmt.Errorf("%w at offset %d", errBatch, base)
		}
		fn(base+offset, value)
		records = rest
	}
	return nil
}

// nextRecord takes a record apart as far as its value.
func nextRecord(b []byte) (delta int64, value, rest []byte, ok bool) {
	size, n := binary.Varint(b)
	if n <= 0 || size < 1 || size > int64(len(b)-n) {
		return 0, nil, nil, false
	}
	b, rest = b[n+1:int64(n)+size], b[int64(n)+size:] // one byte of attributes
	if _, n = binary.Varint(b); n <= 0 {              // timestamp
		return 0, nil, nil, false
	}
	b = b[n:]
	if delta, n = binary.Varint(b); n <= 0 {
		return 0, nil, nil, false
	}
	b = b[n:]
	for i := range 2 { // key, value
		size, n = binary.Varint(b)
		if n <= 0 || size > int64(len(b)-n) {
			return 0, nil, nil, false
		}
		b = b[n:]
		if size < 0 {
			continue
		}
		if i == 1 {
			value = b[:size]
		}
		b = b[size:]
	}
	return delta, value, rest, true
}

// template is a request with one batch in which what changes has a fixed place.
type template struct {
	frame       []byte
	partitionAt int
	batchAt     int
	values      []int // where each record's value begins
}

// newTemplate builds a Produce request of n records. fill writes the payload of the value of record i.
func newTemplate(topic string, acks int16, n, recordBytes int, fill func(value []byte)) *template {
	var records []byte
	values := make([]int, n)
	for i := range n {
		value := make([]byte, recordBytes)
		fill(value)
		r := kmsg.Record{OffsetDelta: int32(i), Value: value}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // of the length 0 itself
		records = r.AppendTo(records)
		values[i] = headerBytes + len(records) - 1 - recordBytes // no headers: one byte behind the value
	}
	rb := kmsg.RecordBatch{
		Length: int32(headerBytes - beforeLength + len(records)), Magic: 2, LastOffsetDelta: int32(n - 1), ProducerID: -1, ProducerEpoch: -1,
		FirstSequence: -1, NumRecords: int32(n), Records: records,
	}
	batch := rb.AppendTo(nil)
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = produceVersion, acks, 60_000
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	p.Records = batch
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, req, 0)
	batchAt := len(frame) - len(batch) - 3 // behind it the tags of partition, topic and request
	return &template{frame, batchAt - len(binary.AppendUvarint(nil, uint64(len(batch)+1))) - 4, batchAt, values}
}

// recordsPerBatch is how many records of a size fit a batch, at least one.
func recordsPerBatch(batchBytes, recordBytes int) int {
	one := kmsg.Record{OffsetDelta: 1 << 20, Value: make([]byte, recordBytes)}
	one.Length = int32(len(one.AppendTo(nil)) - 1)
	return max(1, (batchBytes-headerBytes)/len(one.AppendTo(nil)))
}
