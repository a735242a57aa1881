package batch

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// kibBatch makes a batch of n records of 1 KiB with values that compress to about half.
func kibBatch(t testing.TB, codec Codec, n int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 4096)
	for i := range words {
		words[i] = fmt.Sprintf("%x", rnd.Uint32())
	}
	b := Builder{Codec: codec}
	for i := range n {
		value := make([]byte, 0, 1024)
		for len(value) < 1000 {
			value = append(append(value, words[rnd.IntN(len(words))]...), `", "name": "`...)
		}
		b.Add(nowMs+int64(i), fmt.Appendf(nil, "key-%06d", i), value[:1000])
	}
	raw, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestPrepareDoesNotAllocate: nothing per batch, whatever its codec, and so nothing per record.
func TestPrepareDoesNotAllocate(t *testing.T) {
	for _, codec := range allCodecs {
		o := NewOpener(SmallOpenerBytes)
		r := rules()
		r.MaxBytes = 2 << 20
		r.KeyRequired = true
		for _, raw := range [][]byte{build(t, codec, 1000, nil), kibBatch(t, codec, 1000)} {
			if n := testing.AllocsPerRun(50, func() {
				if _, _, err := Prepare(raw, r, o); err != nil {
					t.Fatal(err)
				}
			}); n != 0 && !raceEnabled {
				t.Errorf("%s: %v allocations", codec, n)
			}
		}
	}
}

// BenchmarkPrepare measures what a batch of 1000 records of 1 KiB costs beside its CRC. s/GB is per GB of uncompressed records.
func BenchmarkPrepare(b *testing.B) {
	for _, codec := range allCodecs {
		b.Run(codec.String(), func(b *testing.B) { benchPrepare(b, codec, false) })
	}
	b.Run("zstd unopened", func(b *testing.B) { benchPrepare(b, CodecZstd, true) })
}

func benchPrepare(b *testing.B, codec Codec, trust bool) {
	const n = 1000
	raw := kibBatch(b, codec, n)
	plain := len(kibBatch(b, CodecNone, n)) - HeaderBytes
	r := rules()
	r.MaxBytes, r.ChecksumOK, r.TrustCompressed = 2<<20, true, trust
	o := NewOpener(SmallOpenerBytes)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Prepare(raw, r, o); err != nil {
			b.Fatal(err)
		}
	}
	perBatch := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(perBatch*1e9/n, "ns/record")
	b.ReportMetric(perBatch*1e9/float64(plain), "s/GB")
	b.ReportMetric(float64(plain)/float64(len(raw)), "ratio")
}
