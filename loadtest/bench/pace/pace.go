// Package pace says when records are due and when a warm-up is over.
package pace

import (
	"context"
	"math"
	"time"
)

// Schedule is a fixed rate. Record i is due at Start + i ⁄ Rate, whatever became of the ones before: a server that stalls makes
// later records late, and their latency counts from when they were due.
type Schedule struct {
	Start int64   // nanoseconds of the run's clock
	Rate  float64 // records/s
	Phase float64 // of a record, so that several schedules interleave
}

// Due is when record i is due.
func (s Schedule) Due(i int64) int64 {
	return s.Start + int64((float64(i)+s.Phase)/s.Rate*float64(time.Second))
}

// Count is how many records are due before a time.
func (s Schedule) Count(before int64) int64 {
	if before <= s.Start {
		return 0
	}
	n := int64(math.Ceil(float64(before-s.Start)*s.Rate/float64(time.Second) - s.Phase))
	return max(0, n)
}

// Clock is the run's clock: nanoseconds since it was made, monotonic. The sleeper waits precisely where the system can.
type Clock struct {
	base  time.Time
	sleep func(time.Duration)
}

// NewClock starts at 0. sleep nil: time.Sleep.
func NewClock(sleep func(time.Duration)) *Clock {
	if sleep == nil {
		sleep = time.Sleep
	}
	return &Clock{time.Now(), sleep}
}

// Now is the time on the clock.
func (c *Clock) Now() int64 { return int64(time.Since(c.base)) }

// longestSleep bounds how long Until does not notice that ctx is done.
const longestSleep = 50 * time.Millisecond

// Until waits until the clock shows due; it returns at once when that is past. Its error is that of ctx.
func (c *Clock) Until(ctx context.Context, due int64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		early := time.Duration(due - c.Now())
		if early <= 0 {
			return nil
		}
		c.sleep(min(early, longestSleep))
	}
}

// Warmup tells when a rate is steady: when the last windows agree.
type Warmup struct {
	Windows   int     // how many must agree
	Tolerance float64 // relative to their mean
	rates     []float64
}

// Add takes the rate of the next window and tells whether the rate is steady now.
func (w *Warmup) Add(rate float64) bool {
	w.rates = append(w.rates, rate)
	if len(w.rates) < w.Windows {
		return false
	}
	last := w.rates[len(w.rates)-w.Windows:]
	low, high, sum := last[0], last[0], 0.0
	for _, r := range last {
		low, high, sum = min(low, r), max(high, r), sum+r
	}
	return low > 0 && high-low <= w.Tolerance*sum/float64(len(last))
}
