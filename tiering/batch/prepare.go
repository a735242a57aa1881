package batch

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// Prepare checks that b is exactly one client-made batch that rules allow, and makes it what the topic stores: with
// LogAppendTime the timestamp type bit and the maximum timestamp are set in place; a maximum timestamp that the records do
// not bear out is corrected in place, as Kafka does; with another compression.type the records are re-encoded into a new
// slice. The returned bytes are b itself or that new slice, with a header that matches and a valid CRC. The common case
// changes and allocates nothing.
//
// The records of an uncompressed batch that a Scan has found to follow the rules (Rules.Facts) are not looked at again.
//
// A compressed batch is opened with o. With none, or with one that may use too little memory, the error wraps ErrMemory:
// nothing is decided then, and Prepare is to be called again with another one. LargeOpenerBytes are always enough.
//
// The checks and their order are those of Kafka's ProduceRequest, UnifiedLog and LogValidator. Where Kafka is laxer than its
// own consumers, so that a batch would be acknowledged and never be read, it is refused here:
//   - lengths of the records in a compressed batch must be true, and integers not longer than Kafka's readers take;
//   - offset deltas must be 0..n-1, which Kafka does not look at in an uncompressed batch, and stumbles over in others;
//   - nothing may follow the batch, the LZ4 frame, or the last gzip member, and the checksums in an LZ4 frame must be right.
//
// Other differences: what does not decompress is ErrInvalid, where Kafka answers UNKNOWN_SERVER_ERROR; records of more than
// MaxInflatedBytes are too large; at most 100 record errors are listed.
func Prepare(b []byte, rules *Rules, o *Opener) ([]byte, Header, error) {
	h, err := checkShape(b, rules)
	if err == nil {
		err = checkHeader(&h, rules)
	}
	if err != nil {
		return nil, h, err
	}
	recode := rules.Target != CodecProducer && rules.Target != h.Codec()
	section := b[HeaderBytes:h.SizeBytes]
	maxMs := h.MaxTimestampMs
	switch {
	case h.Codec() == CodecNone && rules.Facts.settle(rules):
		maxMs = rules.Facts.MaxMs
	case h.Codec() == CodecNone:
		maxMs, err = checkSection(section, &h, rules)
	case !recode && !needsRecords(&h, rules):
	case o == nil:
		return nil, h, ErrMemory
	case recode:
		defer o.close()
		if section, err = o.inflate(b, &h, rules.MaxInflatedBytes); err == nil {
			maxMs, err = checkSection(section, &h, rules)
		}
	default:
		maxMs, err = o.check(section, &h, rules)
	}
	if err == nil && recode {
		b, h, err = recoded(b, &h, section, rules)
	}
	if err != nil {
		return nil, h, refuseOpened(err)
	}
	switch {
	case rules.LogAppendTime:
		Restamp(b, &h, true, rules.NowMs)
	case h.IsLogAppendTime() || h.MaxTimestampMs != maxMs:
		Restamp(b, &h, false, maxMs)
	}
	return b, h, nil
}

// Restamp sets the timestamp type and the maximum timestamp of the whole batch b in place, and recomputes the CRC. The
// records stay as they are (KIP-98). h follows.
func Restamp(b []byte, h *Header, logAppendTime bool, maxTimestampMs int64) {
	h.Attributes &^= attrLogAppendTime
	if logAppendTime {
		h.Attributes |= attrLogAppendTime
	}
	h.MaxTimestampMs = maxTimestampMs
	binary.BigEndian.PutUint16(b[attributesAt:], uint16(h.Attributes))
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(maxTimestampMs))
	h.CRC = Checksum(b[:h.SizeBytes])
	binary.BigEndian.PutUint32(b[crcAt:], h.CRC)
}

// recoded returns the batch b with its records, which section holds uncompressed, encoded by the target codec, in a new
// slice, and its header. Everything else of the header stays.
func recoded(b []byte, h *Header, section []byte, rules *Rules) ([]byte, Header, error) {
	out := make([]byte, HeaderBytes, HeaderBytes+len(section)/2+256)
	copy(out, b[:HeaderBytes])
	out, err := deflate(rules.Target, section, out)
	if err != nil {
		return nil, *h, fmt.Errorf("compress with %s: %w", rules.Target, err)
	}
	if len(out) > rules.MaxBytes {
		return nil, *h, fmt.Errorf("%w: %d bytes once compressed with %s exceed max.message.bytes %d", ErrTooLarge, len(out), rules.Target, rules.MaxBytes)
	}
	nh := *h
	nh.SizeBytes = len(out)
	nh.Attributes = h.Attributes&^codecMask | int16(rules.Target)
	seal(out, &nh)
	return out, nh, nil
}

// seal writes length, attributes and CRC of the whole batch b.
func seal(b []byte, h *Header) {
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-frameOverheadBytes))
	binary.BigEndian.PutUint16(b[attributesAt:], uint16(h.Attributes))
	h.CRC = Checksum(b)
	binary.BigEndian.PutUint32(b[crcAt:], h.CRC)
}

// maxPooledBytes bounds the buffers that the pool keeps.
const maxPooledBytes = 4 << 20

var inflated = sync.Pool{New: func() any { return new([]byte) }}

// inflatePooled is Inflate into a pooled buffer. release gives it back: the section must not be used afterwards.
func inflatePooled(b []byte, h *Header, maxBytes int) (section []byte, release func(), err error) {
	if h.Codec() == CodecNone {
		return b[HeaderBytes:h.SizeBytes], func() {}, nil
	}
	buf := inflated.Get().(*[]byte)
	section, err = Inflate(b, h, *buf, maxBytes)
	if err != nil {
		inflated.Put(buf)
		return nil, nil, err
	}
	return section, func() {
		if cap(section) <= maxPooledBytes {
			*buf = section[:0]
			inflated.Put(buf)
		}
	}, nil
}
