package wal_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// replicatedLog runs a log that waits for others; stop ends it and returns what Run said.
func replicatedLog(t *testing.T, disk *crashfs.FS) (l *wal.Log, stop func() error) {
	t.Helper()
	o := small(disk, 7)
	o.Replicated = true
	l, err := wal.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return l, func() error { cancel(); return <-ended }
}

// TestReplicatedGate: an entry that is durable here completes only when others have it too, in order, and not at all after a fence.
func TestReplicatedGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		disk.SetLatency(time.Millisecond)
		l, stop := replicatedLog(t, disk)
		book := newLedger()
		var entries []*entry
		var ends []wal.Position
		for i := range 6 {
			e, err := book.append(t.Context(), l, content(1, i))
			if err != nil {
				t.Fatal(err)
			}
			entries = append(entries, e)
			synctest.Wait()
			time.Sleep(time.Second)
			ends = append(ends, l.Written())
		}
		if l.Durable() != 0 || len(book.outcomes) > 0 || ends[5] == 0 || ends[4] == ends[5] {
			t.Fatalf("durable %d, written %v, %d completed", l.Durable(), ends, len(book.outcomes))
		}
		l.Replicated(ends[1])
		l.Replicated(ends[0]) // late news
		synctest.Wait()
		if l.Durable() != ends[1] || len(book.outcomes) != 2 {
			t.Fatalf("durable %d of %v, %d completed", l.Durable(), ends, len(book.outcomes))
		}
		l.Replicated(ends[3] - 1)
		synctest.Wait()
		if l.Durable() != ends[2] {
			t.Fatalf("durable %d of %v", l.Durable(), ends)
		}
		if err := l.Trim(ends[3]); err == nil {
			t.Fatal("trimmed what is not replicated")
		}
		if _, err := l.Fence(7); !errors.Is(err, wal.ErrFenced) {
			t.Fatalf("fenced with its own epoch: %v", err)
		}
		tail, err := l.Fence(8)
		if err != nil || tail.End != ends[5] || tail.Start != 0 {
			t.Fatalf("%+v, %v", tail, err)
		}
		l.Replicated(ends[5])
		for i, e := range entries {
			if err := <-e.done; (err == nil) != (i < 3) || err != nil && !errors.Is(err, wal.ErrFenced) {
				t.Errorf("entry %d: %v", i, err)
			}
		}
		if err := stop(); !errors.Is(err, wal.ErrFenced) || !errors.Is(err, wal.ErrFailed) {
			t.Fatalf("Run: %v", err)
		}
		if l.Durable() != ends[2] {
			t.Fatalf("durable %d after the fence", l.Durable())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFollowersSeeAllGroups: one that keeps up sees groups before they are durable here, one that comes late reads the files; replicas
// fed by either are like the log's own files.
func TestFollowersSeeAllGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		disk.SetLatency(3 * time.Millisecond)
		l, stop := replicatedLog(t, disk)
		feed := func(pace time.Duration, late bool) (fed func(to wal.Position) wal.Tail) {
			rs, err := openReplicas(t, crashfs.New(), wal.SyncAuto)
			if err != nil {
				t.Fatal(err)
			}
			a, tail, err := rs.Open(t.Context(), testStream, l.Header(), l.Oldest(), true)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan wal.Position, 1)
			go func() {
				f := l.Follow(tail.End)
				defer f.Close()
				end := tail.End
				for {
					g, err := f.Next(ctx)
					if err != nil {
						ended <- end
						return
					}
					ahead := g.End > l.Written()
					if late && ahead {
						t.Errorf("a group at %d before it is written", g.Position)
					}
					if end, err = a.Append(ctx, wal.Chunk{Segment: g.Segment, Position: g.Position, Bytes: g.Bytes}); err != nil {
						t.Errorf("Append: %v", err)
						ended <- end
						return
					}
					if !late {
						l.Replicated(end)
					}
					time.Sleep(pace)
				}
			}()
			return func(to wal.Position) wal.Tail {
				time.Sleep(time.Minute)
				cancel()
				if end := <-ended; end != to {
					t.Errorf("the follower ended at %d, not %d", end, to)
				}
				tail, err := rs.Fence(t.Context(), testStream, 100)
				if err != nil {
					t.Error(err)
				}
				src := original{header: l.Header()}
				for pos := wal.Position(0); pos < to; {
					k, err := l.ReadGroups(t.Context(), pos, 1, nil)
					if err != nil || len(k.Bytes) == 0 {
						t.Fatalf("at %d: %v", pos, err)
					}
					src.groups = append(src.groups, k)
					pos = k.End()
				}
				src.checkReplica(t, rs, 0, to)
				if err := rs.Close(); err != nil {
					t.Error(err)
				}
				return tail
			}
		}
		fast := feed(0, false)
		book := newLedger()
		produce := func(n int) {
			done := make(chan struct{})
			for p := range 4 {
				go func() {
					workload{entries: n}.produce(t.Context(), l, book, p)
					done <- struct{}{}
				}()
			}
			for range 4 {
				<-done
			}
		}
		produce(40)
		end := l.Durable()
		time.Sleep(time.Second)
		slow := feed(time.Millisecond, true)
		time.Sleep(10 * time.Second)
		if len(book.acked) != 160 || l.Written() != end {
			t.Fatalf("%d acknowledged, written %d, durable %d", len(book.acked), l.Written(), end)
		}
		slow(end)
		produce(10)
		fast(l.Durable())
		if err := stop(); err != nil || len(book.acked) != 200 || book.misorder {
			t.Fatalf("Run: %v, %d acknowledged", err, len(book.acked))
		}
		if s := l.Stats(); s.SlabsPinned != 0 {
			t.Fatalf("%+v", s)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := wal.Recover(small(disk, 7))
		if err != nil {
			t.Fatal(err)
		}
		book.check(t, r, false)
	})
}

// TestFollowerTrimmed: a follower whose groups are gone is told so, and a replica is opened again at what is left.
func TestFollowerTrimmed(t *testing.T) {
	disk := crashfs.New()
	l, stop := replicatedLog(t, disk)
	l.Replicated(1 << 62)
	for i := range 400 {
		if _, err := appendWait(t.Context(), l, bytes.Repeat([]byte{byte(i)}, 3000)); err != nil {
			t.Fatal(err)
		}
	}
	f := l.Follow(0)
	if g, err := f.Next(t.Context()); err != nil || g.Position != 0 {
		t.Fatalf("at %d: %v", g.Position, err)
	}
	if err := l.Trim(l.Durable()); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 100 { // the file it is in stays until it has left it
		if _, err = f.Next(t.Context()); err != nil {
			break
		}
	}
	if !errors.Is(err, wal.ErrTrimmed) || f.Close() != nil {
		t.Fatal(err)
	}
	if o := l.Oldest(); o.Sequence < 3 {
		t.Fatalf("nothing trimmed: %+v", o)
	}
	rs, err := openReplicas(t, crashfs.New(), wal.SyncAuto)
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Close()
	first := wal.SegmentRef{Sequence: 1, SizeBytes: 32 << 10}
	if _, _, err := rs.Open(t.Context(), testStream, l.Header(), first, true); err != nil {
		t.Fatal(err)
	}
	_, tail, err := rs.Open(t.Context(), testStream, l.Header(), l.Oldest(), false)
	if err != nil || tail.Start != l.Oldest().First || tail.End != tail.Start {
		t.Fatalf("%+v, %v", tail, err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
