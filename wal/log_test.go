package wal_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
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

// TestAdmittedAlwaysFits: entries admitted together find their slabs in whatever order and grouping they are appended,
// while readers hold all slabs that they may. Append panics otherwise.
func TestAdmittedAlwaysFits(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			o := small(crashfs.New(), 1)
			o.MaxBytes = 1 << 30
			l := startOK(t, o)
			var pins []wal.Ref
			for range 3 {
				var admitted []wal.Admission
				var sizes []int
				for len(admitted) < 500 {
					n := 1 + rng.IntN(200)
					if rng.IntN(10) < int(seed%5)*2 {
						n = 1 + rng.IntN(l.MaxEntryBytes())
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					a, err := l.Admit(ctx, n)
					cancel()
					if err != nil {
						break
					}
					admitted, sizes = append(admitted, a), append(sizes, n)
				}
				if len(admitted) == 0 {
					t.Fatal("nothing was admitted")
				}
				done := make(waitFor, len(admitted))
				for _, i := range rng.Perm(len(admitted)) {
					r := l.Append(admitted[i], sizes[i], done)
					r.Write(make([]byte, sizes[i]))
					ref := r.Done()
					if _, ok := ref.Acquire(); ok {
						pins = append(pins, ref)
					}
					if rng.IntN(4) > 0 {
						synctest.Wait() // the next one begins a group
					}
				}
				for range admitted {
					if err := <-done; err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, ref := range pins {
				ref.Release()
			}
		})
	}
}
