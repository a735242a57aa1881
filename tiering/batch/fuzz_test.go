package batch

import (
	"bytes"
	"testing"
)

// FuzzPrepare: no input may crash, hang or allocate beyond the bound, and whatever is accepted must read back.
func FuzzPrepare(f *testing.F) {
	for _, c := range allCodecs {
		f.Add(build(f, c, 3, nil), int8(CodecProducer), true)
		f.Add(build(f, c, 3, nil), int8(CodecNone), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, target int8, logAppendTime bool) {
		if len(b) > HeaderBytes {
			b = reseal(bytes.Clone(b)) // so that the fuzzer gets past the CRC
		}
		r := DefaultRules(nowMs)
		r.KeyRequired, r.MaxInflatedBytes, r.LogAppendTime, r.Target = true, 1<<20, logAppendTime, Codec(target%5)
		out, h, err := Prepare(b, &r)
		if err != nil {
			return
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
