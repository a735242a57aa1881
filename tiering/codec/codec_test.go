package codec

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

func TestCombineCRCEqualsCRCOfConcatenation(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 7, 8, 61, 4096, 100_003} {
		for _, m := range []int{0, 1, 5, 64, 1 << 16, 70_001} {
			b := make([]byte, n+m)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			if got, want := CombineCRC(CRC(b[:n]), CRC(b[n:]), int64(m)), CRC(b); got != want {
				t.Fatalf("lengths %d and %d: combined %08x, want %08x", n, m, got, want)
			}
		}
	}
}

func TestVarintRoundTrip(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 63, 64, -64, -65, math.MaxInt64, math.MinInt64, math.MaxInt32} {
		r := NewReader(AppendVarint(nil, v))
		if got := r.Varint(); got != v || r.Err() != nil || r.Len() != 0 {
			t.Errorf("%d read back as %d (%v, %d left)", v, got, r.Err(), r.Len())
		}
	}
}

func TestReaderBoundsLengths(t *testing.T) {
	huge := binary.AppendUvarint(nil, math.MaxUint64)
	cases := map[string]func(*Reader){
		"blob":   func(r *Reader) { r.Blob() },
		"count":  func(r *Reader) { r.Count(1) },
		"int63":  func(r *Reader) { r.Int63() },
		"int31":  func(r *Reader) { r.Int31() },
		"bytes":  func(r *Reader) { r.Bytes(100) },
		"neg":    func(r *Reader) { r.Bytes(-1) },
		"varint": func(r *Reader) { r.Bytes(len(huge)); r.Uvarint() },
	}
	for name, f := range cases {
		r := NewReader(huge)
		f(r)
		if r.Err() == nil {
			t.Errorf("%s: no error", name)
		}
		if r.Bytes(0) != nil || r.Uint32() != 0 || r.Uint64() != 0 || r.Uint8() != 0 || r.Len() != 0 {
			t.Errorf("%s: reads go on after the failure", name)
		}
	}
	r := NewReader([]byte{1, 2})
	r.Uint32()
	if !errors.Is(r.Err(), ErrTruncated) {
		t.Errorf("short uint32: %v", r.Err())
	}
}
