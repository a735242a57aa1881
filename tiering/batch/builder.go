package batch

import "encoding/binary"

// Builder makes a batch record by record. The zero value makes an uncompressed batch without producer.
type Builder struct {
	BaseOffset    int64
	LeaderEpoch   int32
	Codec         Codec
	Transactional bool
	ProducerID    int64 // used when HasProducer
	ProducerEpoch int16
	BaseSequence  int32
	HasProducer   bool

	section         []byte
	scratch         []byte
	count           int32
	baseTimestampMs int64
	maxTimestampMs  int64
}

// Add appends a record. A nil key or value is null; a nil header value likewise.
func (b *Builder) Add(timestampMs int64, key, value []byte, headers ...RecordHeader) {
	if b.count == 0 {
		b.baseTimestampMs, b.maxTimestampMs = timestampMs, timestampMs
	}
	b.maxTimestampMs = max(b.maxTimestampMs, timestampMs)
	r := append(b.scratch[:0], 0)
	r = appendVarint(r, timestampMs-b.baseTimestampMs)
	r = appendVarint(r, int64(b.count))
	r = appendVarbytes(r, key)
	r = appendVarbytes(r, value)
	r = appendVarint(r, int64(len(headers)))
	for _, h := range headers {
		r = appendVarint(r, int64(len(h.Key)))
		r = append(r, h.Key...)
		r = appendVarbytes(r, h.Value)
	}
	b.scratch = r
	b.section = appendVarint(b.section, int64(len(r)))
	b.section = append(b.section, r...)
	b.count++
}

// Count is the number of records so far.
func (b *Builder) Count() int32 { return b.count }

// Bytes returns the finished batch in a new slice. It fails only when the codec is unknown.
func (b *Builder) Bytes() ([]byte, error) {
	out := make([]byte, HeaderBytes, HeaderBytes+len(b.section))
	out, err := deflate(b.Codec, b.section, out)
	if err != nil {
		return nil, err
	}
	h := Header{Attributes: int16(b.Codec)}
	if b.Transactional {
		h.Attributes |= attrTransactional
	}
	pid, epoch, seq := int64(-1), int16(-1), int32(-1)
	if b.HasProducer {
		pid, epoch, seq = b.ProducerID, b.ProducerEpoch, b.BaseSequence
	}
	be := binary.BigEndian
	be.PutUint64(out[baseOffsetAt:], uint64(b.BaseOffset))
	be.PutUint32(out[leaderEpochAt:], uint32(b.LeaderEpoch))
	out[magicAt] = 2
	be.PutUint32(out[lastOffsetDeltaAt:], uint32(b.count-1))
	be.PutUint64(out[baseTimestampAt:], uint64(b.baseTimestampMs))
	be.PutUint64(out[maxTimestampAt:], uint64(b.maxTimestampMs))
	be.PutUint64(out[producerIDAt:], uint64(pid))
	be.PutUint16(out[producerEpochAt:], uint16(epoch))
	be.PutUint32(out[baseSequenceAt:], uint32(seq))
	be.PutUint32(out[countAt:], uint32(b.count))
	seal(out, &h)
	return out, nil
}

func appendVarbytes(dst, v []byte) []byte {
	if v == nil {
		return appendVarint(dst, -1)
	}
	return append(appendVarint(dst, int64(len(v))), v...)
}
