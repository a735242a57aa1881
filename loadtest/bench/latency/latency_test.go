package latency

import (
	"math"
	"testing"
	"time"
)

const msec = int64(time.Millisecond)

func TestWindowDecidesWhatIsMeasured(t *testing.T) {
	s := NewSet(2)
	s.Recorder(0).Add(0, msec, 1) // warm-up
	s.Measure(Window{10 * msec, 20 * msec})
	s.Recorder(1).Add(9*msec, 50*msec, 1) // due before, done within: not measured
	s.Recorder(1).Add(10*msec, 13*msec, 5)
	s.Recorder(2).AddAll([]int64{19 * msec, 20 * msec}, 100*msec) // shares with 0; the second is due behind the window
	if n := s.Collect().TotalCount(); n != 9 {
		t.Errorf("%d in the interval", n)
	}
	total := s.Total()
	if total.TotalCount() != 6 || math.Abs(float64(total.Max()-81*msec)) > 0.001*float64(81*msec) {
		t.Errorf("measured %d, most %d", total.TotalCount(), total.Max())
	}
	if n := s.Collect().TotalCount(); n != 0 {
		t.Errorf("%d twice", n)
	}
}

func TestMergeKeepsPercentiles(t *testing.T) {
	s := NewSet(4)
	s.Measure(Window{0, math.MaxInt64})
	all := New()
	for i := range int64(10_000) {
		s.Recorder(int(i)).Add(0, i*1000, 1)
		Record(all, i*1000, 1)
		if i%1000 == 0 {
			s.Collect()
		}
	}
	s.Collect()
	for _, q := range []float64{0, 50, 99, 99.9, 99.99, 100} {
		if got, want := s.Total().ValueAtQuantile(q), all.ValueAtQuantile(q); got != want {
			t.Errorf("%v %%: %d, want %d", q, got, want)
		}
	}
}

func TestOutOfRangeCountsAsTheNearest(t *testing.T) {
	h := New()
	Record(h, -5, 1)
	Record(h, math.MaxInt64, 1)
	if h.TotalCount() != 2 {
		t.Errorf("%d recorded", h.TotalCount())
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	r := NewRecorder()
	if n := testing.AllocsPerRun(1000, func() { r.Add(1, 2_000_000, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	r := NewRecorder()
	r.Measure(Window{0, math.MaxInt64})
	for i := int64(0); b.Loop(); i++ {
		r.Add(0, 1_000_000+i%100_000, 1)
	}
}
