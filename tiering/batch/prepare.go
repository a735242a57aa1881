package batch

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// Prepare validates b as Validate does and then makes it what the topic stores: with LogAppendTime the timestamp type bit
// and the maximum timestamp are set in place; a maximum timestamp that the records do not bear out is corrected in place,
// as Kafka does; with another compression.type the records are re-encoded into a new slice. The returned bytes are b
// itself or that new slice, with a header that matches and a valid CRC. The common case changes and allocates nothing.
func Prepare(b []byte, rules *Rules) ([]byte, Header, error) {
	h, maxMs, err := validate(b, rules)
	if err != nil {
		return nil, h, err
	}
	if rules.Target != CodecProducer && rules.Target != h.Codec() {
		if b, h, err = Recompress(b, &h, rules.Target, rules.MaxInflatedBytes); err != nil {
			return nil, h, refuseInflated(err)
		}
		if h.SizeBytes > rules.MaxBytes {
			return nil, h, fmt.Errorf("%w: %d bytes once compressed with %s exceed max.message.bytes %d", ErrTooLarge, h.SizeBytes, rules.Target, rules.MaxBytes)
		}
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

// Recompress returns the batch b with its records encoded by codec, in a new slice, and its header. Everything else of the
// header stays. maxInflatedBytes is as for Inflate.
func Recompress(b []byte, h *Header, codec Codec, maxInflatedBytes int) ([]byte, Header, error) {
	section, release, err := inflatePooled(b, h, maxInflatedBytes)
	if err != nil {
		return nil, *h, err
	}
	defer release()
	out := make([]byte, HeaderBytes, HeaderBytes+len(section)/2+256)
	copy(out, b[:HeaderBytes])
	if out, err = deflate(codec, section, out); err != nil {
		return nil, *h, fmt.Errorf("compress with %s: %w", codec, err)
	}
	nh := *h
	nh.SizeBytes = len(out)
	nh.Attributes = h.Attributes&^codecMask | int16(codec)
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
