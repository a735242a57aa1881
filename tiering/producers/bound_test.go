package producers

import (
	"math"
	"testing"

	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// once is the only batch of a producer.
func once(id, offset int64) *batch.Header {
	return &batch.Header{ProducerID: id, BaseOffset: offset, Count: 1, MaxTimestampMs: 77}
}

func TestManyProducersForgetTheOldest(t *testing.T) {
	var s State
	forgotten := 0
	apply := func(h *batch.Header, nowMs int64) { forgotten += s.Apply(h, nowMs) }
	apply(once(1, 0), 100)
	open := once(2, 1)
	open.Attributes |= 1 << 4 // transactional
	apply(open, 50)
	apply(once(3, 2), 60)
	apply(once(1, 3), 5000) // heard of again
	for id := int64(4); id <= 2*MaxProducers; id++ {
		apply(once(id, id), 200)
		if s.Len() > MaxProducers {
			t.Fatalf("%d producers", s.Len())
		}
	}
	if got := s.Len() + forgotten; got != 2*MaxProducers {
		t.Errorf("%d are kept and %d forgotten, of %d", s.Len(), forgotten, 2*MaxProducers)
	}
	for id, want := range map[int64]bool{1: true, 2: true, 3: false, 4: false, 2 * MaxProducers: true, 2*MaxProducers - MaxProducers/2: true} {
		if got := s.Entry(id) != nil; got != want {
			t.Errorf("producer %d is known: %t", id, got)
		}
	}
	if _, dup, err := s.Check(once(3, 0)); dup || err != nil {
		t.Errorf("a forgotten producer gets %t, %v", dup, err)
	}
}

func TestMergeIsBounded(t *testing.T) {
	var s, delta State
	for id := int64(1); id <= MaxProducers; id++ {
		s.Apply(once(id, id), 100)
		delta.Apply(once(MaxProducers+id, MaxProducers+id), 100)
	}
	s.Merge(&delta)
	if s.Len() > MaxProducers || s.Entry(1) != nil || s.Entry(2*MaxProducers) == nil {
		t.Errorf("%d producers after the merge", s.Len())
	}
}

func TestEntryBytes(t *testing.T) {
	var s State
	e := s.entry(math.MaxInt64)
	e.Epoch, e.CoordinatorEpoch, e.LastSeenMs, e.TxnFirstOffset, e.txnEnded = math.MaxInt16, math.MaxInt32, math.MinInt64, math.MaxInt64, true
	for range WindowBatches {
		e.push(slot{lastOffset: math.MaxInt64, timestampMs: math.MinInt64, lastSeq: math.MaxInt32, offsetDelta: math.MaxInt32})
	}
	if n := len(s.Encode(nil)) - 2; n > MaxEntryBytes || MaxEntryBytes*MaxProducers > 20_000_000 {
		t.Errorf("an entry takes %d bytes, MaxEntryBytes is %d", n, MaxEntryBytes)
	}
}
