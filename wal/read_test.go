package wal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

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
		synctest.Wait() // the next segment is ready
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
