// Package batch reads and checks Kafka record batches of format v2 (KIP-98): headers, CRC, records and codecs. PURE.
package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// HeaderBytes is the length of a v2 batch header up to and including the record count.
const HeaderBytes = 61

// CRCFrom is the first byte of a batch that its own CRC covers; the base offset, length and leader epoch come before it.
const CRCFrom = attributesAt

// Positions of the header's fields, big endian, from the batch's first byte.
const (
	baseOffsetAt      = 0
	lengthAt          = 8
	leaderEpochAt     = 12
	magicAt           = 16
	crcAt             = 17
	attributesAt      = 21 // the CRC covers everything from here on
	lastOffsetDeltaAt = 23
	baseTimestampAt   = 27
	maxTimestampAt    = 35
	producerIDAt      = 43
	producerEpochAt   = 51
	baseSequenceAt    = 53
	countAt           = 57
)

// Attribute bits.
const (
	codecMask            = 0x07
	attrLogAppendTime    = 0x08
	attrTransactional    = 0x10
	attrControl          = 0x20
	attrDeleteHorizonMs  = 0x40
	frameOverheadBytes   = 12 // base offset and length, not counted by length
	minBatchLengthFields = HeaderBytes - frameOverheadBytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is wrapped by every error about bytes that are not a well-formed v2 batch.
var ErrCorrupt = errors.New("corrupt record batch")

// ErrMagic says that the batch has another message format than v2.
var ErrMagic = errors.New("unsupported message format")

// Header is a decoded v2 batch header.
type Header struct {
	BaseOffset      int64
	SizeBytes       int // of the whole batch, from its base offset to its last byte
	LeaderEpoch     int32
	CRC             uint32
	Attributes      int16
	LastOffsetDelta int32
	BaseTimestampMs int64
	MaxTimestampMs  int64
	ProducerID      int64
	ProducerEpoch   int16
	BaseSequence    int32
	Count           int32
}

// LastOffset is the offset of the last record that the batch has or had before compaction.
func (h *Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// NextOffset is one past LastOffset.
func (h *Header) NextOffset() int64 { return h.LastOffset() + 1 }

// IsTransactional tells whether the batch belongs to a transaction.
func (h *Header) IsTransactional() bool { return h.Attributes&attrTransactional != 0 }

// IsControl tells whether the batch holds transaction markers.
func (h *Header) IsControl() bool { return h.Attributes&attrControl != 0 }

// IsLogAppendTime tells whether the timestamps are the broker's.
func (h *Header) IsLogAppendTime() bool { return h.Attributes&attrLogAppendTime != 0 }

// String is for dumps: what the header says, in one line.
func (h Header) String() string {
	s := fmt.Sprintf("offsets %d-%d records %d bytes %d epoch %d %s timestamps %d-%d crc %08x", h.BaseOffset, h.LastOffset(), h.Count, h.SizeBytes,
		h.LeaderEpoch, h.Codec(), h.BaseTimestampMs, h.MaxTimestampMs, h.CRC)
	if h.HasProducer() {
		s += fmt.Sprintf(" producer %d epoch %d sequence %d", h.ProducerID, h.ProducerEpoch, h.BaseSequence)
	}
	for _, a := range []struct {
		set  bool
		name string
	}{{h.IsLogAppendTime(), "append-time"}, {h.IsTransactional(), "transactional"}, {h.IsControl(), "control"}} {
		if a.set {
			s += " " + a.name
		}
	}
	return s
}

// Codec is the compression of the record section.
func (h *Header) Codec() Codec { return Codec(h.Attributes & codecMask) }

// LastSequence is the sequence number of the last record, wrapped past 2^31-1 to 0 (KIP-98). It is -1 without a producer.
func (h *Header) LastSequence() int32 {
	if h.BaseSequence < 0 {
		return -1
	}
	return AddSequence(h.BaseSequence, h.LastOffsetDelta)
}

// AddSequence adds n >= 0 to a sequence number, which wraps past 2^31-1 to 0.
func AddSequence(seq, n int32) int32 { return int32((int64(seq) + int64(n)) & 0x7fffffff) }

// HasProducer tells whether the batch was sent by an idempotent producer.
func (h *Header) HasProducer() bool { return h.ProducerID >= 0 }

// Parse decodes the header of the batch at the start of b and checks that the whole batch is in b. It does not check the CRC.
func Parse(b []byte) (Header, error) {
	h, err := parse(b)
	if err == nil && (h.LastOffsetDelta < 0 || h.Count < 0) {
		err = fmt.Errorf("%w: last offset delta %d, count %d", ErrCorrupt, h.LastOffsetDelta, h.Count)
	}
	return h, err
}

// parse is Parse without a look at the counts.
func parse(b []byte) (Header, error) {
	var h Header
	if len(b) < magicAt+1 {
		return h, fmt.Errorf("%w: %d bytes are shorter than a header", ErrCorrupt, len(b))
	}
	if b[magicAt] != 2 {
		return h, fmt.Errorf("%w: magic %d", ErrMagic, b[magicAt])
	}
	if len(b) < HeaderBytes {
		return h, fmt.Errorf("%w: %d bytes are shorter than a header", ErrCorrupt, len(b))
	}
	n := int32(binary.BigEndian.Uint32(b[lengthAt:]))
	if n < minBatchLengthFields || int64(n) > int64(len(b)-frameOverheadBytes) {
		return h, fmt.Errorf("%w: length %d with %d bytes at hand", ErrCorrupt, n, len(b))
	}
	h = Header{
		BaseOffset:      int64(binary.BigEndian.Uint64(b[baseOffsetAt:])),
		SizeBytes:       int(n) + frameOverheadBytes,
		LeaderEpoch:     int32(binary.BigEndian.Uint32(b[leaderEpochAt:])),
		CRC:             binary.BigEndian.Uint32(b[crcAt:]),
		Attributes:      int16(binary.BigEndian.Uint16(b[attributesAt:])),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[lastOffsetDeltaAt:])),
		BaseTimestampMs: int64(binary.BigEndian.Uint64(b[baseTimestampAt:])),
		MaxTimestampMs:  int64(binary.BigEndian.Uint64(b[maxTimestampAt:])),
		ProducerID:      int64(binary.BigEndian.Uint64(b[producerIDAt:])),
		ProducerEpoch:   int16(binary.BigEndian.Uint16(b[producerEpochAt:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(b[baseSequenceAt:])),
		Count:           int32(binary.BigEndian.Uint32(b[countAt:])),
	}
	return h, nil
}

// Checksum computes the CRC32C that the header of the whole batch b should carry.
func Checksum(b []byte) uint32 { return crc32.Checksum(b[attributesAt:], castagnoli) }

// PutBaseOffset and PutLeaderEpoch set fields that the CRC does not cover.
func PutBaseOffset(b []byte, offset int64) {
	binary.BigEndian.PutUint64(b[baseOffsetAt:], uint64(offset))
}

// PutLeaderEpoch sets the partition leader epoch of the batch that starts at b.
func PutLeaderEpoch(b []byte, epoch int32) {
	binary.BigEndian.PutUint32(b[leaderEpochAt:], uint32(epoch))
}
