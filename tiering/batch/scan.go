package batch

import (
	"encoding/binary"
	"math"
)

// Facts are what a Scan found out about the records of a batch, as far as Prepare has to know it to judge them.
type Facts struct {
	Sound   bool  // as many well-formed records as the header says, with offset deltas 0..n-1, and nothing more
	NullKey bool  // a record has no key
	MinMs   int64 // smallest timestamp but -1, which is none; above MaxMs: no record has one
	MaxMs   int64 // largest timestamp, at least -1
}

// farMs bounds the timestamps that Facts settle, so that no difference overflows.
const farMs = math.MaxInt64 / 4

// settle tells whether the records need no other look: every rule holds for all of them. If not, only that look tells the
// refusal, if it is one.
func (f *Facts) settle(r *Rules) bool {
	if !f.Sound || r.KeyRequired && f.NullKey {
		return false
	}
	if r.LogAppendTime || f.MinMs > f.MaxMs {
		return true
	}
	return f.MinMs > -farMs && f.MaxMs < farMs && r.inRange(f.MinMs) && r.inRange(f.MaxMs)
}

// Scan walks the records of an uncompressed batch while its bytes arrive, so that it finds them in the processor's cache. The
// zero value has nothing to walk. It holds no bytes and allocates nothing.
type Scan struct {
	at, end     int // of the next record and of the batch, from the batch's first byte
	seen, count int32
	baseMs      int64
	fixed       bool // the timestamps are baseMs, whatever the records say
	off         bool // nothing to walk, or nothing that could still be sound
	nullKey     bool
	minMs       int64
	maxMs       int64
}

// NewScan begins to walk the batch of sizeBytes whose header is in the first HeaderBytes of head. It walks nothing when the
// records are compressed: then no Facts are Sound.
func NewScan(head []byte, sizeBytes int) Scan {
	h := Header{
		Attributes:      int16(binary.BigEndian.Uint16(head[attributesAt:])),
		BaseTimestampMs: int64(binary.BigEndian.Uint64(head[baseTimestampAt:])),
		MaxTimestampMs:  int64(binary.BigEndian.Uint64(head[maxTimestampAt:])),
		Count:           int32(binary.BigEndian.Uint32(head[countAt:HeaderBytes])),
	}
	s := Scan{
		at: HeaderBytes, end: sizeBytes, count: h.Count, baseMs: h.BaseTimestampMs, fixed: h.IsLogAppendTime(),
		off: h.Codec() != CodecNone || h.Count <= 0, minMs: math.MaxInt64, maxMs: noTimestamp,
	}
	if s.fixed {
		s.baseMs = h.MaxTimestampMs
	}
	return s
}

// Advance walks the records that are whole within b, the batch's bytes as far as they are there: at least what b was before. A
// record that is not whole is looked at again when there is more, which costs no more than reading its length.
func (s *Scan) Advance(b []byte) {
	if s.off || len(b) > s.end {
		s.off = true
		return
	}
	minMs, maxMs := s.minMs, s.maxMs
	for s.seen < s.count {
		size, n := varint32(b[s.at:])
		if n <= 0 {
			s.off = n < 0
			break
		}
		from := s.at + n
		if size < 0 || int(size) > s.end-from {
			s.off = true
			break
		}
		if int(size) > len(b)-from {
			break
		}
		body := b[from : from+int(size)]
		delta, ts, null, ok := plainRecord(body)
		if !ok {
			var rec Record
			if !decodeRecord(body, &rec) {
				s.off = true
				break
			}
			delta, ts = rec.OffsetDelta, rec.TimestampDeltaMs
			null = rec.Key == nil
		}
		if delta != s.seen {
			s.off = true
			break
		}
		if ts += s.baseMs; s.fixed {
			ts = s.baseMs
		}
		s.nullKey = s.nullKey || null
		maxMs = max(maxMs, ts)
		if ts != noTimestamp {
			minMs = min(minMs, ts)
		}
		s.seen++
		s.at = from + int(size)
	}
	s.minMs, s.maxMs = minMs, maxMs
}

// Facts says what was found, once the whole batch was there.
func (s *Scan) Facts() Facts {
	return Facts{Sound: !s.off && s.count > 0 && s.seen == s.count && s.at == s.end, NullKey: s.nullKey, MinMs: s.minMs, MaxMs: s.maxMs}
}

// plainRecord is decodeRecord for what most records are: without headers, with a key of at most 63 bytes or none, and a
// timestamp, an offset and a value whose integers take at most two bytes. ok is false for all others, well-formed or not.
func plainRecord(body []byte) (delta int32, ts int64, nullKey, ok bool) {
	if len(body) < 10 { // then the first three integers lie in it
		return 0, 0, false, false
	}
	at := 2
	t := uint32(body[1])
	if t >= 0x80 {
		t = t&0x7f | uint32(body[2])<<7
		at = 3
	}
	d := uint32(body[at])
	at++
	if d >= 0x80 {
		d = d&0x7f | uint32(body[at])<<7
		at++
	}
	k := uint32(body[at])
	at += 1 + int(k>>1) // null is 1: no bytes
	if (t|d)>>14 != 0 || d&1 != 0 || k >= 0x80 || (k&1 != 0 && k != 1) || at+2 > len(body) {
		return 0, 0, false, false
	}
	v := uint32(body[at])
	at++
	if v >= 0x80 {
		v = v&0x7f | uint32(body[at])<<7
		at++
	}
	at += int(v >> 1)
	if v>>14 != 0 || v&1 != 0 || at != len(body)-1 || body[at] != 0 {
		return 0, 0, false, false
	}
	return int32(d >> 1), int64(t>>1) ^ -int64(t&1), k == 1, true
}
