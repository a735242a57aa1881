package pace

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/latency"
)

func TestScheduleIsFixed(t *testing.T) {
	s := Schedule{Start: int64(time.Second), Rate: 1000, Phase: 0.5}
	for i, want := range map[int64]time.Duration{0: 1000_500 * time.Microsecond, 1: 1001_500 * time.Microsecond, 1_000_000: 1001*time.Second + 500*time.Microsecond} {
		if got := s.Due(i); got != int64(want) {
			t.Errorf("record %d is due at %v, want %v", i, time.Duration(got), want)
		}
	}
	for before, want := range map[time.Duration]int64{0: 0, time.Second: 0, 1001 * time.Millisecond: 1, 2 * time.Second: 1000} {
		if got := s.Count(int64(before)); got != want {
			t.Errorf("%d due before %v, want %d", got, before, want)
		}
	}
}

// A server that answers in 1 ms but stands still for a second must show in the percentiles as the callers of a real system would
// have felt it: a tenth of the records waited up to a second, though hardly more than one was sent meanwhile.
func TestStalledServerShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const service, stallFrom, stallTo = time.Millisecond / 2, 4 * time.Second, 5 * time.Second
		clock := NewClock(nil)
		schedule := Schedule{Rate: 1000}
		open, naive := latency.New(), latency.New()
		for i := range int64(10_000) {
			due := schedule.Due(i)
			if err := clock.Until(context.Background(), due); err != nil {
				t.Fatal(err)
			}
			sent := clock.Now()
			if now := time.Duration(sent); now >= stallFrom && now < stallTo {
				time.Sleep(stallTo - now) // the server, with one request at a time
			}
			time.Sleep(service)
			latency.Record(open, clock.Now()-due, 1)
			latency.Record(naive, clock.Now()-sent, 1)
		}
		ms := func(nanos int64) time.Duration { return time.Duration(nanos).Round(time.Millisecond / 2) }
		if got := ms(naive.ValueAtQuantile(99)); got > time.Millisecond {
			t.Errorf("measured from sending: p99 %v, which was to hide the stall", got)
		}
		if got := ms(open.ValueAtQuantile(50)); got > time.Millisecond {
			t.Errorf("p50 %v", got)
		}
		// The backlog of 1 s at 1,000/s is worked off at 2,000/s: a fifth of all records waited, evenly from 1 s down to nothing.
		if got := time.Duration(open.ValueAtQuantile(90)); got < 450*time.Millisecond || got > 550*time.Millisecond {
			t.Errorf("p90 %v, want about 500 ms", got)
		}
		if got := time.Duration(open.ValueAtQuantile(99.9)); got < 980*time.Millisecond {
			t.Errorf("p99.9 %v, want about 1 s", got)
		}
	})
}

func TestUntilEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		clock := NewClock(nil)
		if err := clock.Until(ctx, int64(time.Hour)); err == nil {
			t.Error("no error")
		}
		if now := time.Duration(clock.Now()); now > time.Second+longestSleep {
			t.Errorf("it waited %v", now)
		}
	})
}

func TestWarmupEndsWhenWindowsAgree(t *testing.T) {
	for name, test := range map[string]struct {
		rates []float64
		at    int // the window with which it is steady; 0: never
	}{
		"at once":       {[]float64{100, 101, 99}, 3},
		"after a climb": {[]float64{10, 50, 90, 100, 102, 101}, 6},
		"never":         {[]float64{100, 110, 100, 110, 100}, 0},
		"idle":          {[]float64{0, 0, 0, 0}, 0},
		"too few":       {[]float64{100, 100}, 0},
		"just outside":  {[]float64{100, 102.5, 105.2}, 0},
		"just inside":   {[]float64{100, 102.5, 105}, 3},
	} {
		w := Warmup{Windows: 3, Tolerance: 0.05}
		at := 0
		for i, r := range test.rates {
			if w.Add(r) {
				at = i + 1
				break
			}
		}
		if at != test.at {
			t.Errorf("%s: steady with window %d, want %d", name, at, test.at)
		}
	}
}
