package batch

import "fmt"

// Record is one decoded record. Key, Value and Headers alias the record section that was walked.
type Record struct {
	OffsetDelta      int32
	TimestampDeltaMs int64
	Key, Value       []byte // nil: null
	Headers          []byte // encoded headers, after their count; NextHeader reads them
	HeaderCount      int32
}

// RecordHeader is one header of a record (KIP-82). Value is nil when it is null.
type RecordHeader struct{ Key, Value []byte }

// Walker goes over the records of an uncompressed record section in order. It allocates nothing.
type Walker struct {
	rest []byte
	left int32
	seen int32
}

// Walk returns a walker over count records in the uncompressed section.
func Walk(section []byte, count int32) Walker { return Walker{rest: section, left: count} }

// Next decodes the next record into rec. It returns false after the last one, or with an error that wraps ErrInvalid when
// the section is not count well-formed records with offset deltas 0..count-1 unless compacted, ascending, and nothing more.
func (w *Walker) Next(rec *Record) (bool, error) {
	if w.left == 0 {
		if len(w.rest) != 0 {
			return false, fmt.Errorf("%w: %d bytes after the last of %d records", ErrInvalid, len(w.rest), w.seen)
		}
		return false, nil
	}
	size, n := varint32(w.rest)
	if n <= 0 || size < 0 || int(size) > len(w.rest)-n {
		return false, fmt.Errorf("%w: record %d has a bad length", ErrInvalid, w.seen)
	}
	body := w.rest[n : n+int(size)]
	if !decodeRecord(body, rec) {
		return false, fmt.Errorf("%w: record %d is malformed", ErrInvalid, w.seen)
	}
	w.rest = w.rest[n+int(size):]
	w.left--
	w.seen++
	return true, nil
}

// decodeRecord decodes a record without its length. It reports false unless the fields fill body exactly.
func decodeRecord(body []byte, rec *Record) bool {
	if len(body) < 1 {
		return false
	}
	b := body[1:] // attributes: unused by v2
	ts, n := varint(b)
	if n <= 0 {
		return false
	}
	b = b[n:]
	delta, n := varint32(b)
	if n <= 0 || delta < 0 {
		return false
	}
	b = b[n:]
	var ok bool
	if rec.Key, b, ok = varbytes(b); !ok {
		return false
	}
	if rec.Value, b, ok = varbytes(b); !ok {
		return false
	}
	count, n := varint32(b)
	if n <= 0 || count < 0 || int(count) > len(b) {
		return false
	}
	b = b[n:]
	rec.TimestampDeltaMs, rec.OffsetDelta, rec.HeaderCount, rec.Headers = ts, delta, count, b
	for range count {
		if _, b, ok = nextHeader(b); !ok {
			return false
		}
	}
	return len(b) == 0
}

// NextHeader decodes the first header of headers, as Record.Headers holds them, and returns what follows it.
func NextHeader(headers []byte) (RecordHeader, []byte, error) {
	h, rest, ok := nextHeader(headers)
	if !ok {
		return h, nil, fmt.Errorf("%w: malformed record header", ErrInvalid)
	}
	return h, rest, nil
}

func nextHeader(b []byte) (h RecordHeader, rest []byte, ok bool) {
	if h.Key, b, ok = varbytes(b); !ok || h.Key == nil {
		return h, nil, false
	}
	h.Value, b, ok = varbytes(b)
	return h, b, ok
}

// varbytes reads a length-prefixed byte string; any negative length is null, as Kafka reads it.
func varbytes(b []byte) (v, rest []byte, ok bool) {
	size, n := varint32(b)
	if n <= 0 || int(size) > len(b)-n {
		return nil, nil, false
	}
	b = b[n:]
	if size < 0 {
		return nil, b, true
	}
	return b[:size:size], b[size:], true
}

// varint reads a zigzag varint of at most 10 bytes. n is 0 when b is too short and negative when it is malformed.
func varint(b []byte) (v int64, n int) {
	if len(b) > 0 && b[0] < 0x80 { // most fields of most records
		u := uint64(b[0])
		return int64(u>>1) ^ -int64(u&1), 1
	}
	var u uint64
	for i, c := range b {
		if i == 9 && c > 1 {
			return 0, -1
		}
		u |= uint64(c&0x7f) << (7 * uint(i))
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), i + 1
		}
		if i == 9 {
			return 0, -1
		}
	}
	return 0, 0
}

// varint32 reads a zigzag varint of at most 5 bytes and 32 bits: readers refuse longer ones, even those of a small number. n
// is 0 when b is too short and negative when it is malformed.
func varint32(b []byte) (v int32, n int) {
	if len(b) == 0 || b[0] >= 0x80 {
		return longVarint32(b)
	}
	return int32(b[0]>>1) ^ -int32(b[0]&1), 1 // most fields of most records
}

func longVarint32(b []byte) (v int32, n int) {
	var u uint32
	for i, c := range b {
		if i == 4 && c > 0x0f {
			return 0, -1
		}
		u |= uint32(c&0x7f) << (7 * uint(i))
		if c < 0x80 {
			return int32(u>>1) ^ -int32(u&1), i + 1
		}
	}
	return 0, 0
}

func appendVarint(dst []byte, v int64) []byte {
	u := uint64(v)<<1 ^ uint64(v>>63)
	for u >= 0x80 {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}
