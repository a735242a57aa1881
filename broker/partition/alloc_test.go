//go:build !walcheck

package partition

import (
	"context"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/wal"
)

// signal is an Acker without allocation.
type signal chan error

func (s signal) Appended(_ int, _ Appended, err error) { s <- err }

func benchRig(t testing.TB) (*rig, *Partition) {
	r := newRig(t, func(w *wal.Options, _ *Options) { w.SegmentBytes, w.SlabBytes, w.SlabCount = 64<<20, 8<<20, 8 })
	return r, r.open(nil)
}

// appendOnce is the hot path: validate, append, wait for the commit.
func appendOnce(t testing.TB, p *Partition, b []byte, rules *batch.Rules, done signal) {
	b, h, err := batch.Prepare(b, rules, nil)
	if err == nil {
		err = p.Append(context.Background(), b, &h, done, 0)
	}
	if err == nil {
		err = <-done
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAppendAndReadDoNotAllocate(t *testing.T) {
	r, p := benchRig(t)
	b := mk(t, 100, 100, 0, nil)
	rules := p.Config().Rules(baseMs)
	done := make(signal, 1)
	for range 200 {
		appendOnce(t, p, b, &rules, done)
	}
	// The tail index grows by doubling: less than one allocation in ten batches.
	if n := testing.AllocsPerRun(500, func() { appendOnce(t, p, b, &rules, done) }); n > 0.1 {
		t.Errorf("%v allocations per append", n)
	}
	var got Batches
	offset := p.HighWatermark() - 100
	read := func() {
		if n, hot := p.ReadTail(offset, 1<<20, true, &got); n == 0 || !hot {
			t.Fatal("nothing read")
		}
		got.Release()
	}
	read()
	if n := testing.AllocsPerRun(500, read); n != 0 {
		t.Errorf("%v allocations per read", n)
	}
	if _, ok := r.set.Get(metadata.PartitionID{}); ok {
		t.Fatal("unknown partition found")
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []struct {
		name     string
		n, value int
	}{{"1KiB", 1, 900}, {"1MiB", 1000, 1000}} {
		b.Run(size.name, func(b *testing.B) {
			r, p := benchRig(b)
			raw := mk(b, size.n, size.value, 0, nil)
			rules := p.Config().Rules(baseMs)
			rules.MaxBytes, rules.ChecksumOK = 4<<20, true
			done := make(signal, 64)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			inFlight := 0
			trimmed := 0
			for b.Loop() {
				raw, h, err := batch.Prepare(raw, &rules, nil)
				if err == nil {
					err = p.Append(context.Background(), raw, &h, done, 0)
				}
				if err != nil {
					b.Fatal(err)
				}
				if inFlight++; inFlight == 16 {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
					inFlight--
				}
				if trimmed += len(raw); trimmed > 256<<20 {
					trimmed = 0
					r.set.Committed([]Range{{Partition: testID, End: p.HighWatermark()}})
					if err := r.log.Trim(r.log.Durable()); err != nil {
						b.Fatal(err)
					}
				}
			}
			for range inFlight {
				<-done
			}
		})
	}
}

func BenchmarkReadTail(b *testing.B) {
	r, p := benchRig(b)
	for range 1000 {
		r.append(p, mk(b, 1, 1000, 0, nil))
	}
	var got Batches
	total := 0
	b.ReportAllocs()
	for b.Loop() {
		n, hot := p.ReadTail(0, 1<<20, true, &got)
		if !hot {
			b.Fatal("not in memory")
		}
		total = n
		got.Release()
	}
	b.SetBytes(int64(total))
}
