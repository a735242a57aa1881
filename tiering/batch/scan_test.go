package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// scanned walks b while it arrives up to each of cuts, in bytes.
func scanned(b []byte, sizeBytes int, cuts ...int) Facts {
	s := NewScan(b, sizeBytes)
	for _, cut := range cuts {
		s.Advance(b[:cut:cut])
	}
	s.Advance(b)
	return s.Facts()
}

// uncompressed makes a batch of the section's bytes, with a right CRC.
func uncompressed(section []byte, change func(*Header)) []byte {
	b := append(make([]byte, HeaderBytes), section...)
	h := Header{Count: 1, BaseTimestampMs: nowMs, MaxTimestampMs: nowMs, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}
	if change != nil {
		change(&h)
	}
	b[magicAt] = 2
	binary.BigEndian.PutUint64(b[baseTimestampAt:], uint64(h.BaseTimestampMs))
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(h.MaxTimestampMs))
	binary.BigEndian.PutUint64(b[producerIDAt:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(b[producerEpochAt:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(b[baseSequenceAt:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(b[countAt:], uint32(h.Count))
	binary.BigEndian.PutUint32(b[lastOffsetDeltaAt:], uint32(h.Count-1))
	seal(b, &h)
	return b
}

func joined(records ...[]byte) []byte { return bytes.Join(records, nil) }

func TestScan(t *testing.T) {
	value := string(make([]byte, 9000)) // longer than plainRecord reads
	count := func(n int32) func(*Header) { return func(h *Header) { h.Count = n } }
	plain := encode(5, 0, 3, "key", 5, "value", 0)
	for name, c := range map[string]struct {
		batch []byte
		want  Facts
	}{
		"plain":               {uncompressed(plain, nil), Facts{true, false, nowMs + 5, nowMs + 5}},
		"no key":              {uncompressed(encode(0, 0, -1, 5, "value", 0), nil), Facts{true, true, nowMs, nowMs}},
		"another null":        {uncompressed(encode(0, 0, -7, 5, "value", 0), nil), Facts{true, true, nowMs, nowMs}},
		"tombstone":           {uncompressed(encode(0, 0, 1, "k", -1, 0), nil), Facts{true, false, nowMs, nowMs}},
		"empty key and value": {uncompressed(encode(0, 0, 0, 0, 0), nil), Facts{true, false, nowMs, nowMs}},
		"headers":             {uncompressed(encode(0, 0, 1, "k", 1, "v", 2, 1, "h", 1, "v", 1, "i", -1), nil), Facts{true, false, nowMs, nowMs}},
		"long value":          {uncompressed(encode(0, 0, 1, "k", 9000, value, 0), nil), Facts{true, false, nowMs, nowMs}},
		"long key":            {uncompressed(encode(0, 0, 9000, value, 1, "v", 0), nil), Facts{true, false, nowMs, nowMs}},
		"earlier and later":   {uncompressed(joined(encode(-9000, 0, 3, "key", 3, "val", 0), encode(100000, 1, 3, "key", 3, "val", 0)), count(2)), Facts{true, false, nowMs - 9000, nowMs + 100000}},
		"null key among":      {uncompressed(joined(plain, encode(0, 1, -1, 3, "val", 0), encode(0, 2, 1, "k", 3, "val", 0)), count(3)), Facts{true, true, nowMs, nowMs + 5}},
		"no timestamps":       {uncompressed(encode(0, 0, 3, "key", 3, "val", 0), func(h *Header) { h.BaseTimestampMs = -1 }), Facts{true, false, math.MaxInt64, -1}},
		"broker's timestamps": {uncompressed(plain, func(h *Header) { h.Attributes, h.MaxTimestampMs = attrLogAppendTime, 77 }), Facts{true, false, 77, 77}},
		"compressed":          {build(t, CodecLZ4, 1, nil), Facts{false, false, math.MaxInt64, -1}},
		"no records":          {uncompressed(nil, count(0)), Facts{false, false, math.MaxInt64, -1}},
		"one missing":         {uncompressed(plain, count(2)), Facts{false, false, nowMs + 5, nowMs + 5}},
		"one too many":        {uncompressed(joined(plain, encode(0, 1, -1, -1, 0)), nil), Facts{false, false, nowMs + 5, nowMs + 5}},
		"wrong offset":        {uncompressed(encode(0, 1, 3, "key", 5, "value", 0), nil), Facts{false, false, math.MaxInt64, -1}},
		"value too long":      {uncompressed(encode(0, 0, 3, "key", 6, "value", 0), nil), Facts{false, false, math.MaxInt64, -1}},
		"key too long":        {uncompressed(encode(0, 0, 60, "key", 5, "value", 0), nil), Facts{false, false, math.MaxInt64, -1}},
		"missing headers":     {uncompressed(encode(0, 0, 3, "key", 5, "value", 1), nil), Facts{false, false, math.MaxInt64, -1}},
		"length beyond":       {uncompressed([]byte{100, 0, 0}, nil), Facts{false, false, math.MaxInt64, -1}},
		"length of 6 bytes":   {uncompressed([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0}, nil), Facts{false, false, math.MaxInt64, -1}},
		"negative length":     {uncompressed([]byte{1, 0, 0}, nil), Facts{false, false, math.MaxInt64, -1}},
	} {
		if got := scanned(c.batch, len(c.batch)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		for cut := HeaderBytes; cut < len(c.batch); cut += 1 + len(c.batch)/500 {
			if got := scanned(c.batch, len(c.batch), cut); got != c.want {
				t.Errorf("%s, in pieces at %d: %+v, want %+v", name, cut, got, c.want)
			}
		}
	}
}

// TestPrepareTrustsFacts: what facts settle is not looked at, and what they do not settle is.
func TestPrepareTrustsFacts(t *testing.T) {
	const day = 86400000
	good := build(t, CodecNone, 10, nil)
	ruined := bytes.Clone(good)
	for i := HeaderBytes; i < len(ruined); i++ {
		ruined[i] = 0xff
	}
	reseal(ruined)
	facts := scanned(good, len(good))
	for name, c := range map[string]struct {
		change func(*Rules)
		looked bool
	}{
		"settled":         {func(*Rules) {}, false},
		"no facts":        {func(r *Rules) { r.Facts = Facts{} }, true},
		"keys wanted":     {func(r *Rules) { r.KeyRequired = true }, false},
		"a key missing":   {func(r *Rules) { r.KeyRequired, r.Facts.NullKey = true, true }, true},
		"key not needed":  {func(r *Rules) { r.Facts.NullKey = true }, false},
		"too old":         {func(r *Rules) { r.BeforeMaxMs, r.Facts.MinMs = day, nowMs-2*day }, true},
		"old enough":      {func(r *Rules) { r.Facts.MinMs = nowMs - 2*day }, false},
		"too new":         {func(r *Rules) { r.Facts.MaxMs = nowMs + 2*day }, true},
		"broker's time":   {func(r *Rules) { r.LogAppendTime, r.Facts.MaxMs = true, nowMs+2*day }, false},
		"overflow before": {func(r *Rules) { r.AfterMaxMs, r.Facts.MinMs = math.MaxInt64, math.MinInt64 }, true},
		"overflow after":  {func(r *Rules) { r.AfterMaxMs, r.Facts.MaxMs = math.MaxInt64, math.MaxInt64 }, true},
		"no timestamps":   {func(r *Rules) { r.BeforeMaxMs, r.Facts.MinMs, r.Facts.MaxMs = 0, math.MaxInt64, -1 }, false},
	} {
		r := rules()
		r.Facts = facts
		c.change(r)
		_, _, err := Prepare(bytes.Clone(ruined), r, nil)
		if errors.Is(err, ErrInvalid) != c.looked || (err != nil) != c.looked {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzScan: a batch that was walked while it arrived, in whatever pieces, is judged as one that was not.
func FuzzScan(f *testing.F) {
	two := joined(encode(0, 0, 3, "key", 5, "value", 1, 1, "h", 2, "hv"), encode(-3, 1, -1, -1, 0))
	plain := joined(encode(0, 0, 3, "key", 5, "value", 0), encode(300, 1, -1, 3, "val", 0), encode(5, 2, 3, "abc", 9, "some more", 0))
	f.Add(two, int32(2), int64(nowMs), int64(nowMs), uint8(0), uint64(1), false)
	f.Add(two[:len(two)-1], int32(2), int64(-1), int64(-1), uint8(1), uint64(2), true)
	f.Add(plain, int32(3), int64(nowMs), int64(nowMs+300), uint8(2), uint64(3), false)
	f.Add(plain, int32(3), int64(math.MaxInt64-100), int64(0), uint8(4), uint64(4), true)
	f.Add(plain, int32(3), int64(-300), int64(0), uint8(8), uint64(5), false)
	f.Add(encode(0, 0, 1<<31-1, "k", -1, 0), int32(1), int64(0), int64(0), uint8(16), uint64(6), false)
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0}, int32(1), int64(0), int64(0), uint8(0), uint64(7), false)
	f.Fuzz(func(t *testing.T, section []byte, count int32, baseMs, maxMs int64, config uint8, seed uint64, appendTime bool) {
		b := uncompressed(section, func(h *Header) {
			h.Count, h.BaseTimestampMs, h.MaxTimestampMs = count, baseMs, maxMs
			if appendTime {
				h.Attributes = attrLogAppendTime
			}
		})
		r := rand.New(rand.NewPCG(seed, 1))
		var cuts []int
		for at := HeaderBytes; at < len(b); at += 1 + r.IntN(max(1, len(b)>>r.IntN(12))) {
			cuts = append(cuts, at)
		}
		rules := DefaultRules(nowMs)
		rules.KeyRequired, rules.LogAppendTime = config&1 != 0, config&2 != 0
		if config&4 != 0 {
			rules.AfterMaxMs = math.MaxInt64
		}
		if config&8 != 0 {
			rules.BeforeMaxMs = 1000
		}
		if config&16 != 0 {
			rules.Target = CodecLZ4
		}
		plainOut, plainHeader, plainErr := Prepare(bytes.Clone(b), &rules, nil)
		rules.Facts = scanned(b, len(b), cuts...)
		out, h, err := Prepare(bytes.Clone(b), &rules, nil)
		if fmt.Sprint(err) != fmt.Sprint(plainErr) || h != plainHeader || !bytes.Equal(out, plainOut) {
			t.Fatalf("cut at %v, facts %+v:\n%v, %v\nwithout: %v, %v", cuts, rules.Facts, h, err, plainHeader, plainErr)
		}
		var got, want *RecordsError
		if errors.As(err, &got) != errors.As(plainErr, &want) || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, without facts %+v", got, want)
		}
		if whole := scanned(b, len(b)); whole != rules.Facts {
			t.Fatalf("cut at %v: %+v, whole %+v", cuts, rules.Facts, whole)
		}
		if plainErr == nil && !rules.Facts.Sound {
			t.Fatal("a good batch was looked at twice")
		}
	})
}

// TestScanDoesNotAllocate: nothing per batch or record.
func TestScanDoesNotAllocate(t *testing.T) {
	for _, b := range [][]byte{kibBatch(t, CodecNone, 1000), build(t, CodecNone, 100, nil)} {
		if n := testing.AllocsPerRun(20, func() { scanned(b, len(b), len(b)/3, len(b)/2) }); n != 0 && !raceEnabled {
			t.Errorf("%v allocations", n)
		}
	}
}

// BenchmarkScan compares the walk in steps with the second look, of records that are in cache.
func BenchmarkScan(b *testing.B) {
	for _, valueBytes := range []int{10, 100, 1000} {
		var builder Builder
		n := 100_000 / (valueBytes + 10)
		for i := range n {
			builder.Add(nowMs+int64(i/10), nil, make([]byte, valueBytes))
		}
		raw, err := builder.Bytes()
		if err != nil {
			b.Fatal(err)
		}
		for _, walk := range []bool{false, true} {
			b.Run(fmt.Sprintf("bytes=%d/again=%v", valueBytes, walk), func(b *testing.B) {
				r := rules()
				r.ChecksumOK = true
				b.ReportAllocs()
				for b.Loop() {
					if !walk {
						r.Facts = scanned(raw, len(raw))
					}
					if _, _, err := Prepare(raw, r, nil); err != nil {
						b.Fatal(err)
					}
				}
				perBatch := b.Elapsed().Seconds() / float64(b.N)
				b.ReportMetric(perBatch*1e9/float64(n), "ns/record")
				b.ReportMetric(perBatch*1e9/float64(len(raw)), "s/GB")
			})
		}
	}
}
