package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench"
	"github.com/tidemarkmq/tidemark/loadtest/bench/pace"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

const (
	windowBytes   = 2 << 30 // a window of a warm-up ends after so much
	measuredBytes = 8 << 30 // a measurement at full speed is made short enough for so much
	settled       = 0.05
	mostWindows   = 40
	watchEvery    = time.Second
)

// sample is what one run of one peer gave.
type sample struct {
	Metrics   []result.Metric `json:"metrics,omitempty"`
	Disturbed bool            `json:"disturbed,omitempty"`
	Unsteady  bool            `json:"unsteady,omitempty"` // the warm-up ended without agreement
	Pressure  float64         `json:"cpuPressure"`
	Failure   string          `json:"failure,omitempty"`
}

var errDisk = errors.New("the run used more of the disk than --max-disk allows")

// guard ends a run that takes too much of the disk.
func (t *table) guard(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	before, err := freeBytes(t.dir)
	if err != nil {
		cancel(err)
	}
	go func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if now, err := freeBytes(t.dir); err == nil && before-now > t.o.maxDisk {
					cancel(errDisk)
				}
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// cell runs one peer once, again where others disturbed it. Its data is gone afterwards.
func (t *table) cell(ctx context.Context, r *row, p *peer, repetition int) sample {
	for attempt := 0; ; attempt++ {
		s, err := t.once(ctx, r, p, fmt.Sprintf("%s-%s-%d-%d", r.id, p.id, repetition+1, attempt+1))
		if err != nil {
			s.Failure = err.Error()
		}
		if s.Failure != "" || !s.Disturbed || attempt >= t.o.retries || ctx.Err() != nil {
			return s
		}
		log.Printf("%s, %s: disturbed by other load, again", r.id, p.name)
	}
}

func (t *table) once(ctx context.Context, r *row, p *peer, name string) (s sample, err error) {
	defer debug.FreeOSMemory() // each run begins with a small heap
	dir, err := os.MkdirTemp(t.dir, "run-")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	limited, cancel := t.guard(ctx)
	defer cancel()
	one := &single{t: t, row: r, peer: p, dir: dir, name: name, how: how{slowSync: r.slowSync, keepWAL: r.kind == crash}}
	if r.preset != "" {
		if one.spec, err = r.settings(t.o); err != nil {
			return s, err
		}
		one.how.partitions = one.spec.Partitions
	}
	one.server, err = p.start(limited, t.b, dir, one.how)
	if err != nil {
		return s, err
	}
	defer func() { one.server.kill() }()
	switch r.kind {
	case cold:
		s, err = one.cold(limited)
	case startUp, crash:
		s, err = one.restart(limited)
	default:
		s, err = one.load(limited)
	}
	if cause := context.Cause(limited); err != nil && errors.Is(cause, errDisk) {
		err = cause
	}
	return s, err
}

// single is one run on a broker of its own.
type single struct {
	t      *table
	row    *row
	peer   *peer
	dir    string
	name   string
	how    how
	spec   spec.Spec
	server *server
}

// at is s pointed at the server.
func (o *single) at(s spec.Spec) spec.Spec {
	s.Bootstrap, s.ServerPIDs, s.Label = []string{o.server.bootstrap}, o.server.pids(), o.peer.name
	return s
}

// load warms up and measures.
func (o *single) load(ctx context.Context) (sample, error) {
	s, unsteady := o.spec, false
	if o.row.kind == throughput {
		perSecond, ok, err := o.warm(ctx)
		if err != nil {
			return sample{}, fmt.Errorf("warm-up: %w", err)
		}
		unsteady = !ok
		if perSecond > 0 && s.Producers > 0 {
			s.Duration = min(s.Duration, max(2*time.Second, time.Duration(measuredBytes/perSecond*float64(time.Second))))
		}
	} else {
		s.Warmup, s.WarmupMin, s.WarmupMax = "auto", o.t.o.warmup(o.peer.jvm), 2*time.Minute
		if o.t.o.quick {
			s.Warmup = o.t.o.warmup(o.peer.jvm).String()
		}
	}
	got, err := o.bench(ctx, s)
	got.Unsteady = got.Unsteady || unsteady
	return got, err
}

// warm runs windows, each on a topic of its own that is deleted, until three agree. It returns bytes per second of the last one.
func (o *single) warm(ctx context.Context) (perSecond float64, steady bool, err error) {
	detector := pace.Warmup{Windows: 3, Tolerance: settled}
	began, least := time.Now(), o.t.o.warmup(o.peer.jvm)
	window := o.t.o.window
	for range mostWindows {
		s := o.spec
		s.Duration, s.Verify = window, spec.VerifyAcks
		res, err := bench.Run(ctx, o.at(s), bench.Options{})
		if err != nil {
			return 0, false, err
		}
		perSecond = (res.MBs(res.Produced) + res.MBs(res.Consumed)) * 1e6
		if s.Producers > 0 && perSecond > 0 && !o.peer.null {
			window = min(window, max(time.Second, time.Duration(windowBytes/perSecond*float64(time.Second))))
		}
		agreed := detector.Add(perSecond)
		long := time.Since(began) >= least
		if long && (agreed || o.t.o.quick) {
			return perSecond, agreed, nil
		}
		if time.Since(began) > least+2*time.Minute {
			break
		}
	}
	return perSecond, false, nil
}

// bench runs a load test, keeps its result as it came, and takes its figures.
func (o *single) bench(ctx context.Context, s spec.Spec) (sample, error) {
	res, err := bench.Run(ctx, o.at(s), bench.Options{Version: o.t.version})
	if res == nil {
		return sample{}, err
	}
	if text, encodeErr := res.Encode(); encodeErr == nil && o.t.o.raw != "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(o.t.o.raw, o.name+".json"), append(text, '\n'), 0o644))
	}
	got := sample{Metrics: res.Metrics(), Disturbed: res.Usage.Disturbed, Pressure: res.Usage.Pressure, Unsteady: res.Warmup.Auto && !res.Warmup.Steady}
	if cpu := res.Usage.ServerCPU; res.HasServer && cpu > 0 {
		got.Metrics = append(got.Metrics, result.Metric{Name: perCPU, Unit: "MB/CPU-s", Value: float64(res.Produced.Bytes+res.Consumed.Bytes) / 1e6 / cpu, Better: 1})
	}
	if tr := res.Trend; tr != nil && o.row.kind == soak {
		got.Metrics = append(got.Metrics, result.Metric{Name: "RSS slope", Unit: "MB/min", Value: tr.ServerRSSPerMinute / 1e6, Better: -1},
			result.Metric{Name: "p99.9 first quarter", Unit: "ms", Value: float64(tr.P999First) / 1e6, Better: -1},
			result.Metric{Name: "p99.9 last quarter", Unit: "ms", Value: float64(tr.P999Last) / 1e6, Better: -1})
	}
	return got, err
}

const perCPU = "per server CPU"
