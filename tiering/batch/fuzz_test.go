package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// FuzzPrepare: no input may crash, hang or allocate beyond the bound, and whatever is accepted must read back.
func FuzzPrepare(f *testing.F) {
	for _, c := range allCodecs {
		f.Add(build(f, c, 3, nil), int8(CodecProducer), true)
		f.Add(build(f, c, 3, nil), int8(CodecNone), false)
		f.Add(build(f, c, 3, nil)[:HeaderBytes], int8(c), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, target int8, logAppendTime bool) {
		if len(b) >= HeaderBytes { // so that the fuzzer gets past length and CRC
			b = bytes.Clone(b)
			binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-frameOverheadBytes))
			reseal(b)
		}
		r := DefaultRules(nowMs)
		r.KeyRequired, r.MaxInflatedBytes, r.LogAppendTime, r.Target = true, 1<<20, logAppendTime, Codec(target%5)
		out, h, err := Prepare(b, &r, testOpener)
		if err != nil {
			for _, kind := range []error{ErrCorrupt, ErrInvalid, ErrMagic, ErrCodec, ErrTooLarge, ErrTimestamp} {
				if errors.Is(err, kind) {
					return
				}
			}
			t.Fatalf("a refusal without Kafka's code: %v", err)
		}
		back, err := Parse(out)
		if err != nil || back != h || Checksum(out) != h.CRC {
			t.Fatalf("accepted batch does not parse: %v", err)
		}
		section, err := Inflate(out, &h, nil, 1<<20)
		if err != nil {
			t.Fatalf("accepted batch does not inflate: %v", err)
		}
		w, rec, n := Walk(section, h.Count), Record{}, int32(0)
		for {
			ok, err := w.Next(&rec)
			if err != nil {
				t.Fatalf("accepted batch does not walk: %v", err)
			}
			if !ok {
				break
			}
			for hs, i := rec.Headers, int32(0); i < rec.HeaderCount; i++ {
				if _, hs, err = NextHeader(hs); err != nil {
					t.Fatal(err)
				}
			}
			n++
		}
		if n != h.Count {
			t.Fatalf("%d records, header says %d", n, h.Count)
		}
	})
}

// FuzzLookup: stored batches are read without having been checked record by record.
func FuzzLookup(f *testing.F) {
	for _, c := range allCodecs {
		f.Add(build(f, c, 3, nil), int64(nowMs), int64(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, ts, from int64) {
		at, ok, err := FindTimestamp(b, ts, from)
		if ok && (err != nil || at.TimestampMs < ts || at.Offset < from) {
			t.Fatalf("%+v %v", at, err)
		}
		_, _, _ = MaxTimestamp(b, from)
	})
}

// FuzzInflate: compressed sections of any content stay within the bound.
func FuzzInflate(f *testing.F) {
	for _, c := range allCodecs[1:] {
		section, err := deflate(c, bytes.Repeat([]byte("tidemark"), 1000), nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(int8(c), section)
	}
	f.Fuzz(func(t *testing.T, c int8, section []byte) {
		out, err := inflate(Codec(c), section, nil, 64<<10)
		if err == nil && len(out) > 64<<10 {
			t.Fatalf("%d bytes", len(out))
		}
	})
}

// FuzzStream: records that come in pieces are taken and refused exactly as those in one, wherever the pieces end.
func FuzzStream(f *testing.F) {
	good := append(encode(0, 0, 3, "key", 5, "value", 1, 1, "h", 2, "hv"), encode(-3, 1, -1, -1, 0)...)
	f.Add(good, int32(2), 7)
	f.Add(good[:len(good)-1], int32(2), 1)
	f.Add(append(encode(0, 0, -1, -1, 1, -1, -1), 1, 2), int32(1), 3)
	f.Add(encode(0, 0, 1<<31-1, "k", -1, 0), int32(2), 2)
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0}, int32(1), 1)
	f.Fuzz(func(t *testing.T, section []byte, count int32, piece int) {
		if count < 0 || piece < 1 {
			return
		}
		w := Walk(section, count)
		s := stream{src: &slices{rest: section, n: piece}, left: len(section), maxBytes: len(section)}
		for i := int32(0); ; i++ {
			var want, got Record
			more, err := w.Next(&want)
			moreInPieces, errInPieces := s.next(i, count, &got)
			if more != moreInPieces || (err == nil) != (errInPieces == nil) {
				t.Fatalf("record %d: %v %v in one piece, %v %v in pieces of %d", i, more, err, moreInPieces, errInPieces, piece)
			}
			if !more {
				return
			}
			if want.OffsetDelta != got.OffsetDelta || want.TimestampDeltaMs != got.TimestampDeltaMs || want.HeaderCount != got.HeaderCount ||
				(want.Key == nil) != (got.Key == nil) || (want.Value == nil) != (got.Value == nil) {
				t.Fatalf("record %d: %+v in one piece, %+v in pieces of %d", i, want, got, piece)
			}
		}
	})
}
