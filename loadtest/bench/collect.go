package bench

import (
	"context"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tidemarkmq/tidemark/loadtest/bench/latency"
	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/bench/pace"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

const (
	warmupWindow    = 5 * time.Second
	warmupWindows   = 3
	warmupTolerance = 0.05
	nearly          = 20 * time.Millisecond // how often the end of what has no set time is looked for
)

// collector follows a run second by second. One goroutine uses it.
type collector struct {
	r         *run
	hasServer bool
	last      counters
	from      counters // start of the measurement
	to        counters // its end
	series    []result.Second
	warmup    result.Warmup
	end       int64 // of the measurement, once it has begun
}

// counters is all counters at one time.
type counters struct {
	at       int64
	produced result.Flow
	consumed result.Flow
	machine  machine.Sample
}

func (c *collector) read() (counters, error) {
	m, err := machine.Take(c.r.spec.ServerPIDs)
	return counters{c.r.clock.Now(), sum(c.r.meters.produced), sum(c.r.meters.consumed), m}, err
}

func sum(meters []*meter) result.Flow {
	var f result.Flow
	for _, m := range meters {
		f.Records += m.records.Load()
		f.Bytes += m.bytes.Load()
	}
	return f
}

// begin reads the counters before any load; without a warm-up the measurement starts here.
func (c *collector) begin() (err error) {
	c.last, err = c.read()
	c.from = c.last
	if d, auto := c.r.spec.WarmupTime(); d == 0 && !auto && err == nil {
		c.setWindow(c.from.at)
	}
	return err
}

// follow waits for the warm-up and the measurement; then it stops the load.
func (c *collector) follow(ctx context.Context) error {
	began := c.last.at
	if d, auto := c.r.spec.WarmupTime(); d > 0 || auto {
		if err := c.warm(ctx, began, d, auto); err != nil {
			return err
		}
		if err := c.open(ctx, began); err != nil {
			return err
		}
	}
	end := c.end
	if c.r.spec.Records > 0 {
		end = math.MaxInt64
	}
	err := c.tick(ctx, "measure", c.from.at, end, func() bool { return c.complete() })
	if c.r.stopAt.Load() == math.MaxInt64 { // the time was not known beforehand
		c.stopAt(c.r.clock.Now())
	}
	c.to = c.last
	return err
}

// warm ticks until the warm-up is over.
func (c *collector) warm(ctx context.Context, began int64, d time.Duration, auto bool) error {
	end := began + int64(d)
	if auto {
		end = began + int64(c.r.spec.WarmupMax)
	}
	detector := pace.Warmup{Windows: warmupWindows, Tolerance: warmupTolerance}
	window := c.last
	err := c.tick(ctx, "warm-up", began, end, func() bool {
		if !auto || c.last.at-window.at < int64(warmupWindow) {
			return false
		}
		n := c.last.produced.Records + c.last.consumed.Records - window.produced.Records - window.consumed.Records
		steady := detector.Add(float64(n) / time.Duration(c.last.at-window.at).Seconds())
		window = c.last
		if steady && c.last.at-began >= int64(c.r.spec.WarmupMin) {
			c.warmup.Steady = true
			return true
		}
		return false
	})
	c.warmup.Auto, c.warmup.Seconds = auto, time.Duration(c.last.at-began).Seconds()
	return err
}

// open lets the measurement begin with what is due from a moment on that still lies ahead, so that nothing due then can have come
// before its recorder knew; then it reads the counters.
func (c *collector) open(ctx context.Context, began int64) error {
	for lead := 2 * time.Millisecond; ; lead *= 2 {
		from := c.r.clock.Now() + int64(lead)
		c.setWindow(from)
		if c.r.clock.Now() >= from {
			continue // this took too long: another try, further ahead
		}
		if err := c.r.clock.Until(ctx, from); err != nil {
			return err
		}
		err := c.second("warm-up", began)
		c.from = c.last
		return err
	}
}

func (c *collector) setWindow(from int64) {
	w := latency.Window{From: from, To: math.MaxInt64}
	if c.r.spec.Records == 0 && c.r.spec.Read != spec.ReadOnce {
		w.To = from + int64(c.r.spec.Duration)
		c.stopAt(w.To)
	}
	c.end = from + int64(c.r.spec.Duration)
	for _, set := range []*latency.Set{c.r.acks, c.r.ends, c.r.commits} {
		set.Measure(w)
	}
}

// stopAt sets the time from which on nothing is sent. A run that has failed stays stopped.
func (c *collector) stopAt(at int64) {
	for {
		old := c.r.stopAt.Load()
		if old == 0 || c.r.stopAt.CompareAndSwap(old, at) {
			return
		}
	}
}

// complete tells whether the measurement ends before its time.
func (c *collector) complete() bool {
	if n := c.r.spec.Records; n > 0 {
		now := sum(c.r.meters.produced).Records - c.from.produced.Records
		if len(c.r.producers) == 0 {
			now = sum(c.r.meters.consumed).Records - c.from.consumed.Records
		}
		return now >= n
	}
	if c.r.spec.Read != spec.ReadOnce || len(c.r.readings) == 0 {
		return false
	}
	for _, g := range c.r.readings {
		if !g.arrived(g.ends) {
			return false
		}
	}
	return true
}

// tick reads the counters each second until the end or until done says so. What may be done before its time is asked for often.
func (c *collector) tick(ctx context.Context, phase string, began, end int64, done func() bool) error {
	often := phase == "measure" && (c.r.spec.Records > 0 || c.r.spec.Read == spec.ReadOnce)
	for c.r.clock.Now() < end {
		second := min(end, c.last.at+int64(time.Second))
		over := false
		for now := c.r.clock.Now(); now < second && !over; now = c.r.clock.Now() {
			wait := time.Duration(second - now)
			if often {
				wait = min(wait, nearly)
			}
			select {
			case <-time.After(wait):
			case <-c.r.failed:
				return c.r.failureOrNil()
			case <-ctx.Done():
				return ctx.Err()
			}
			over = often && done()
		}
		if err := c.second(phase, began); err != nil {
			return err
		}
		if over || done() {
			return nil
		}
	}
	return nil
}

// second closes a second of the series.
func (c *collector) second(phase string, began int64) error {
	now, err := c.read()
	if err != nil {
		return err
	}
	wall := time.Duration(now.at - c.last.at)
	s := result.Second{
		At: time.Duration(now.at).Seconds(), Seconds: wall.Seconds(), Produced: minus(now.produced, c.last.produced),
		Consumed: minus(now.consumed, c.last.consumed), Latency: map[string]result.Three{}, Pressure: -1,
	}
	for kind, h := range c.collect() {
		if h.TotalCount() > 0 {
			s.Latency[kind] = result.Three{P50: h.ValueAtQuantile(50), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max()}
		}
	}
	if m := now.machine; m.Known && wall > 0 {
		u := machine.Between(c.last.machine, m, wall, 1, c.hasServer)
		s.MachineKnown, s.ServerCPUs, s.ClientCPUs = true, u.ServerCPU/wall.Seconds(), u.ClientCPU/wall.Seconds()
		s.ServerRSS, s.ClientRSS, s.Pressure = m.ServerRSS, m.ClientRSS, u.Pressure
	}
	c.last = now
	c.series = append(c.series, s)
	c.r.opts.Progress(Progress{Phase: phase, Elapsed: time.Duration(now.at - began), Second: &s})
	return nil
}

func (c *collector) collect() map[string]*hdrhistogram.Histogram {
	return map[string]*hdrhistogram.Histogram{
		result.Ack: c.r.acks.Collect(), result.EndToEnd: c.r.ends.Collect(), result.Commit: c.r.commits.Collect(),
	}
}

func minus(a, b result.Flow) result.Flow {
	return result.Flow{Records: a.Records - b.Records, Bytes: a.Bytes - b.Bytes}
}
