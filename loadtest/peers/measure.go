package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench"
	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
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
	roomWait      = 25 * time.Second
	copies        = 5                // halves: what a record takes of the disk at most, as a multiple of its size
	warmJVM       = 2 * time.Minute  // after the least time, for windows to agree
	warmOthers    = 40 * time.Second // in all
)

// sample is what one run of one peer gave.
type sample struct {
	Metrics   []result.Metric `json:"metrics,omitempty"`
	Disturbed bool            `json:"disturbed,omitempty"`
	Unsteady  bool            `json:"unsteady,omitempty"` // the warm-up ended without agreement
	Pressure  float64         `json:"cpuPressure"`
	Failure   string          `json:"failure,omitempty"`
	NotServed string          `json:"notServed,omitempty"` // the peer does not have what the row needs

	place, run string // where the run is kept, and its letter in the report
	quick      bool
}

var errDisk = errors.New("the run used more of the disk than --max-disk allows")

// space is what a run has used of the disk.
type space struct {
	dir    string
	before int64 // free
	most   atomic.Int64
}

func (s *space) used() (int64, error) {
	now, err := freeBytes(s.dir)
	used := s.before - now
	if err == nil && used > s.most.Load() {
		s.most.Store(used)
	}
	return used, err
}

// guard ends a run that takes too much of the disk.
func (t *table) guard(ctx context.Context) (context.Context, *space, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &space{dir: t.dir}
	var err error
	if s.before, err = freeBytes(t.dir); err != nil {
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
				if used, err := s.used(); err == nil && used > t.o.maxDisk {
					cancel(errDisk)
				}
			}
		}
	}()
	return ctx, s, func() { cancel(nil) }
}

// cell runs one peer once, again where others disturbed it. Its data is gone afterwards.
func (t *table) cell(ctx context.Context, r *row, p *peer, repetition int) sample {
	for attempt := 0; ; attempt++ {
		s, err := t.once(ctx, r, p, fmt.Sprintf("%s-%s-%d-%d", r.id, p.id, repetition+1, attempt+1))
		switch {
		case errors.Is(err, bench.ErrNoTransactions):
			return sample{NotServed: "not served yet: transactions", Pressure: -1}
		case err != nil:
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
	limited, disk, cancel := t.guard(ctx)
	defer cancel()
	one := &single{t: t, disk: disk, row: r, peer: p, dir: dir, name: name, how: how{slowSync: r.slowSync, keepWAL: r.kind == crash}}
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
	if most := disk.most.Load(); err == nil && most > 0 && !p.null {
		s.Metrics = append(s.Metrics, result.Metric{Name: "disk", Unit: "GB", Value: float64(most) / 1e9, Better: -1})
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
	disk   *space
	filled bool // a reference's topic has what is read
}

// at is s pointed at the server.
func (o *single) at(s spec.Spec) spec.Spec {
	s.Bootstrap, s.ServerPIDs, s.Label = []string{o.server.bootstrap}, o.server.pids(), o.peer.name
	if o.peer.reference {
		s.Topic, s.Existing, s.Verify = referenceTopic, true, spec.VerifyAcks
		if o.filled {
			s.PrefillBytes = 0
		}
		o.filled = true
	}
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
			if err := o.room(ctx, int64(perSecond*s.Duration.Seconds())); err != nil {
				return sample{}, err
			}
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

// room waits, for a while, until what the warm-up has deleted leaves enough of the disk for a measurement of so many bytes: in a log, in
// objects and in objects that are merged.
func (o *single) room(ctx context.Context, size int64) error {
	if o.peer.null {
		return nil
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for deadline := time.Now().Add(roomWait); time.Now().Before(deadline); {
		if used, err := o.disk.used(); err != nil || used+size*copies/2 < o.t.o.maxDisk {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// warm runs windows, each on a topic of its own that is deleted, until three agree. It returns bytes per second of the last one.
func (o *single) warm(ctx context.Context) (perSecond float64, steady bool, err error) {
	detector := pace.Warmup{Windows: 3, Tolerance: settled}
	began, least := time.Now(), o.t.o.warmup(o.peer.jvm)
	window, most := o.t.o.window, warmOthers
	if o.peer.jvm {
		most = least + warmJVM
	}
	for range mostWindows {
		s := o.spec
		s.Duration, s.Verify = window, spec.VerifyAcks
		res, err := bench.Run(ctx, o.at(s), bench.Options{})
		if err != nil {
			return 0, false, err
		}
		perSecond = (res.MBs(res.Produced) + res.MBs(res.Consumed)) * 1e6
		if s.Producers > 0 && perSecond > 0 {
			window = min(window, max(time.Second, time.Duration(windowBytes/perSecond*float64(time.Second))))
		}
		agreed := detector.Add(perSecond)
		long := time.Since(began) >= least
		if long && (agreed || o.t.o.quick) {
			return perSecond, agreed, nil
		}
		if time.Since(began) > most {
			break
		}
	}
	return perSecond, false, nil
}

// bench runs a load test, keeps its result as it came, and takes its figures.
func (o *single) bench(ctx context.Context, s spec.Spec) (sample, error) {
	res, err := bench.Run(ctx, o.at(s), bench.Options{Version: o.t.run.Commit})
	if res == nil {
		return sample{}, err
	}
	if text, encodeErr := res.Encode(); encodeErr == nil && len(o.t.o.folders()) > 0 {
		err = errors.Join(err, os.WriteFile(filepath.Join(o.t.raw, "bench-"+o.name+".json"), append(text, '\n'), 0o644))
	}
	got := sample{Metrics: figures(res), Disturbed: res.Usage.Disturbed, Pressure: res.Usage.Pressure, Unsteady: res.Warmup.Auto && !res.Warmup.Steady}
	if tr := res.Trend; tr != nil && o.row.kind == soak {
		got.Metrics = append(got.Metrics, result.Metric{Name: "RSS slope", Unit: "MB/min", Value: tr.ServerRSSPerMinute / 1e6, Better: -1},
			result.Metric{Name: "p99.9 first quarter", Unit: "ms", Value: float64(tr.P999First) / 1e6, Better: -1},
			result.Metric{Name: "p99.9 last quarter", Unit: "ms", Value: float64(tr.P999Last) / 1e6, Better: -1})
	}
	return got, err
}

const perCPU = "per server CPU"

// figures of a result, with the store's CPU and memory apart from the broker's, which is the first of the servers.
func figures(res *result.Result) []result.Metric {
	cpu, bytes, all := res.Usage.ServerCPU, float64(res.Produced.Bytes+res.Consumed.Bytes), res.Metrics()
	if n := len(res.Usage.Servers); n > 1 && bytes > 0 {
		broker, store := res.Usage.Servers[0], machine.ServerUse{}
		for _, u := range res.Usage.Servers[1:] {
			store.CPU, store.PeakRSS = store.CPU+u.CPU, store.PeakRSS+u.PeakRSS
		}
		cpu = broker.CPU
		own := map[[2]string]float64{
			{"server CPU", "s/GB"}: cpu / bytes * 1e9, {"server CPU", "CPUs"}: cpu / res.Seconds,
			{"server RSS", "MB"}: float64(broker.RSS) / 1e6, {"server peak RSS", "MB"}: float64(broker.PeakRSS) / 1e6,
		}
		for i := range all {
			if v, ok := own[[2]string{all[i].Name, all[i].Unit}]; ok {
				all[i].Value = v
			}
		}
		all = append(all, result.Metric{Name: "store CPU", Unit: "s/GB", Value: store.CPU / bytes * 1e9, Better: -1},
			result.Metric{Name: "store peak RSS", Unit: "MB", Value: float64(store.PeakRSS) / 1e6, Better: -1})
	}
	if res.HasServer && cpu > 0 {
		all = append(all, result.Metric{Name: perCPU, Unit: "MB/CPU-s", Value: bytes / 1e6 / cpu, Better: 1})
	}
	return all
}
