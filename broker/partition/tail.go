package partition

import "sort"

// tailEntry is one batch of the tail. R says where its bytes are.
type tailEntry[R any] struct {
	base        int64
	maxMs       int64
	ref         R
	offsetDelta int32
	sizeBytes   int32
}

func (e *tailEntry[R]) next() int64 { return e.base + int64(e.offsetDelta) + 1 }

// tail indexes the newest batches of a log, in offset order and without gaps. It grows at the end and is pruned at the
// start. The zero value is empty.
type tail[R any] struct {
	entries []tailEntry[R]
	head    int // entries before it are pruned
	bytes   int64
}

// keepTailEntries is the capacity that an empty tail may keep.
const keepTailEntries = 4

func (t *tail[R]) live() []tailEntry[R] { return t.entries[t.head:] }

func (t *tail[R]) push(e tailEntry[R]) {
	if t.head > 0 && len(t.entries) == cap(t.entries) && t.head >= len(t.entries)/2 {
		n := copy(t.entries, t.entries[t.head:])
		clear(t.entries[n:])
		t.entries, t.head = t.entries[:n], 0
	}
	t.entries = append(t.entries, e)
	t.bytes += int64(e.sizeBytes)
}

// prune drops entries from the start while drop says so, at most limit, and returns the largest timestamp among them
// (-1 for none).
func (t *tail[R]) prune(limit int, drop func(*tailEntry[R]) bool) (maxMs int64) {
	maxMs = -1
	for ; limit > 0 && t.head < len(t.entries); limit-- {
		e := &t.entries[t.head]
		if !drop(e) {
			break
		}
		maxMs = max(maxMs, e.maxMs)
		t.bytes -= int64(e.sizeBytes)
		*e = tailEntry[R]{}
		t.head++
	}
	if t.head == len(t.entries) {
		t.head = 0
		if cap(t.entries) > keepTailEntries {
			t.entries = nil
		} else {
			t.entries = t.entries[:0]
		}
	}
	return maxMs
}

// from returns the entries that hold offset and follow it, or nil when offset lies before the tail or after its end.
func (t *tail[R]) from(offset int64) []tailEntry[R] {
	live := t.live()
	if len(live) == 0 || offset < live[0].base || offset >= live[len(live)-1].next() {
		return nil
	}
	i := sort.Search(len(live), func(i int) bool { return live[i].base > offset })
	return live[i-1:]
}
