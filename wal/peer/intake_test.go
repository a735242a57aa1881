package peer

import (
	"math/rand/v2"
	"testing"

	"github.com/tidemarkmq/tidemark/wal"
)

// TestIntake: whatever a client does that keeps to the window finds a place, and comes out as it went in.
func TestIntake(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const window = 64 << 10
		q := newIntake(window)
		q.mem = q.mem[:2*window] // so that it wraps
		type block struct {
			at  wal.Position
			tag byte
		}
		var in []block
		pos, segment, taken := wal.Position(0), uint64(1), wal.Chunk{}
		take := func() {
			k, ok := q.take()
			if !ok || k.Position != in[0].at || k.Segment.Sequence == 0 {
				t.Fatalf("seed %d: %d, want %d", seed, k.Position, in[0].at)
			}
			for i := 0; i < len(k.Bytes); i += blockBytes {
				if in[0].at != k.Position+wal.Position(i) || k.Bytes[i] != in[0].tag || k.Bytes[i+blockBytes-1] != in[0].tag {
					t.Fatalf("seed %d: the block at %d", seed, in[0].at)
				}
				in = in[1:]
			}
			taken = k
		}
		for range 5000 {
			n := blockBytes * (1 + rng.IntN(1<<rng.IntN(6)))
			if q.held > 0 && q.held+n > window {
				if n > window {
					continue
				}
				if len(taken.Bytes) == 0 {
					take()
				}
				q.release(len(taken.Bytes)) // late, so that the next one arrives while it is being written
				taken.Bytes = nil
				continue
			}
			b, err := q.reserve(n)
			must(t, err)
			if rng.IntN(10) == 0 {
				pos, segment = pos+1<<20, segment+1
			}
			for i := 0; i < n; i += blockBytes {
				tag := byte(rng.Uint32())
				in = append(in, block{pos + wal.Position(i), tag})
				b[i], b[i+blockBytes-1] = tag, tag
			}
			q.commit(wal.Chunk{Segment: wal.SegmentRef{Sequence: segment}, Position: pos, Bytes: b})
			pos += wal.Position(n)
			if len(taken.Bytes) == 0 && rng.IntN(4) == 0 {
				take()
			}
		}
		if _, err := q.reserve(2*window + blockBytes); err == nil {
			t.Fatal("more than there is memory")
		}
		q.finish()
		if _, ok := q.take(); ok {
			t.Fatal("it was over")
		}
	}
}
