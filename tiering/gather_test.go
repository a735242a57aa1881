package tiering

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/wal"
)

// realLog is a log on disk that runs until the test ends, for the world's uploader.
func (w *world) realLog(slabs int) *wal.Log {
	w.Helper()
	l, err := wal.New(wal.Options{Dir: w.TempDir() + "/wal", Epoch: uint64(w.inc), SegmentBytes: 1 << 20, SlabBytes: 256 << 10, SlabCount: slabs, Sync: wal.SyncNone})
	w.check(err)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	w.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil { // Close finds slabs that are still held
			w.Error(err)
		}
	})
	return l
}

// slowPuts is a store that reads a body up to its middle, calls during, and goes on.
type slowPuts struct {
	objectstore.Store
	during func()
	fail   atomic.Int32 // so many puts fail after that
}

func (s *slowPuts) Put(ctx context.Context, key string, body objectstore.Body, o objectstore.PutOptions) error {
	p := make([]byte, body.Size()/2)
	if _, err := body.ReadAt(p, 0); err != nil {
		return err
	}
	s.during()
	rest := make([]byte, body.Size()-int64(len(p)))
	if _, err := body.ReadAt(rest, int64(len(p))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if s.fail.Add(-1) >= 0 {
		return objectstore.ErrThrottled
	}
	return s.Store.Put(ctx, key, bytes.NewReader(append(p, rest...)), o)
}

// TestSlabsRecycledDuringAPut: while puts are under way, and fail, much more is appended than slabs hold. No append waits for a put,
// and the objects are right.
func TestSlabsRecycledDuringAPut(t *testing.T) {
	w := newWorld(t)
	defer w.close()
	p := w.topic("t", 3)
	w.up()
	l := w.realLog(16)
	write := func(n int) {
		for i := range n {
			w.append(p[i%3], 1+i%3, 5000)
		}
	}
	write(60)
	copied := w.copyToWAL(l, 0)
	puts := make(chan struct{}, 1)
	released := make(chan struct{})
	s := &slowPuts{Store: w.bucket, during: func() {
		select {
		case puts <- struct{}{}:
		default:
		}
		<-released
	}}
	s.fail.Store(3)
	w.store = s
	o := w.uploaderOptions()
	o.Store, o.Stream, o.SealBytes, o.SealAge, o.HoldSlabs = s, l, 300_000, 10*time.Millisecond, 20*time.Millisecond
	u := NewUploader(o)
	ctx, stop := context.WithCancel(w.ctx)
	failed := make(chan error, 1)
	go func() { failed <- u.Run(ctx) }()
	<-puts
	write(3000) // six times what the slabs hold, while nothing is taken by the store
	w.copyToWAL(l, copied)
	close(released)
	w.check(u.Drain(w.ctx))
	stop()
	w.check(<-failed)
	w.oracle()
	w.verify(true)
}

// TestCorruptSlabStopsTheUploader: a byte that changed in a slab after it was written is found on the way into the store.
func TestCorruptSlabStopsTheUploader(t *testing.T) {
	for name, at := range map[string]int{"header": 3, "long batch": 50_000, "last byte": 99_999} {
		w := newWorld(t)
		p := w.topic("t", 1)
		w.up()
		l := w.realLog(16)
		w.append(p[0], 1, 100_000)
		w.copyToWAL(l, 0)
		o := w.uploaderOptions()
		d := &damaging{Log: l, at: at}
		o.Stream, o.SealAge = d, time.Millisecond
		u := NewUploader(o)
		if err := u.Run(w.ctx); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if w.objects() != 0 || len(w.told()) != 0 {
			t.Errorf("%s: %d objects, told of %v", name, w.objects(), w.told())
		}
		for _, b := range d.damaged {
			*b ^= 1 // the log checks its slabs in the end, under the build tag walcheck
		}
		w.close()
	}
}

// damaging is a log whose slabs change after each entry was looked at.
type damaging struct {
	*wal.Log
	at      int
	damaged []*byte
}

func (d *damaging) Scan(ctx context.Context, from, to wal.Position, fn func(wal.Entry) error) error {
	return d.Log.Scan(ctx, from, to, func(e wal.Entry) error {
		err := fn(e)
		b := &e.Data[entry.HeaderBytes+d.at]
		*b ^= 1
		d.damaged = append(d.damaged, b)
		return err
	})
}
