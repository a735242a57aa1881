package wal_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

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
