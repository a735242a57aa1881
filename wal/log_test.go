package wal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// start opens a log and runs it; stop ends Run and returns its error.
func start(t testing.TB, o wal.Options) (l *wal.Log, stop func() error) {
	t.Helper()
	l, err := wal.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	runErr := make(chan error, 1)
	go func() { runErr <- l.Run(ctx) }()
	return l, sync.OnceValue(func() error {
		cancel()
		return <-runErr
	})
}

// startOK also ends the log with the test, without an error.
func startOK(t testing.TB, o wal.Options) *wal.Log {
	l, stop := start(t, o)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestOptionsAreChecked(t *testing.T) {
	for _, change := range []func(*wal.Options){
		func(o *wal.Options) { o.Dir = "" },
		func(o *wal.Options) { o.Epoch = 0 },
		func(o *wal.Options) { o.SegmentBytes = 5000 },
		func(o *wal.Options) { o.SlabBytes = 4096 },
		func(o *wal.Options) { o.SlabCount = 3 },
		func(o *wal.Options) { o.MaxBytes = 4096 },
		func(o *wal.Options) { o.MaxInFlight = 9 },
		func(o *wal.Options) { o.Sync = 9 },
	} {
		o := small(crashfs.New(), 1)
		change(&o)
		if _, err := wal.New(o); err == nil {
			t.Errorf("accepted %+v", o)
		}
	}
	disk := crashfs.New()
	write(t, small(disk, 1), 1)
	if _, err := wal.New(small(disk, 2)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a folder with a stream: %v", err)
	}
	disk.SetDirect(false)
	o := small(crashfs.New(), 1)
	o.FS, o.Dir, o.Sync = disk, "/other", wal.SyncDirect
	if _, err := wal.New(o); !errors.Is(err, wal.ErrNoDirect) {
		t.Errorf("SyncDirect without direct writes: %v", err)
	}
}

func TestAdmitRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := start(t, small(crashfs.New(), 1))
		ctx := t.Context()
		if _, err := l.Admit(ctx, 0); err == nil {
			t.Error("admitted nothing")
		}
		if _, err := l.Admit(ctx, l.MaxEntryBytes()+1); !errors.Is(err, wal.ErrTooLarge) {
			t.Error(err)
		}
		if _, err := appendWait(ctx, l, make([]byte, l.MaxEntryBytes())); err != nil {
			t.Error(err)
		}
		a, err := l.Admit(ctx, 10)
		if err != nil {
			t.Fatal(err)
		}
		a.Cancel()
		a.Cancel()
		if s := l.Stats(); s.AdmittedBytes != 0 {
			t.Errorf("%+v", s)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Admit(ctx, 10); !errors.Is(err, wal.ErrClosed) {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAdmitIsFirstInFirstOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := startOK(t, small(crashfs.New(), 1))
		// Hold all slab space with admissions, then queue a large one and small ones that would fit sooner.
		var held []wal.Admission
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			a, err := l.Admit(ctx, l.MaxEntryBytes())
			cancel()
			if err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				break
			}
			held = append(held, a)
		}
		if len(held) != 6 {
			t.Fatalf("%d entries of a slab's size admitted into 6 slabs", len(held))
		}
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		sizes := []int{l.MaxEntryBytes(), 10, 2000, 10, l.MaxEntryBytes()}
		gone, leave := context.WithCancel(t.Context())
		for i, size := range sizes {
			wg.Go(func() {
				a, err := l.Admit(t.Context(), size)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				a.Cancel()
			})
			synctest.Wait()
			if i == 0 {
				wg.Go(func() { // gives up while waiting in the middle of the queue
					if _, err := l.Admit(gone, 10); !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})
				synctest.Wait()
			}
		}
		if n := l.Stats().AdmitWaiting; n != 6 {
			t.Fatalf("%d waiting", n)
		}
		leave()
		synctest.Wait()
		if n := l.Stats().AdmitWaiting; n != 5 || len(order) != 0 {
			t.Fatalf("%d waiting, %v served", n, order)
		}
		for i := range held {
			held[i].Cancel()
			synctest.Wait()
		}
		wg.Wait()
		if len(order) != 5 || order[0] != 0 {
			t.Fatalf("served in order %v", order)
		}
	})
}

func TestMaxBytesWaitsForTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small(crashfs.New(), 1)
		o.MaxBytes = 64 << 10
		l := startOK(t, o)
		ctx := t.Context()
		for {
			brief, cancel := context.WithTimeout(ctx, time.Second)
			_, err := appendWait(brief, l, make([]byte, 5000))
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if s := l.Stats(); s.UntrimmedBytes > o.MaxBytes || s.UntrimmedBytes < o.MaxBytes-2*8192 {
			t.Fatalf("%+v", s)
		}
		done := make(chan error, 1)
		go func() {
			_, err := appendWait(ctx, l, make([]byte, 5000))
			done <- err
		}()
		synctest.Wait()
		if err := l.Trim(l.Durable() + 1); err == nil {
			t.Error("trimmed beyond what is durable")
		}
		if err := l.Trim(l.Durable()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// TestReadersCannotStallProducers: however many slabs readers hold on to, appends go on.
func TestReadersCannotStallProducers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := startOK(t, small(crashfs.New(), 1)) // 6 slabs: readers may hold 3
		ctx := t.Context()
		type kept struct {
			ref  wal.Ref
			data []byte
			want []byte
		}
		var pins []kept
		refused := 0
		for i := range 200 {
			want := content(1, i)
			ref, err := appendWait(ctx, l, want)
			if err != nil {
				t.Fatal(err)
			}
			data, ok := ref.Acquire()
			if !ok {
				refused++
				p := make([]byte, ref.Len)
				if err := l.ReadEntry(ctx, ref.Pos, p); err != nil || !bytes.Equal(p, want) {
					t.Fatalf("ReadEntry instead: %v", err)
				}
				continue
			}
			pins = append(pins, kept{ref, data, want})
		}
		if s := l.Stats(); s.SlabsPinned != 3 || refused == 0 {
			t.Fatalf("%d refused, %+v", refused, s)
		}
		for _, k := range pins {
			if !bytes.Equal(k.data, k.want) {
				t.Fatal("a pinned entry changed")
			}
			k.ref.Release()
		}
		if s := l.Stats(); s.SlabsPinned != 0 {
			t.Fatalf("%+v", s)
		}
		for i := range 100 {
			if _, err := appendWait(ctx, l, content(2, i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok := pins[0].ref.Acquire(); ok {
			t.Fatal("acquired an entry of a recycled slab")
		}
		if _, ok := (wal.Ref{}).Acquire(); ok {
			t.Fatal("acquired the zero Ref")
		}
	})
}

// TestUnpinningWakesAdmission: with every slab that may be pinned pinned, and the rest needed, the Release counts.
func TestUnpinningWakesAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := startOK(t, small(crashfs.New(), 1))
		ctx := t.Context()
		var pins []wal.Ref
		for range 3 {
			ref, err := appendWait(ctx, l, make([]byte, l.MaxEntryBytes()))
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := ref.Acquire(); !ok {
				t.Fatal("not acquired")
			}
			pins = append(pins, ref)
		}
		// Three slabs are pinned, the third of them open. Three are free.
		var held []wal.Admission
		for range 3 {
			a, err := l.Admit(ctx, 12<<10)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, a)
		}
		got := make(chan error, 1)
		go func() {
			a, err := l.Admit(ctx, l.MaxEntryBytes())
			a.Cancel()
			got <- err
		}()
		synctest.Wait()
		if n := l.Stats().AdmitWaiting; n != 1 {
			t.Fatalf("%d waiting", n)
		}
		for _, ref := range pins {
			ref.Release()
		}
		synctest.Wait()
		select {
		case err := <-got:
			if err != nil {
				t.Fatal(err)
			}
		default:
			for i := range held {
				held[i].Cancel()
			}
			t.Fatalf("still waiting: %+v", l.Stats())
		}
		for i := range held {
			held[i].Cancel()
		}
	})
}

func TestStopCommitsWhatWasAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		l, stop := start(t, small(disk, 1))
		book := newLedger()
		a, err := l.Admit(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- stop() }()
		synctest.Wait()
		if _, err := l.Admit(t.Context(), 1); !errors.Is(err, wal.ErrClosed) {
			t.Error(err)
		}
		e := &entry{book: book, done: make(chan error, 1)}
		r := l.Append(a, 100, e)
		synctest.Wait()
		select {
		case <-stopped:
			t.Fatal("Run returned before an admitted entry was there")
		default:
		}
		r.Write(make([]byte, 100))
		e.ref = r.Ref()
		r.Done()
		if err := <-e.done; err != nil {
			t.Fatal(err)
		}
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := l.Scan(t.Context(), 0, l.Durable(), func(wal.Entry) error { n++; return nil }); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Remove(); err != nil {
			t.Fatal(err)
		}
		if _, err := disk.List(testDir); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	})
}

// TestAfterAFailureNothingIsAcknowledged: the nth write or sync fails, others do not, and nobody is told yes from then on.
func TestAfterAFailureNothingIsAcknowledged(t *testing.T) {
	bad := errors.New("input/output error")
	for _, c := range []struct {
		name    string
		mode    wal.SyncMode
		kind    crashfs.Kind
		latency time.Duration
	}{
		{"direct write", wal.SyncDirect, crashfs.Write, 0},
		{"pipelined direct write", wal.SyncDirect, crashfs.Write, 3 * time.Millisecond},
		{"write", wal.SyncData, crashfs.Write, 0},
		{"fsync", wal.SyncData, crashfs.Sync, 0},
		{"slow fsync", wal.SyncData, crashfs.Sync, 3 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			for nth := 1; nth < 60; nth += 5 {
				synctest.Test(t, func(t *testing.T) {
					disk := crashfs.New()
					disk.SetLatency(c.latency)
					o := small(disk, 1)
					o.Sync = c.mode
					l, stop := start(t, o)
					n, failures := 0, 0
					disk.SetFault(func(op crashfs.Op) error {
						if op.Kind != c.kind || !strings.HasSuffix(op.Name, ".wal") {
							return nil
						}
						if n++; n == nth {
							failures++
							return bad
						}
						return nil
					})
					book := newLedger()
					var wg sync.WaitGroup
					for p := range 8 {
						wg.Go(func() { workload{entries: 40}.produce(t.Context(), l, book, p) })
					}
					wg.Wait()
					if failures == 0 { // so few groups
						if err := errors.Join(stop(), l.Close()); err != nil {
							t.Error(err)
						}
						return
					}
					_, err := l.Admit(t.Context(), 1)
					if !errors.Is(err, wal.ErrFailed) || !errors.Is(err, bad) {
						t.Errorf("Admit: %v", err)
					}
					if err := stop(); !errors.Is(err, wal.ErrFailed) || !errors.Is(err, bad) {
						t.Errorf("Run: %v", err)
					}
					if last := book.outcomes[len(book.outcomes)-1]; !errors.Is(last, bad) {
						t.Errorf("last outcome: %v", last)
					}
					if err := l.Close(); err != nil {
						t.Error(err)
					}
					disk.SetFault(nil)
					disk.Crash()
					for _, loss := range []int{0, 50, 100} {
						o.FS = disk.After(loss, uint64(nth))
						r, err := wal.Recover(o)
						if err != nil {
							t.Fatal(err)
						}
						book.check(t, r, false)
					}
				})
			}
		})
	}
}

func TestDiskFullPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		o := small(disk, 1)
		disk.SetCapacity(32<<10 + 64<<10)
		l := startOK(t, o)
		ctx := t.Context()
		book := newLedger()
		var waiting []*entry
		var err error
		for i := 0; err == nil; i++ {
			var e *entry
			if e, err = book.append(ctx, l, content(1, i)); err == nil {
				synctest.Wait()
				waiting = append(waiting, e)
			}
		}
		if !errors.Is(err, wal.ErrFull) || errors.Is(err, wal.ErrFailed) || !l.Stats().Full {
			t.Fatalf("Admit: %v, %+v", err, l.Stats())
		}
		synctest.Wait()
		if n := len(book.outcomes); n < len(waiting)-2 {
			t.Fatalf("%d of %d entries are acknowledged though there was room", n, len(waiting))
		}
		acked := 0
		if err := l.Scan(ctx, 0, l.Durable(), func(wal.Entry) error { acked++; return nil }); err != nil || acked < len(waiting)-2 {
			t.Fatalf("%d readable, %v", acked, err)
		}
		disk.SetCapacity(0)
		time.Sleep(3 * time.Second) // fake time: the retry is due
		synctest.Wait()
		for _, e := range waiting {
			if err := <-e.done; err != nil {
				t.Fatal(err)
			}
		}
		if _, err := appendWait(ctx, l, content(2, 0)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStopWhileDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		disk.SetCapacity(32 << 10)
		l, stop := start(t, small(disk, 1))
		ctx := t.Context()
		a, err := l.Admit(ctx, 12<<10)
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Admit(ctx, 12<<10)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Admit(ctx, 12<<10)
		if err != nil {
			t.Fatal(err)
		}
		outcomes := make(waitFor, 3)
		for _, a := range []wal.Admission{a, b, c} {
			r := l.Append(a, 12<<10, outcomes)
			r.Write(make([]byte, 12<<10))
			r.Done()
		}
		if err := <-outcomes; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := stop(); !errors.Is(err, wal.ErrFull) || !errors.Is(err, wal.ErrFailed) {
			t.Fatal(err)
		}
		<-outcomes
		if err := <-outcomes; !errors.Is(err, wal.ErrFull) {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSegmentThatCannotBeMadeFailsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		l, stop := start(t, small(disk, 1))
		bad := errors.New("input/output error")
		disk.SetFault(func(op crashfs.Op) error {
			if op.Kind == crashfs.SyncDir {
				return bad
			}
			return nil
		})
		var err error
		for i := 0; err == nil && i < 100; i++ {
			_, err = appendWait(t.Context(), l, content(1, i))
		}
		if !errors.Is(err, bad) || !errors.Is(stop(), bad) {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestScanAndReadEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		l := startOK(t, small(disk, 1))
		ctx := t.Context()
		var refs []wal.Ref
		for i := range 300 {
			ref, err := appendWait(ctx, l, content(1, i))
			if err != nil {
				t.Fatal(err)
			}
			refs = append(refs, ref)
		}
		for from := 0; from < len(refs); from += 7 {
			for _, to := range []int{from, from + 1, from + 40, len(refs) - 1} {
				to = min(to, len(refs)-1)
				next := from
				err := l.Scan(ctx, refs[from].Pos, refs[to].Pos, func(e wal.Entry) error {
					if e.Pos != refs[next].Pos || !bytes.Equal(e.Data, content(1, next)) {
						t.Fatalf("entry %d at %d", next, e.Pos)
					}
					next++
					return nil
				})
				if err != nil || next != to {
					t.Fatalf("from %d to %d: at %d, %v", from, to, next, err)
				}
			}
		}
		// From inside an entry: the next one is first.
		first := wal.Position(0)
		err := l.Scan(ctx, refs[9].Pos+1, l.Durable(), func(e wal.Entry) error { first = e.Pos; return io.EOF })
		if err != io.EOF || first != refs[10].Pos {
			t.Fatal(first, err)
		}
		if err := l.Scan(ctx, 0, l.Durable()+1, nil); err == nil {
			t.Error("scanned beyond what is durable")
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if err := l.Scan(cancelled, 0, l.Durable(), nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		last := refs[len(refs)-1]
		for _, bad := range []struct {
			pos wal.Position
			n   int
		}{{refs[0].Pos, int(refs[0].Len) - 1}, {refs[0].Pos + 1, 10}, {0, 1}, {last.Pos, int(last.Len) + 5000}, {1 << 40, 1}} {
			if err := l.ReadEntry(ctx, bad.pos, make([]byte, bad.n)); err == nil {
				t.Errorf("ReadEntry(%d, %d) succeeded", bad.pos, bad.n)
			}
		}
		flipByte(disk, testDir+"/0000000000000001.wal", 4096+80)
		var corrupt *wal.CorruptionError
		if err := l.ReadEntry(ctx, refs[0].Pos, make([]byte, refs[0].Len)); !errors.As(err, &corrupt) {
			t.Errorf("ReadEntry of a rotten entry: %v", err)
		}
		flipByte(disk, testDir+"/0000000000000002.wal", 4096+20)
		if err := l.Scan(ctx, 0, l.Durable(), func(wal.Entry) error { return nil }); !errors.As(err, &corrupt) {
			t.Errorf("Scan of a rotten group: %v", err)
		}
	})
}

// TestTrimWaitsForReaders: a segment that is being scanned is not handed on, nor are its successors before it.
func TestTrimWaitsForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		l := startOK(t, small(disk, 1))
		ctx := t.Context()
		for i := range 300 {
			if _, err := appendWait(ctx, l, content(1, i)); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := disk.List(testDir)
		i := 0
		err := l.Scan(ctx, 0, l.Durable(), func(e wal.Entry) error {
			if i == 0 {
				if err := l.Trim(l.Durable()); err != nil {
					t.Fatal(err)
				}
				if during, _ := disk.List(testDir); len(during) != len(before) {
					t.Fatalf("%v became %v under a reader", before, during)
				}
			}
			if !bytes.Equal(e.Data, content(1, i)) {
				t.Fatalf("entry %d differs", i)
			}
			i++
			return nil
		})
		// The scan goes on in the segment it is in; the next ones are gone from the list.
		if !errors.Is(err, wal.ErrTrimmed) || i < 5 {
			t.Fatalf("after %d entries: %v", i, err)
		}
		after, _ := disk.List(testDir)
		if len(after) > 2 {
			t.Fatalf("%v are left of %v", after, before)
		}
		if pool, _ := disk.List(testFree); len(pool) == 0 || len(pool) > 4 {
			t.Fatalf("the pool holds %v", pool)
		}
		if err := l.ReadEntry(ctx, 80, make([]byte, 10)); !errors.Is(err, wal.ErrTrimmed) {
			t.Fatal(err)
		}
	})
}
