// Package latency records latencies of many goroutines and tells them by second and in total.
package latency

import (
	"math"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	lowest  = int64(time.Microsecond)
	highest = int64(10 * time.Minute)
	digits  = 3
)

// New makes an empty histogram of nanoseconds, from a microsecond to ten minutes, true to three digits.
func New() *hdrhistogram.Histogram { return hdrhistogram.New(lowest, highest, digits) }

// Record adds n values; what is out of range counts as the nearest in range.
func Record(h *hdrhistogram.Histogram, nanos, n int64) {
	_ = h.RecordValues(min(max(nanos, 0), highest), n) // in range
}

// Window is the time in which what was due is measured, in nanoseconds of the run's clock: half-open.
type Window struct{ From, To int64 }

// Closed is a window in which nothing is due.
var Closed = Window{math.MaxInt64, math.MaxInt64}

// Recorder takes the latencies of one goroutine or a few. Safe for concurrent use.
type Recorder struct {
	mu       sync.Mutex
	window   Window
	measured *hdrhistogram.Histogram // of what was due in the window
	other    *hdrhistogram.Histogram
	spare    [2]*hdrhistogram.Histogram
}

// NewRecorder makes a recorder that measures nothing yet.
func NewRecorder() *Recorder {
	return &Recorder{window: Closed, measured: New(), other: New(), spare: [2]*hdrhistogram.Histogram{New(), New()}}
}

// Measure sets the window.
func (r *Recorder) Measure(w Window) {
	r.mu.Lock()
	r.window = w
	r.mu.Unlock()
}

// Add records that what was due at one time was done at another, n times.
func (r *Recorder) Add(due, done, n int64) {
	r.mu.Lock()
	r.add(due, done, n)
	r.mu.Unlock()
}

// AddAll records that several things with the due times given were done at one time.
func (r *Recorder) AddAll(due []int64, done int64) {
	r.mu.Lock()
	for _, d := range due {
		r.add(d, done, 1)
	}
	r.mu.Unlock()
}

func (r *Recorder) add(due, done, n int64) {
	h := r.other
	if due >= r.window.From && due < r.window.To {
		h = r.measured
	}
	Record(h, done-due, n)
}

// take hands out what was recorded since the last time; the caller must have merged it before the next take.
func (r *Recorder) take() (measured, other *hdrhistogram.Histogram) {
	r.spare[0].Reset()
	r.spare[1].Reset()
	r.mu.Lock()
	defer r.mu.Unlock()
	measured, other = r.measured, r.other
	r.measured, r.other = r.spare[0], r.spare[1]
	r.spare[0], r.spare[1] = measured, other
	return measured, other
}

// Set is the recorders of one kind of latency. One goroutine collects.
type Set struct {
	recorders []*Recorder
	total     *hdrhistogram.Histogram
	interval  *hdrhistogram.Histogram
}

// NewSet makes n recorders.
func NewSet(n int) *Set {
	s := &Set{total: New(), interval: New()}
	for range n {
		s.recorders = append(s.recorders, NewRecorder())
	}
	return s
}

// Recorder returns one for worker i; workers may share.
func (s *Set) Recorder(i int) *Recorder { return s.recorders[i%len(s.recorders)] }

// Measure sets the window of all recorders.
func (s *Set) Measure(w Window) {
	for _, r := range s.recorders {
		r.Measure(w)
	}
}

// Collect moves what was recorded since the last call into the total (what was due in the window) and returns all of it as the
// interval's. The result is valid until the next call.
func (s *Set) Collect() *hdrhistogram.Histogram {
	s.interval.Reset()
	for _, r := range s.recorders {
		measured, other := r.take()
		if measured.TotalCount() > 0 {
			s.total.Merge(measured)
			s.interval.Merge(measured)
		}
		if other.TotalCount() > 0 {
			s.interval.Merge(other)
		}
	}
	return s.interval
}

// Total is what was measured so far, as of the last Collect.
func (s *Set) Total() *hdrhistogram.Histogram { return s.total }
