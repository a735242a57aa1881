package partition

import (
	"bytes"
	"reflect"
	"testing"
	"unsafe"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
)

func TestEpochs(t *testing.T) {
	var e epochs
	e = e.assign(1, 0)
	e = e.assign(1, 50) // known already
	e = e.assign(3, 100)
	e = e.assign(4, 200)
	e = e.assign(6, 200) // epoch 4 never had a record
	want := epochs{{Epoch: 1, Start: 0}, {Epoch: 3, Start: 100}, {Epoch: 6, Start: 200}}
	if !reflect.DeepEqual(e, want) {
		t.Fatal(e)
	}
	for _, tt := range []struct {
		asked metadata.LeaderEpoch
		want  EpochEnd
	}{
		{-1, noEpochEnd},
		{0, EpochEnd{0, 0}}, // before the history
		{1, EpochEnd{1, 100}},
		{2, EpochEnd{1, 100}},
		{3, EpochEnd{3, 200}},
		{5, EpochEnd{3, 200}},
		{6, EpochEnd{6, 250}},
		{7, noEpochEnd},
	} {
		if got := e.end(tt.asked, 250); got != tt.want {
			t.Errorf("end of epoch %d: %+v, want %+v", tt.asked, got, tt.want)
		}
	}
	for offset, want := range map[metadata.Offset]metadata.LeaderEpoch{0: 1, 99: 1, 100: 3, 199: 3, 200: 6, 999: 6} {
		if got := e.at(offset); got != want {
			t.Errorf("epoch at %d: %d, want %d", offset, got, want)
		}
	}
	e = e.truncateStart(150)
	if want := (epochs{{Epoch: 3, Start: 150}, {Epoch: 6, Start: 200}}); !reflect.DeepEqual(e, want) {
		t.Fatal(e)
	}
	if got := e.end(1, 250); got != (EpochEnd{1, 150}) {
		t.Errorf("deleted epoch: %+v", got)
	}
	e = e.truncateStart(250)
	if want := (epochs{{Epoch: 6, Start: 250}}); !reflect.DeepEqual(e, want) {
		t.Fatal(e)
	}
	if got := (epochs{}).end(0, 10); got != noEpochEnd {
		t.Errorf("no history: %+v", got)
	}
}

func TestTail(t *testing.T) {
	var l tail[int]
	for i := range 100 {
		l.push(tailEntry[int]{base: int64(1000 + i*10), offsetDelta: 9, sizeBytes: 1, maxMs: int64(i), ref: i})
	}
	check := func(offset int64, want int) {
		t.Helper()
		got := l.from(offset)
		if want < 0 {
			if got != nil {
				t.Errorf("%d: found %d", offset, got[0].ref)
			}
			return
		}
		if len(got) == 0 || got[0].ref != want || got[len(got)-1].ref != 99 {
			t.Errorf("%d: %v", offset, got)
		}
	}
	check(999, -1)
	check(1000, 0)
	check(1009, 0)
	check(1010, 1)
	check(1999, 99)
	check(2000, -1)
	if maxMs := l.prune(30, func(e *tailEntry[int]) bool { return e.ref < 50 }); maxMs != 29 || l.bytes != 70 {
		t.Fatal(maxMs, l.bytes)
	}
	check(1299, -1)
	check(1300, 30)
	if maxMs := l.prune(1000, func(e *tailEntry[int]) bool { return e.ref < 50 }); maxMs != 49 {
		t.Fatal(maxMs)
	}
	check(1500, 50)
	for i := 100; i < 300; i++ { // moves what is left to the front instead of growing without bound
		l.push(tailEntry[int]{base: int64(1000 + i*10), offsetDelta: 9, sizeBytes: 1, ref: i})
		l.prune(1, func(*tailEntry[int]) bool { return true })
	}
	if cap(l.entries) > 256 {
		t.Errorf("capacity %d for at most 50 entries", cap(l.entries))
	}
	if maxMs := l.prune(1000, func(*tailEntry[int]) bool { return true }); maxMs != 0 || l.entries != nil || l.bytes != 0 {
		t.Fatalf("%d, %d bytes, capacity %d", maxMs, l.bytes, cap(l.entries))
	}
}

func TestLogPrunesOnlyWhatIsUploaded(t *testing.T) {
	l := newLog[int](OpenState{End: 100, LeaderEpoch: 2, MaxTimestampMs: 5})
	for i := range 4 {
		h := batch.Header{ProducerID: -1, LastOffsetDelta: 9, Count: 10, MaxTimestampMs: int64(50 - i), SizeBytes: 70}
		if _, dup, err := l.place(&h, 0); dup || err != nil {
			t.Fatal(dup, err)
		}
		if h.BaseOffset != int64(100+10*i) || h.LeaderEpoch != 2 {
			t.Fatalf("%+v", h)
		}
		l.placed(&h, i)
	}
	all := func(int) bool { return true }
	l.prune(119, 100, all)
	if l.tailStart() != 110 || l.coldMaxMs != 50 {
		t.Fatal(l.tailStart(), l.coldMaxMs)
	}
	l.prune(140, 100, func(ref int) bool { return ref < 3 })
	if l.tailStart() != 130 {
		t.Fatal(l.tailStart())
	}
	l.prune(140, 100, all)
	if l.tailStart() != 140 || l.end != 140 || l.sizeBytes != 280 {
		t.Fatal(l.tailStart(), l.end, l.sizeBytes)
	}
}

func TestIdlePartitionIsSmall(t *testing.T) {
	n := unsafe.Sizeof(Partition{}) + unsafe.Sizeof(Epoch{})*1 + unsafe.Sizeof(metadata.PartitionID{}) + 2*8 // map entry
	t.Logf("%d bytes", n)
	if n > 1536 {
		t.Errorf("an idle partition takes %d bytes", n)
	}
}

// TestAddChunkCutsBetweenBatches: the object store gives runs of several batches in one piece.
func TestAddChunkCutsBetweenBatches(t *testing.T) {
	one := mk(t, 1, 100, 0, nil)
	n := len(one)
	run := bytes.Repeat(one, 3)
	released := 0
	chunk := Chunk{Batches: [][]byte{run, run}, Release: func() { released++ }}
	for _, tt := range []struct {
		maxBytes   int
		atLeastOne bool
		want       int
	}{
		{0, false, 0}, {0, true, 1}, {n - 1, false, 0}, {n - 1, true, 1}, {n, false, 1}, {3*n - 1, false, 2}, {3 * n, false, 3}, {5*n + 1, true, 5}, {6 * n, false, 6}, {100 * n, false, 6},
	} {
		var b Batches
		released = 0
		if got := b.AddChunk(chunk, tt.maxBytes, tt.atLeastOne); got != tt.want*n {
			t.Errorf("%+v: %d bytes", tt, got)
		}
		total := 0
		for _, r := range b.Records {
			total += len(r)
		}
		b.Release()
		if total != tt.want*n || (released == 1) != (tt.want > 0) {
			t.Errorf("%+v: %d bytes, released %d times", tt, total, released)
		}
	}
}
