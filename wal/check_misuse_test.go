//go:build walcheck

package wal

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// appendOne commits one entry and returns its Ref.
func appendOne(t *testing.T, l *Log, n int) Ref {
	t.Helper()
	a, err := l.Admit(context.Background(), n)
	if err != nil {
		t.Fatal(err)
	}
	done := make(told, 1)
	r := l.Append(a, n, done)
	r.Write(make([]byte, n))
	ref := r.Done()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return ref
}

type told chan error

func (c told) Committed(err error) { c <- err }

func checkedLog(t *testing.T) *Log {
	l, err := New(Options{Dir: filepath.Join(t.TempDir(), "1"), Epoch: 1, SegmentBytes: 1 << 20, SlabBytes: 8192, SlabCount: 4, Sync: SyncNone})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		_ = l.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return l
}

func TestChangingAnEntryAfterDoneIsNoticed(t *testing.T) {
	l := checkedLog(t)
	ref := appendOne(t, l, 100)
	b, ok := ref.Acquire()
	if !ok {
		t.Fatal("not acquired")
	}
	b[7] = 1
	ref.Release()
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "changed after Done") {
			t.Errorf("got %q", s)
		}
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	ref.s.recycle()
}

func TestWritingToARecycledSlabIsNoticed(t *testing.T) {
	l := checkedLog(t)
	ref := appendOne(t, l, 100)
	b, _ := ref.Acquire()
	ref.Release() // and keeps b
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ref.s.recycle() {
		t.Fatal("not recycled")
	}
	if b[0] != poison {
		t.Errorf("a recycled slab still reads as before")
	}
	b[0] = 1
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "was written to") {
			t.Errorf("got %q", s)
		}
	}()
	checkTaken(ref.s)
}

func TestHoldersAreNamed(t *testing.T) {
	l := checkedLog(t)
	ref := appendOne(t, l, 100)
	if _, ok := ref.Acquire(); !ok {
		t.Fatal("not acquired")
	}
	if s := checkHolders(); !strings.Contains(s, "TestHoldersAreNamed") {
		t.Errorf("got %q", s)
	}
	ref.Release()
	if s := checkHolders(); s != "" {
		t.Errorf("still held: %s", s)
	}
}
