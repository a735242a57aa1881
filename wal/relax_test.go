package wal_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// TestIdleSlabsAreRecycled: what is trimmed and old leaves memory, what is not trimmed or pinned stays, and the next burst finds all slabs.
func TestIdleSlabsAreRecycled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := start(t, small(crashfs.New(), 1))
		data := bytes.Repeat([]byte("x"), 3000)
		burst := func(n int) (refs []wal.Ref) {
			for range n {
				ref, err := appendWait(t.Context(), l, data)
				if err != nil {
					t.Fatal(err)
				}
				refs = append(refs, ref)
			}
			return refs
		}
		inUse := func(want int, when string) {
			t.Helper()
			synctest.Wait()
			if got := l.Stats().SlabsInUse; got != want {
				t.Errorf("%s: %d slabs in use, want %d", when, got, want)
			}
		}
		readable := func(ref wal.Ref, want bool, when string) {
			t.Helper()
			b, ok := ref.Acquire()
			if ok != want || ok && !bytes.Equal(b, data) {
				t.Errorf("%s: readable %v, want %v", when, ok, want)
			}
			if ok {
				ref.Release()
			}
		}
		refs := burst(14) // three slabs and a part of the fourth
		inUse(4, "after a burst")
		time.Sleep(2 * time.Minute)
		inUse(4, "not trimmed")
		readable(refs[0], true, "not trimmed")

		if err := l.Trim(refs[5].Pos); err != nil { // in the second slab
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		inUse(3, "one slab trimmed")
		readable(refs[0], false, "its slab was recycled")
		readable(refs[5], true, "its slab is not wholly trimmed")

		held, ok := refs[6].Acquire()
		if !ok {
			t.Fatal("cannot be pinned")
		}
		if err := l.Trim(l.Durable()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		inUse(1, "all trimmed, one pinned")
		if !bytes.Equal(held, data) {
			t.Error("pinned bytes changed")
		}
		refs[6].Release()
		time.Sleep(10 * time.Second)
		inUse(0, "all trimmed")

		refs = burst(6 * 4)
		readable(refs[len(refs)-1], true, "a new burst")
		if err := l.Trim(l.Durable()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		readable(refs[len(refs)-1], true, "trimmed half a minute ago")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
