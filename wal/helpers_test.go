package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

const (
	testDir  = "/data/wal/1"
	testFree = "/data/wal/free"
)

// small makes everything happen often: rotation, recycling of slabs and of files.
func small(fs *crashfs.FS, epoch uint64) wal.Options {
	o := wal.Options{
		FS: fs, Dir: testDir, FreeDir: testFree, Epoch: epoch,
		SegmentBytes: 64 << 10, SlabBytes: 16 << 10, SlabCount: 6, MaxBytes: 8 << 20,
	}
	return o.WithTestSizes(0, 32<<10)
}

// waitFor is a Completion that somebody waits for.
type waitFor chan error

func (w waitFor) Committed(err error) { w <- err }

// appendWait appends one entry and waits for its outcome.
func appendWait(ctx context.Context, l *wal.Log, data []byte) (wal.Ref, error) {
	a, err := l.Admit(ctx, len(data))
	if err != nil {
		return wal.Ref{}, err
	}
	done := make(waitFor, 1)
	r := l.Append(a, len(data), done)
	r.Write(data[:len(data)/2])
	r.Write(data[len(data)/2:])
	ref := r.Done()
	return ref, <-done
}

// content is what the test writes as entry i of producer p; its length varies.
func content(p, i int) []byte {
	rng := rand.New(rand.NewPCG(uint64(p), uint64(i)))
	n := 16 + rng.IntN(600)
	switch rng.IntN(8) {
	case 0:
		n = 3000 + rng.IntN(6000)
	case 1:
		n = 16
	}
	b := make([]byte, n)
	for j := range b {
		b[j] = byte(rng.Uint32())
	}
	copy(b, fmt.Sprintf("%d/%d\x00", p, i))
	return b
}

// ledger is what the outside knows about a stream.
type ledger struct {
	mu       sync.Mutex
	appended []wal.Ref
	data     map[wal.Position][]byte
	acked    map[wal.Position]bool
	outcomes []error // in the order of completions
	trimmed  wal.Position
	order    wal.Position
	misorder bool
}

func newLedger() *ledger {
	return &ledger{data: map[wal.Position][]byte{}, acked: map[wal.Position]bool{}}
}

// entry is an appended entry and its Completion.
type entry struct {
	book *ledger
	ref  wal.Ref
	done chan error
}

func (e *entry) Committed(err error) {
	e.book.mu.Lock()
	e.book.outcomes = append(e.book.outcomes, err)
	if err == nil {
		e.book.acked[e.ref.Pos] = true
	}
	if e.ref.Pos <= e.book.order {
		e.book.misorder = true
	}
	e.book.order = e.ref.Pos
	e.book.mu.Unlock()
	e.done <- err
}

// append appends data and returns without waiting for the outcome.
func (b *ledger) append(ctx context.Context, l *wal.Log, data []byte) (*entry, error) {
	a, err := l.Admit(ctx, len(data))
	if err != nil {
		return nil, err
	}
	e := &entry{book: b, done: make(chan error, 1)}
	r := l.Append(a, len(data), e)
	r.Write(data)
	e.ref = r.Ref()
	b.mu.Lock()
	b.appended = append(b.appended, e.ref)
	b.data[e.ref.Pos] = data
	b.mu.Unlock()
	if ref := r.Done(); ref != e.ref {
		return nil, fmt.Errorf("Done returned %v, Ref %v", ref, e.ref)
	}
	return e, nil
}

// check compares what recovery found with the ledger.
func (b *ledger) check(t *testing.T, r *wal.Recovered, ackedMayBeLost bool) {
	t.Helper()
	if b.misorder {
		t.Fatal("completions out of order")
	}
	if r.Start() > b.trimmed { // even where nothing lies between: a reader could not tell that from a lost segment
		t.Fatalf("starts at %d, trimmed to %d only", r.Start(), b.trimmed)
	}
	found := map[wal.Position]bool{}
	last := wal.Position(0)
	ctx := context.Background()
	err := r.Scan(ctx, r.Start(), r.End(), func(e wal.Entry) error {
		want, ok := b.data[e.Pos]
		if !ok || !bytes.Equal(want, e.Data) {
			return fmt.Errorf("entry at %d was never appended there", e.Pos)
		}
		if e.Pos <= last || e.Next <= e.Pos {
			return fmt.Errorf("entry at %d after %d, next %d", e.Pos, last, e.Next)
		}
		last = e.Pos
		found[e.Pos] = true
		p := make([]byte, len(e.Data))
		if err := r.ReadEntry(ctx, e.Pos, p); err != nil {
			return err
		}
		if !bytes.Equal(p, want) {
			return fmt.Errorf("ReadEntry at %d differs", e.Pos)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pos := range b.data {
		switch {
		case pos < r.Start():
		case pos < r.End() != found[pos]:
			t.Fatalf("entry at %d: found %v, recovered [%d, %d)", pos, found[pos], r.Start(), r.End())
		case b.acked[pos] && !found[pos] && !ackedMayBeLost:
			t.Fatalf("acknowledged entry at %d is lost, recovered [%d, %d)", pos, r.Start(), r.End())
		}
	}
	failed := false
	for _, err := range b.outcomes {
		if failed && err == nil {
			t.Fatal("acknowledged after a failure")
		}
		if err != nil && !errors.Is(err, wal.ErrFailed) {
			t.Fatalf("outcome %v does not wrap ErrFailed", err)
		}
		failed = failed || err != nil
	}
}
