package tiering

import (
	"context"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/wal"
)

var (
	_ Stream    = (*wal.Log)(nil)
	_ Scanner   = (*wal.Recovered)(nil)
	_ Committer = (*metadata.Store)(nil)
	_ Keeper    = (*metadata.Store)(nil)
)

type completion chan error

func (c completion) Committed(err error) { c <- err }

// copyToWAL appends what the world's stream in memory got since entry number from to a real log, and waits until it is durable.
func (w *world) copyToWAL(l *wal.Log, from int) int {
	w.Helper()
	entries := w.stream.entries
	done := make(completion, len(entries))
	for _, e := range entries[from:] {
		a, err := l.Admit(w.ctx, len(e.Data))
		w.check(err)
		r := l.Append(a, len(e.Data), done)
		r.Write(e.Data)
		r.Done()
	}
	for range entries[from:] {
		w.check(<-done)
	}
	return len(entries)
}

// TestRealWAL uploads from a log on disk, whose early part is in segment files only, crashes, and drains the rest from the files.
func TestRealWAL(t *testing.T) {
	w := newWorld(t)
	defer w.close()
	p := w.topic("t", 3)
	w.up()
	o := wal.Options{Dir: t.TempDir() + "/wal", Epoch: uint64(w.inc), SegmentBytes: 1 << 20, SlabBytes: 256 << 10, SlabCount: 4, Sync: wal.SyncNone}
	l, err := wal.New(o)
	w.check(err)
	ctx, crash := context.WithCancel(w.ctx)
	logDone := make(chan error, 1)
	go func() { logDone <- l.Run(ctx) }()
	write := func(n int) {
		for i := range n {
			w.append(p[i%2], 1+i%3, 5000)
			if i%20 == 0 {
				w.append(p[2], 1, 150<<10)
			}
		}
	}
	write(300) // much more than the slabs hold
	copied := w.copyToWAL(l, 0)
	uo := w.uploaderOptions()
	uo.Stream, uo.SealBytes, uo.SealAge = l, 700_000, time.Hour
	u := NewUploader(uo)
	ctx2, stop := context.WithCancel(w.ctx)
	up := make(chan error, 1)
	go func() { up <- u.Run(ctx2) }()
	w.check(u.Drain(w.ctx))
	if start := l.Stats().Start; start < l.Durable()-1 {
		t.Errorf("log begins at %d of %d after a drain", start, l.Durable())
	}
	w.oracle()
	stop()
	w.check(<-up)
	write(150)
	copied = w.copyToWAL(l, copied)
	crash()
	w.check(<-logDone)
	if copied != len(w.stream.entries) {
		t.Fatal("not everything was copied")
	}

	dead, err := wal.Recover(o)
	w.check(err)
	st, err := w.meta.RecoverStream(w.ctx, w.state.ID, w.inc)
	w.check(err)
	w.state = st
	uo.Revision, uo.From, uo.FirstSeq, uo.Stream = st.Revision, wal.Position(st.Committed), w.catalog.LastSeq(st.ID), nil
	w.check(DrainRecovered(w.ctx, dead, dead.End(), uo))
	w.check(dead.Close())
	w.oracle()
	w.verify(true)
	w.check(w.maintainer.Pass(w.ctx))
	w.oracle()
}
