package partition

import (
	"testing"

	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/wal"
)

// TestEntriesAreReadBackFromTheLog: the checksum of an entry is right whether it was computed over the bytes or follows from the
// batch's, and whether the batch's is the producer's or was computed anew. Only reading the file shows it: memory is not checked.
func TestEntriesAreReadBackFromTheLog(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"as sent":   func(*Config) {},
		"restamped": func(c *Config) { c.LogAppendTime = true },
		"encoded":   func(c *Config) { c.Codec = batch.CodecNone },
	} {
		r := newRig(t, nil)
		p := r.open(func(s *OpenState) { change(s.Config) })
		sizes := []int{1, combineBytes - 200, combineBytes - batch.HeaderBytes, combineBytes, 60 << 10}
		for _, n := range sizes {
			r.append(p, mk(t, 1, n, 0, nil))
			r.append(p, mk(t, 3, n/3+1, 0, func(b *batch.Builder) { b.Codec = batch.CodecLZ4 }))
		}
		type place struct {
			pos    wal.Position
			length int
		}
		var entries []place
		err := r.log.Scan(t.Context(), 0, r.log.Durable(), func(e wal.Entry) error {
			entries = append(entries, place{e.Pos, len(e.Data)})
			return nil
		})
		if err != nil || len(entries) != 2*len(sizes) {
			t.Fatalf("%s: %d entries, %v", name, len(entries), err)
		}
		for _, e := range entries {
			if err := r.log.ReadEntry(t.Context(), e.pos, make([]byte, e.length)); err != nil {
				t.Errorf("%s: entry of %d bytes: %v", name, e.length, err)
			}
		}
	}
}
