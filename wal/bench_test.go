package wal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
)

// slowFS is the operating system's with a slower device: each durable write takes a while longer.
type slowFS struct {
	wal.FS
	delay time.Duration
}

type slowFile struct {
	wal.File
	delay time.Duration
}

func (f slowFS) Open(name string, flags wal.OpenFlags) (wal.File, error) {
	file, err := f.FS.Open(name, flags)
	if err != nil || flags&wal.OpenDSync == 0 {
		return file, err
	}
	return slowFile{file, f.delay}, nil
}

func (f slowFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	time.Sleep(f.delay)
	return n, err
}

// closedLoop has each of n appenders append an entry, wait until it is durable, and so on. A trimmer follows, as uploads do.
func closedLoop(b *testing.B, o wal.Options, n, size int) {
	l, stop := start(b, o)
	defer func() {
		if err := stop(); err != nil {
			b.Error(err)
		}
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	}()
	trimming, stopTrimming := context.WithCancel(b.Context())
	var trimmer sync.WaitGroup
	trimmer.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for trimming.Err() == nil {
			select {
			case <-trimming.Done():
			case <-tick.C:
				if err := l.Trim(l.Durable()); err != nil {
					b.Error(err)
				}
			}
		}
	})
	payloads := make([][]byte, n) // each its own, as in frames that come from connections
	rng := rand.NewChaCha8([32]byte{})
	for i := range payloads {
		payloads[i] = make([]byte, size)
		_, _ = rng.Read(payloads[i]) // never fails
	}
	var left atomic.Int64
	loop := func(data []byte, record []time.Duration) []time.Duration {
		done := make(waitFor, 1)
		ctx := b.Context()
		for left.Add(-1) >= 0 {
			began := time.Now()
			a, err := l.Admit(ctx, size)
			if err != nil {
				b.Error(err)
				break
			}
			r := l.Append(a, size, done)
			r.Write(data)
			r.Done()
			if err := <-done; err != nil {
				b.Error(err)
				break
			}
			if len(record) < cap(record) {
				record = append(record, time.Since(began))
			}
		}
		return record
	}
	run := func(ops int) []time.Duration {
		left.Store(int64(ops))
		latencies := make([][]time.Duration, n)
		var wg sync.WaitGroup
		for i := range n {
			latencies[i] = make([]time.Duration, 0, min(ops, 8*ops/n+64))
			wg.Go(func() { latencies[i] = loop(payloads[i], latencies[i]) })
		}
		wg.Wait()
		return slices.Concat(latencies...)
	}
	run(2*n + b.N/5)
	before := l.Stats()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	latencies := run(b.N)
	b.StopTimer()
	after := l.Stats()
	stopTrimming()
	trimmer.Wait()
	slices.Sort(latencies)
	micros := func(p float64) float64 {
		return float64(latencies[min(len(latencies)-1, int(p*float64(len(latencies))))]) / float64(time.Microsecond)
	}
	b.ReportMetric(float64(after.InFlightLimit), "limit")
	b.ReportMetric(micros(0.5), "p50-µs")
	b.ReportMetric(micros(0.99), "p99-µs")
	b.ReportMetric(float64(after.Entries-before.Entries)/float64(after.Groups-before.Groups), "entries/group")
}

func BenchmarkClosedLoop(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 128 << 10, 1 << 20} {
		for _, n := range []int{1, 64, 256, 1024} {
			if size*n > 128<<20 {
				continue
			}
			b.Run(fmt.Sprintf("size=%d/appenders=%d", size, n), func(b *testing.B) {
				closedLoop(b, benchOptions(b), n, size)
			})
		}
	}
}

// BenchmarkFirstStream begins without used files: segments are zeroed while appends go on, until trimming yields some.
func BenchmarkFirstStream(b *testing.B) {
	for _, n := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("size=1024/appenders=%d", n), func(b *testing.B) {
			o := benchOptions(b)
			o.FreeDir += "-empty"
			closedLoop(b, o, n, 1024)
		})
	}
}

// BenchmarkSlowDevice is with 2.6 ms more per durable write, as many a cloud volume takes.
func BenchmarkSlowDevice(b *testing.B) {
	for _, limit := range []int{1, 2, 4, 8} {
		for _, c := range []struct{ n, size int }{{64, 1 << 10}, {256, 16 << 10}, {64, 128 << 10}} {
			b.Run(fmt.Sprintf("max-in-flight=%d/size=%d/appenders=%d", limit, c.size, c.n), func(b *testing.B) {
				o := benchOptions(b)
				o.FS, o.MaxInFlight = slowFS{wal.OSFS(), 2600 * time.Microsecond}, limit
				closedLoop(b, o, c.n, c.size)
			})
		}
	}
}

// benchOptions come with a full pool of used segment files, as any but the first stream finds it.
func benchOptions(b *testing.B) wal.Options {
	root := b.TempDir()
	o := wal.Options{Dir: filepath.Join(root, "1"), FreeDir: filepath.Join(root, "free"), Epoch: 1}
	l, stop := start(b, o)
	data := make([]byte, 4<<20)
	for range 100 {
		if _, err := appendWait(b.Context(), l, data); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(stop(), l.Close(), l.Remove()); err != nil {
		b.Fatal(err)
	}
	return o
}

// BenchmarkNew is the time until a stream is ready: with nothing there, and with a used segment file.
func BenchmarkNew(b *testing.B) {
	for _, c := range []string{"empty", "used-file"} {
		b.Run(c, func(b *testing.B) {
			root := b.TempDir()
			for i := range b.N {
				b.StopTimer()
				o := wal.Options{Dir: filepath.Join(root, fmt.Sprint(i)), FreeDir: filepath.Join(root, "free"), Epoch: 1}
				if c == "empty" {
					o.FreeDir = ""
				} else {
					o = o.WithTestSizes(0, 64<<20)
				}
				b.StartTimer()
				l, err := wal.New(o)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				r, err := wal.Recover(o)
				if err != nil {
					b.Fatal(err)
				}
				if err := r.Remove(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBurst appends what fills all slabs, into memory that is resident and into memory that was given back before.
func BenchmarkBurst(b *testing.B) {
	for _, relaxed := range []bool{false, true} {
		b.Run(fmt.Sprintf("relaxed=%v", relaxed), func(b *testing.B) {
			o := benchOptions(b)
			o.Sync = wal.SyncNone
			l, stop := start(b, o)
			data := make([]byte, 1<<20-64)
			const entries = 120
			burst := func() {
				outcomes := make(waitFor, entries)
				for range entries {
					a, err := l.Admit(b.Context(), len(data))
					if err != nil {
						b.Fatal(err)
					}
					r := l.Append(a, len(data), outcomes)
					r.Write(data)
					r.Done()
				}
				for range entries {
					if err := <-outcomes; err != nil {
						b.Fatal(err)
					}
				}
			}
			burst()
			b.SetBytes(entries << 20)
			for b.Loop() {
				b.StopTimer()
				if err := l.Trim(l.Durable()); err != nil {
					b.Fatal(err)
				}
				if relaxed {
					l.Relax()
				}
				b.StartTimer()
				burst()
			}
			if err := errors.Join(stop(), l.Close()); err != nil {
				b.Error(err)
			}
		})
	}
}
