package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var allCodecs = []Codec{CodecNone, CodecGzip, CodecSnappy, CodecLZ4, CodecZstd}

const nowMs = 1_700_000_000_000

// build makes a batch of n records with keys, values, headers and nulls, 10 ms apart.
func build(t testing.TB, codec Codec, n int, change func(*Builder)) []byte {
	t.Helper()
	b := Builder{Codec: codec}
	if change != nil {
		change(&b)
	}
	for i := range n {
		b.Add(nowMs+int64(i)*10, fmt.Appendf(nil, "key-%d", i), bytes.Repeat([]byte{byte(i)}, 100), RecordHeader{Key: []byte("h"), Value: nil})
	}
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// reseal fixes the CRC after a test changed b.
func reseal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[crcAt:], Checksum(b))
	return b
}

func rules() *Rules {
	r := DefaultRules(nowMs)
	return &r
}

// prepare is Prepare of a copy of b with all the memory that there may be.
func prepare(b []byte, r *Rules) (Header, error) {
	_, h, err := Prepare(bytes.Clone(b), r, testOpener)
	return h, err
}

// testOpener is shared by all tests, so that each begins with what the others left.
var testOpener = NewOpener(LargeOpenerBytes)

func TestValidateAccepts(t *testing.T) {
	for _, codec := range allCodecs {
		t.Run(codec.String(), func(t *testing.T) {
			b := build(t, codec, 50, nil)
			strict := rules()
			strict.KeyRequired, strict.BeforeMaxMs = true, 1000
			for _, r := range []*Rules{rules(), strict} {
				h, err := prepare(b, r)
				if err != nil {
					t.Fatal(err)
				}
				if h.Count != 50 || h.Codec() != codec || h.MaxTimestampMs != nowMs+490 || h.SizeBytes != len(b) {
					t.Fatalf("header %+v", h)
				}
			}
			var k kmsg.RecordBatch // another implementation reads what the builder writes
			if err := k.ReadFrom(b); err != nil || k.NumRecords != 50 || k.LastOffsetDelta != 49 {
				t.Fatalf("kmsg: %v %+v", err, k)
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	change := func(f func(b []byte)) func([]byte) []byte {
		return func(b []byte) []byte { f(b); return reseal(b) }
	}
	put16 := func(at int, v uint16) func([]byte) []byte {
		return change(func(b []byte) { binary.BigEndian.PutUint16(b[at:], v) })
	}
	put32 := func(at int, v uint32) func([]byte) []byte {
		return change(func(b []byte) { binary.BigEndian.PutUint32(b[at:], v) })
	}
	put64 := func(at int, v uint64) func([]byte) []byte {
		return change(func(b []byte) { binary.BigEndian.PutUint64(b[at:], v) })
	}
	tests := []struct {
		name  string
		codec Codec
		edit  func([]byte) []byte
		rules func(*Rules)
		want  error
	}{
		{name: "empty", edit: func([]byte) []byte { return nil }, want: ErrInvalid},
		{name: "header cut off", edit: func(b []byte) []byte { return b[:40] }, want: ErrCorrupt},
		{name: "records cut off", edit: func(b []byte) []byte { return b[:len(b)-1] }, want: ErrCorrupt},
		{name: "two batches", edit: func(b []byte) []byte { return append(b, b...) }, want: ErrInvalid},
		{name: "trailing byte", edit: func(b []byte) []byte { return append(b, 0) }, want: ErrInvalid},
		{name: "magic 1", edit: func(b []byte) []byte { b[magicAt] = 1; return b }, want: ErrMagic},
		{name: "magic 0", edit: func(b []byte) []byte { b[magicAt] = 0; return b }, want: ErrMagic},
		{name: "wrong crc", edit: func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, want: ErrCorrupt},
		{name: "base offset", edit: func(b []byte) []byte { b[7] = 1; return b }, want: ErrInvalid},
		{name: "too large", rules: func(r *Rules) { r.MaxBytes = 100 }, want: ErrTooLarge},
		{name: "count too high", edit: put32(countAt, 51), want: ErrInvalid},
		{name: "count 0", edit: put32(countAt, 0), want: ErrInvalid},
		{name: "count negative", edit: put32(countAt, 0xffffffff), want: ErrInvalid},
		{name: "last offset delta negative", edit: put32(lastOffsetDeltaAt, 0xffffffff), want: ErrInvalid},
		{name: "fewer records than counted", edit: change(func(b []byte) {
			binary.BigEndian.PutUint32(b[countAt:], 60)
			binary.BigEndian.PutUint32(b[lastOffsetDeltaAt:], 59)
		}), want: ErrInvalid},
		{name: "more records than counted", edit: change(func(b []byte) {
			binary.BigEndian.PutUint32(b[countAt:], 40)
			binary.BigEndian.PutUint32(b[lastOffsetDeltaAt:], 39)
		}), want: ErrInvalid},
		{name: "control", edit: put16(attributesAt, attrControl), want: ErrInvalid},
		{name: "sequence without", edit: put64(producerIDAt, 7), want: ErrInvalid},
		{name: "codec 5", edit: put16(attributesAt, 5), want: ErrCodec},
		{name: "codec 7", edit: put16(attributesAt, 7), want: ErrCodec},
		{name: "zstd before v7", codec: CodecZstd, rules: func(r *Rules) { r.ZstdAllowed = false }, want: ErrCodec},
		{name: "append time by the producer", edit: put16(attributesAt, attrLogAppendTime), rules: func(r *Rules) { r.LogAppendTime = true }, want: ErrTimestamp},
		{name: "too old", rules: func(r *Rules) { r.NowMs, r.BeforeMaxMs = nowMs+1000, 600 }, want: ErrTimestamp},
		{name: "too old, compressed", codec: CodecLZ4, rules: func(r *Rules) { r.NowMs, r.BeforeMaxMs = nowMs+1000, 600 }, want: ErrTimestamp},
		{name: "too new", rules: func(r *Rules) { r.AfterMaxMs = 400 }, want: ErrTimestamp},
		{name: "too new, compressed", codec: CodecGzip, rules: func(r *Rules) { r.AfterMaxMs = 400 }, want: ErrTimestamp},
		{name: "inflates too much", codec: CodecGzip, rules: func(r *Rules) { r.KeyRequired, r.MaxInflatedBytes = true, 1000 }, want: ErrTooLarge},
		{name: "inflates too much, zstd", codec: CodecZstd, rules: func(r *Rules) { r.KeyRequired, r.MaxInflatedBytes = true, 1000 }, want: ErrTooLarge},
		{name: "inflates too much, snappy", codec: CodecSnappy, rules: func(r *Rules) { r.KeyRequired, r.MaxInflatedBytes = true, 1000 }, want: ErrTooLarge},
		{name: "inflates too much, lz4", codec: CodecLZ4, rules: func(r *Rules) { r.KeyRequired, r.MaxInflatedBytes = true, 1000 }, want: ErrTooLarge},
		{name: "garbage where gzip should be", codec: CodecGzip, rules: func(r *Rules) { r.KeyRequired = true },
			edit: change(func(b []byte) { clear(b[HeaderBytes : HeaderBytes+8]) }), want: ErrCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := build(t, tt.codec, 50, nil)
			if tt.edit != nil {
				b = tt.edit(b)
			}
			r := rules()
			if tt.rules != nil {
				tt.rules(r)
			}
			if _, err := prepare(b, r); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestValidateRecordErrors(t *testing.T) {
	for _, codec := range allCodecs {
		b := Builder{Codec: codec}
		b.Add(nowMs, []byte("k"), nil)
		b.Add(nowMs, nil, []byte("v"))
		b.Add(nowMs-5000, []byte("k"), []byte("v"))
		b.Add(-1, []byte("k"), nil) // no timestamp is never out of range
		raw, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		r := rules()
		r.KeyRequired = true
		var refused *RecordsError
		if _, err := prepare(raw, r); !errors.As(err, &refused) || !errors.Is(err, ErrInvalid) || len(refused.Records) != 1 || refused.Records[0].Index != 1 {
			t.Fatalf("%s: %v", codec, err)
		}
		r.BeforeMaxMs = 1000
		if _, err := prepare(raw, r); !errors.As(err, &refused) || !errors.Is(err, ErrTimestamp) || len(refused.Records) != 2 || refused.Records[1].Index != 2 {
			t.Fatalf("%s: %v", codec, err)
		}
	}
}

func TestWrongOffsetDeltasAndRecords(t *testing.T) {
	record := func(fields ...any) []byte {
		var r []byte
		for _, f := range fields {
			switch v := f.(type) {
			case int:
				r = appendVarint(r, int64(v))
			case string:
				r = append(r, v...)
			}
		}
		return append(appendVarint(nil, int64(len(r)+1)), append([]byte{0}, r...)...)
	}
	tests := map[string][]byte{
		"delta 1 first":         record(0, 1, -1, -1, 0),
		"negative delta":        record(0, -1, -1, -1, 0),
		"key longer than rest":  record(0, 0, 100, "k", -1, 0),
		"negative header count": record(0, 0, -1, -1, -1),
		"header count too high": record(0, 0, -1, -1, 1000),
		"null header key":       record(0, 0, -1, -1, 1, -1, -1),
		"bytes left in record":  record(0, 0, -1, -1, 0, "x"),
		"varint too long":       append([]byte{30}, bytes.Repeat([]byte{0xff}, 15)...),
		"length beyond section": {100, 0},
		"empty":                 {},
	}
	for name, section := range tests {
		good := build(t, CodecNone, 1, nil)
		b := append(good[:HeaderBytes:HeaderBytes], section...)
		binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-frameOverheadBytes))
		if _, err := prepare(reseal(b), rules()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := build(t, CodecNone, 1, nil)
	b := append(good[:HeaderBytes:HeaderBytes], record(0, 0, -1, -1, 1, 1, "k", -1)...)
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-frameOverheadBytes))
	if _, err := prepare(reseal(b), rules()); errors.Is(err, ErrInvalid) {
		t.Errorf("record() makes nothing valid: %v", err)
	}
}

func TestPrepareLogAppendTime(t *testing.T) {
	for _, codec := range allCodecs {
		b := build(t, codec, 10, nil)
		section := bytes.Clone(b[HeaderBytes:])
		r := rules()
		r.LogAppendTime, r.NowMs, r.AfterMaxMs, r.BeforeMaxMs = true, nowMs+77777, 0, 0 // the limits do not apply
		out, h, err := Prepare(b, r, testOpener)
		if err != nil {
			t.Fatal(err)
		}
		if &out[0] != &b[0] || !bytes.Equal(out[HeaderBytes:], section) {
			t.Fatalf("%s: records were re-encoded", codec)
		}
		back, err := Parse(out)
		if err != nil || back != h || !h.IsLogAppendTime() || h.MaxTimestampMs != nowMs+77777 || Checksum(out) != h.CRC || h.Codec() != codec {
			t.Fatalf("%s: %+v %v", codec, h, err)
		}
		at, ok, err := FindTimestamp(out, nowMs+77777, 0)
		if err != nil || !ok || at.Offset != 0 || at.TimestampMs != nowMs+77777 {
			t.Fatalf("%s: append time lookup: %+v %v %v", codec, at, ok, err)
		}
	}
}

func TestPrepareCorrectsMaxTimestamp(t *testing.T) {
	b := build(t, CodecNone, 10, nil)
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(nowMs-1))
	out, h, err := Prepare(reseal(b), rules(), testOpener)
	if err != nil || h.MaxTimestampMs != nowMs+90 || Checksum(out) != h.CRC {
		t.Fatalf("%+v %v", h, err)
	}
	// A LogAppendTime bit from the producer is cleared on a CreateTime topic.
	b = build(t, CodecNone, 10, nil)
	b[attributesAt+1] |= attrLogAppendTime
	if _, h, err = Prepare(reseal(b), rules(), testOpener); err != nil || h.IsLogAppendTime() {
		t.Fatalf("%+v %v", h, err)
	}
}

func TestPrepareRecompresses(t *testing.T) {
	for _, from := range allCodecs {
		for _, to := range allCodecs {
			b := build(t, from, 200, func(b *Builder) { b.HasProducer, b.ProducerID, b.ProducerEpoch, b.BaseSequence = true, 9, 2, 40 })
			r := rules()
			r.Target = to
			out, h, err := Prepare(b, r, testOpener)
			if err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			if h.Codec() != to || h.ProducerID != 9 || h.BaseSequence != 40 || h.LastSequence() != 239 || Checksum(out) != h.CRC || h.SizeBytes != len(out) {
				t.Fatalf("%s to %s: %+v", from, to, h)
			}
			if from == to && &out[0] != &b[0] {
				t.Fatalf("%s was re-encoded", from)
			}
			want, _ := Parse(b)
			wantSection, err := Inflate(b, &want, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			section, err := Inflate(out, &h, nil, 0)
			if err != nil || !bytes.Equal(section, wantSection) {
				t.Fatalf("%s to %s: records differ: %v", from, to, err)
			}
		}
	}
	r := rules()
	r.Target, r.MaxBytes = CodecNone, 2000
	if _, _, err := Prepare(build(t, CodecGzip, 200, nil), r, testOpener); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("too large after re-encoding: %v", err)
	}
}

func TestRawAndConcatenatedSnappy(t *testing.T) {
	section := bytes.Repeat([]byte("tidemark "), 20000)
	twice := deflateXerial(section, nil)
	twice = deflateXerial(section, twice)
	out, err := inflate(CodecSnappy, twice, nil, 1<<20)
	if err != nil || !bytes.Equal(out, append(bytes.Clone(section), section...)) {
		t.Fatalf("concatenated xerial streams: %d bytes, %v", len(out), err)
	}
	if _, err := inflate(CodecSnappy, twice, nil, len(section)); !errors.Is(err, ErrInflated) {
		t.Fatalf("bound: %v", err)
	}
	// A block that declares 1 GiB costs nothing.
	huge := binary.AppendUvarint(nil, 1<<30)
	if _, err := inflate(CodecSnappy, huge, nil, math.MaxInt32); err == nil || errors.Is(err, ErrInflated) {
		t.Fatalf("declared length: %v", err)
	}
}

func TestTimestampLookup(t *testing.T) {
	for _, codec := range allCodecs {
		b := Builder{Codec: codec, BaseOffset: 1000}
		for _, ts := range []int64{50, 40, 70, 70, 60} {
			b.Add(ts, nil, nil)
		}
		raw, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		finds := []struct {
			ts, from int64
			want     At
			ok       bool
		}{
			{ts: 0, want: At{1000, 50}, ok: true},
			{ts: 51, want: At{1002, 70}, ok: true},
			{ts: 60, from: 1003, want: At{1003, 70}, ok: true},
			{ts: 55, from: 1004, want: At{1004, 60}, ok: true},
			{ts: 71},
			{ts: 0, from: 1005},
		}
		for _, f := range finds {
			at, ok, err := FindTimestamp(raw, f.ts, f.from)
			if err != nil || ok != f.ok || at != f.want {
				t.Errorf("%s: ts %d from %d: %+v %v %v", codec, f.ts, f.from, at, ok, err)
			}
		}
		if at, ok, err := MaxTimestamp(raw, 0); err != nil || !ok || at != (At{1002, 70}) {
			t.Errorf("%s: max %+v %v %v", codec, at, ok, err)
		}
		if at, ok, err := MaxTimestamp(raw, 1004); err != nil || !ok || at != (At{1004, 60}) {
			t.Errorf("%s: max from 1004 %+v %v %v", codec, at, ok, err)
		}
	}
}

func TestSequenceWraps(t *testing.T) {
	h := Header{BaseSequence: math.MaxInt32 - 1, LastOffsetDelta: 3}
	if h.LastSequence() != 1 {
		t.Fatal(h.LastSequence())
	}
	if (&Header{BaseSequence: -1}).LastSequence() != -1 {
		t.Fatal("without producer")
	}
}

func TestVarint(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 63, 64, -64, -65, 1 << 20, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		enc := appendVarint(nil, v)
		if got, n := varint(enc); got != v || n != len(enc) {
			t.Errorf("%d: %d of %d bytes", v, got, n)
		}
		if _, n := varint(enc[:len(enc)-1]); n != 0 {
			t.Errorf("%d cut off: %d", v, n)
		}
		if want, n := binary.Varint(enc); want != v || n != len(enc) {
			t.Errorf("%d: encoding/binary reads %d", v, want)
		}
	}
}

func TestCodecNames(t *testing.T) {
	for _, c := range append(allCodecs, CodecProducer) {
		if back, err := ParseCodec(c.String()); err != nil || back != c {
			t.Errorf("%s: %v %v", c, back, err)
		}
	}
	if _, err := ParseCodec("brotli"); err == nil {
		t.Error("brotli accepted")
	}
}
