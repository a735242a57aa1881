package wal_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tidemarkmq/tidemark/wal"
)

// onDisk are options for a real file system.
func onDisk(t testing.TB, mode wal.SyncMode) wal.Options {
	root := t.TempDir()
	return wal.Options{
		Dir: filepath.Join(root, "wal", "9"), FreeDir: filepath.Join(root, "wal", "free"), Epoch: 9, Sync: mode,
		SegmentBytes: 1 << 20, SlabBytes: 256 << 10, SlabCount: 8,
	}
}

func TestOnTheOperatingSystem(t *testing.T) {
	for _, mode := range []wal.SyncMode{wal.SyncAuto, wal.SyncData, wal.SyncNone} {
		t.Run(mode.String(), func(t *testing.T) {
			o := onDisk(t, mode)
			began := time.Now()
			l, stop := start(t, o)
			t.Logf("mode %v, new in %v", l.Mode(), time.Since(began))
			book := newLedger()
			var wg sync.WaitGroup
			for p := range 8 {
				wg.Go(func() { workload{entries: 300}.produce(t.Context(), l, book, p) })
			}
			wg.Wait()
			if len(book.acked) != 2400 {
				t.Fatalf("%d acknowledged", len(book.acked))
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if err := l.Trim(l.Durable() / 2); err != nil {
				t.Fatal(err)
			}
			book.trimmed = l.Durable() / 2
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := wal.Recover(o)
			if err != nil {
				t.Fatal(err)
			}
			if r.End() != l.Durable() || r.Start() == 0 {
				t.Fatalf("recovered [%d, %d), durable %d", r.Start(), r.End(), l.Durable())
			}
			book.check(t, r, false)
			var dump bytes.Buffer
			if err := wal.Dump(&dump, o.Dir); err != nil || bytes.Contains(dump.Bytes(), []byte("damaged")) || bytes.Contains(dump.Bytes(), []byte("MISMATCH")) {
				t.Fatalf("%v\n%s", err, dump.String())
			}
			if err := errors.Join(r.Close(), r.Remove()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if kept, err := os.ReadDir(o.FreeDir); err != nil || len(kept) == 0 {
				t.Fatalf("%v, %v", kept, err)
			}
			if _, err := wal.Recover(o); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		})
	}
}

// TestStress: entries of all sizes, admissions given back, callers that give up, readers that hold on, a trimmer; whatever
// is admitted finds its slab, and what is acquired is what was written.
func TestStress(t *testing.T) {
	o := onDisk(t, wal.SyncNone)
	o.SlabBytes, o.SegmentBytes = 32<<10, 256<<10
	l := startOK(t, o)
	var wg, readers sync.WaitGroup
	refs := make(chan wal.Ref, 64)
	for range 4 {
		readers.Go(func() {
			for ref := range refs {
				b, ok := ref.Acquire()
				if !ok {
					continue
				}
				runtime.Gosched()
				for _, x := range b {
					if x != b[0] {
						t.Error("an acquired entry is not what was written")
						break
					}
				}
				ref.Release()
			}
		})
	}
	for p := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(p), 2))
			data := make([]byte, l.MaxEntryBytes())
			done := make(waitFor, 1)
			for i := range 300 {
				n := 1 + rng.IntN(400)
				if rng.IntN(4) == 0 {
					n = 1 + rng.IntN(l.MaxEntryBytes())
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rng.IntN(20000))*time.Microsecond)
				a, err := l.Admit(ctx, n)
				cancel()
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
						return
					}
					continue
				}
				if rng.IntN(10) == 0 {
					a.Cancel()
					continue
				}
				for j := range data[:n] {
					data[j] = byte(p + i)
				}
				r := l.Append(a, n, done)
				r.Write(data[:n/3])
				runtime.Gosched()
				r.Write(data[n/3 : n])
				ref := r.Done()
				select {
				case refs <- ref:
				default:
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				if p == 0 && i%20 == 0 {
					if err := l.Trim(l.Durable()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	close(refs)
	readers.Wait()
	if s := l.Stats(); s.AdmittedBytes != 0 || s.AdmitWaiting != 0 || s.SlabsPinned != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAppendDoesNotAllocate: neither per entry nor per group.
func TestAppendDoesNotAllocate(t *testing.T) {
	if thorough {
		t.Skip("the build tag walcheck keeps books")
	}
	l := startOK(t, onDisk(t, wal.SyncNone))
	data := make([]byte, 1000)
	done := make(waitFor, 1)
	ctx := t.Context()
	one := func() {
		a, err := l.Admit(ctx, len(data))
		if err != nil {
			t.Fatal(err)
		}
		r := l.Append(a, len(data), done)
		r.Write(data)
		ref := r.Done()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if b, ok := ref.Acquire(); !ok || len(b) != len(data) {
			t.Fatal("not acquired")
		}
		ref.Release()
	}
	for range 200 {
		one()
	}
	// Rotations, extents that grow and the runtime itself allocate now and then; AllocsPerRun rounds their share down.
	if n := testing.AllocsPerRun(2000, one); n != 0 {
		t.Errorf("%v allocations per append", n)
	}
}

func TestMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	o := onDisk(t, wal.SyncAuto)
	o.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("test")
	l := startOK(t, o)
	for i := range 10 {
		if _, err := appendWait(t.Context(), l, content(0, i)); err != nil {
			t.Fatal(err)
		}
	}
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	values := map[string]int64{}
	for _, m := range got.ScopeMetrics[0].Metrics {
		if m.Description == "" || m.Unit == "" {
			t.Errorf("%s has no description or unit", m.Name)
		}
		switch d := m.Data.(type) {
		case metricdata.Sum[int64]:
			values[m.Name] = d.DataPoints[0].Value
		case metricdata.Gauge[int64]:
			values[m.Name] = d.DataPoints[0].Value
		case metricdata.Histogram[float64]:
			values[m.Name] = int64(d.DataPoints[0].Count)
		}
	}
	s := l.Stats()
	for name, want := range map[string]int64{
		"tidemark.wal.entries": 10, "tidemark.wal.groups": int64(s.Groups), "tidemark.wal.bytes": int64(s.Bytes),
		"tidemark.wal.sync.duration": int64(s.Groups), "tidemark.wal.slabs": 1, "tidemark.wal.slabs.pinned": 0,
		"tidemark.wal.untrimmed": s.UntrimmedBytes, "tidemark.wal.inflight.limit": 1, "tidemark.wal.full": 0,
	} {
		if v, ok := values[name]; !ok || v != want {
			t.Errorf("%s = %d (%v), want %d", name, v, ok, want)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	l := startOK(t, onDisk(t, wal.SyncNone))
	panics := func(name string, fn func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s did not panic", name)
			}
		}()
		fn()
	}
	panics("Append without admission", func() { l.Append(wal.Admission{}, 1, nil) })
	a, err := l.Admit(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	panics("Append of more than was admitted", func() { l.Append(a, 5, nil) })
	r := l.Append(a, 4, nil)
	panics("Write of too much", func() { r.Write(make([]byte, 5)) })
	panics("Done too early", func() { r.Done() })
	r.Write(make([]byte, 4))
	ref := r.Done()
	panics("Done twice", func() { r.Done() })
	if thorough {
		panics("Release without Acquire", ref.Release)
	}
}
