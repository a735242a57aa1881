package wal_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// TestWantedSlabsAreKeptForAWhile: what the uploader has not come by is not recycled, but an append waits no longer than patience, and
// the next ones do not wait at all until it has caught up.
func TestWantedSlabsAreKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := wal.New(wal.Options{FS: crashfs.New(), Dir: "w", Epoch: 1, SegmentBytes: 1 << 20, SlabBytes: 64 << 10, SlabCount: 4})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		l.Want(0)
		write := func() (waited time.Duration) {
			start := time.Now()
			a, err := l.Admit(ctx, 60_000)
			if err != nil {
				t.Fatal(err)
			}
			waited = time.Since(start)
			r := l.Append(a, 60_000, nil)
			r.Write(make([]byte, 60_000))
			r.Done()
			synctest.Wait()
			return waited
		}
		fill := func(n int) (waited time.Duration) {
			for range n {
				waited += write()
			}
			return waited
		}
		if waited := fill(3); waited != 0 {
			t.Errorf("free slabs were waited for, %v", waited)
		}
		if waited := fill(10); waited != wal.Patience {
			t.Errorf("waited %v for what nobody comes by, want %v once", waited, wal.Patience)
		}
		l.Want(l.Durable())
		if waited := fill(2); waited != 0 {
			t.Errorf("waited %v although everything was seen", waited)
		}
		go func() {
			time.Sleep(wal.Patience / 2)
			l.Want(l.Durable())
		}()
		if waited := fill(4); waited != wal.Patience/2 {
			t.Errorf("waited %v, want until the slabs were seen", waited)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}
