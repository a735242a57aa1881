package wal_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/tidemarkmq/tidemark/wal"
)

// heapGrowth is what fn allocates, in all goroutines: bytes and objects.
func heapGrowth(fn func()) (bytes, objects uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, after.Mallocs - before.Mallocs
}

// TestGroupsCompleteWithoutAllocation: many appenders whose entries share groups, waiters for admission and completions included.
func TestGroupsCompleteWithoutAllocation(t *testing.T) {
	if thorough {
		t.Skip("the build tag walcheck keeps books")
	}
	o := onDisk(t, wal.SyncNone)
	o.SegmentBytes = 64 << 20
	l := startOK(t, o)
	const appenders, each, size = 32, 200, 16 << 10
	ctx := t.Context()
	work := make(chan struct{}, appenders)
	var done sync.WaitGroup
	defer close(work)
	for range appenders {
		data, outcome := make([]byte, size), make(waitFor, 1)
		go func() {
			for range work {
				for range each {
					a, err := l.Admit(ctx, size)
					if err != nil {
						t.Error(err)
						break
					}
					r := l.Append(a, size, outcome)
					r.Write(data)
					r.Done()
					if err := <-outcome; err != nil {
						t.Error(err)
						break
					}
				}
				done.Done()
			}
		}()
	}
	round := func() {
		done.Add(appenders)
		for range appenders {
			work <- struct{}{}
		}
		done.Wait()
		if err := l.Trim(l.Durable()); err != nil {
			t.Error(err)
		}
	}
	round()
	round()
	// A hundred mebibytes: rotations make segments, and each takes up to a mebibyte of zeros.
	bytes, objects := heapGrowth(round)
	t.Logf("%d bytes in %d objects for %d entries of %d bytes", bytes, objects, appenders*each, size)
	if bytes > appenders*each*size/32 || objects > appenders*each/4 {
		t.Errorf("%d bytes in %d objects for %d entries", bytes, objects, appenders*each)
	}
}

// TestScanDoesNotAllocatePerEntry: neither from memory nor from the files, where the reader's window is all there is.
func TestScanDoesNotAllocatePerEntry(t *testing.T) {
	if thorough {
		t.Skip("the build tag walcheck keeps books")
	}
	o := onDisk(t, wal.SyncNone)
	o.SlabBytes, o.SlabCount = 1<<20, 4
	l := startOK(t, o)
	data := make([]byte, 1000)
	const entries = 20_000
	var from wal.Position
	for i := range entries {
		ref, err := appendWait(t.Context(), l, data)
		if err != nil {
			t.Fatal(err)
		}
		if i == entries-300 {
			from = ref.Pos // in memory to the end
		}
	}
	for name, c := range map[string]struct {
		from wal.Position
		want int
		most uint64
	}{"memory": {from, 300, 2 << 10}, "file": {0, entries, 1 << 20}} {
		seen := 0
		scan := func() {
			seen = 0
			if err := l.Scan(t.Context(), c.from, l.Durable(), func(wal.Entry) error { seen++; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		scan()
		bytes, objects := heapGrowth(scan)
		if seen != c.want {
			t.Errorf("%s: %d entries, want %d", name, seen, c.want)
		}
		if bytes > c.most || objects > 200 {
			t.Errorf("%s: %d bytes in %d objects for %d entries", name, bytes, objects, seen)
		}
		t.Logf("%s: %d bytes in %d objects for %d entries", name, bytes, objects, seen)
	}
}
