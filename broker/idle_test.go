package broker

import "testing"

func TestIdleHeapIsFreedOncePerQuietTime(t *testing.T) {
	var w idleWatch
	var allocated, appended uint64 = 100 << 20, 1 << 30
	freed := 0
	looks := func(n int, alloc, appendBytes uint64) {
		for range n {
			allocated, appended = allocated+alloc, appended+appendBytes
			if w.look(allocated, appended) {
				freed++
			}
		}
	}
	for i, step := range []struct {
		looks         int
		alloc, append uint64
		freed         int
	}{
		{1, 0, 0, 0}, // the start
		{idleLooks - 1, idleAllocBytes - 1, 0, 0},
		{1, 0, idleAppendBytes - 1, 1},
		{100, 0, 0, 1}, // not again
		{1, idleAllocBytes, 0, 1},
		{idleLooks - 1, 0, 0, 1},
		{1, 0, idleAppendBytes, 1}, // records without garbage are no quiet
		{idleLooks, 0, 0, 2},
	} {
		if looks(step.looks, step.alloc, step.append); freed != step.freed {
			t.Fatalf("step %d: freed %d times, want %d", i, freed, step.freed)
		}
	}
}
