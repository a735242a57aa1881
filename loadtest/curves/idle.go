package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

const (
	idleSettle = 7 * time.Second // after everything is in the store, for what a broker does soon after
	pacedRate  = 5000            // records/s that memory under load is measured with
)

// idle writes one record to each partition, waits until all is in the store, and watches a broker without a client. Then it puts a fixed
// load on it, to see what memory that takes.
func idle(ctx context.Context, p *program, dir string, x int) (o outcome, err error) {
	b, err := start(ctx, p.bin, dir)
	if err != nil {
		return o, err
	}
	defer func() { b.Kill() }()
	began := time.Now()
	if err := b.create(ctx, x); err != nil {
		return o, err
	}
	created := time.Since(began)
	s := p.load(x)
	s.Client, s.BatchBytes, s.InFlight, s.Records, s.Warmup = spec.ClientRaw, recordBytes+512, inFlight, int64(x), "0s"
	if _, err := p.bench(ctx, b, s); err != nil {
		return o, fmt.Errorf("one record for each partition: %w", err)
	}
	if _, err := b.moved(ctx); err != nil {
		return o, err
	}
	if err := sleep(ctx, idleSettle); err != nil {
		return o, err
	}
	from, err := b.read(ctx)
	if err != nil {
		return o, err
	}
	if err := sleep(ctx, p.o.idle); err != nil {
		return o, err
	}
	to, err := b.read(ctx)
	if err != nil {
		return o, err
	}
	u := since(from, to)
	o = outcome{Disturbed: u.use.Disturbed, Pressure: u.use.Pressure, Foreign: u.use.Foreign, Steal: u.use.Steal, Figures: figures{
		"create": created.Seconds() * 1e3, "idlecpu": 100 * u.use.ServerCPU / u.seconds, "idlerss": float64(u.use.ServerRSS) / 1e6,
		"idleetcd": u.delta(metrics.etcdWrites) / u.seconds, "idlekeep": u.delta(keepAlives) / u.seconds, "idlestore": 0,
		"idleread": u.delta(func(m metrics) float64 { return m.sum("tidemark_metadata_requests_total", `kind="range"`) }) / u.seconds,
		"heap":     to.metrics.sum("go_memstats_heap_alloc_bytes") / 1e6,
	}}
	for _, kind := range storeKinds {
		o.Figures["idlestore"] += u.delta(func(m metrics) float64 { return m.requests(kind) }) / u.seconds
	}
	s = p.load(x)
	s.Rate, s.Partitioner, s.Linger = pacedRate, "round-robin", 0
	res, err := p.bench(ctx, b, s)
	if err != nil {
		return o, fmt.Errorf("paced load: %w", err)
	}
	o.Figures["pacedrss"], o.Figures["pacedcpu"] = greatestRSS(res), 100*res.Usage.ServerCPU/res.Seconds
	after, err := b.read(ctx)
	if err != nil {
		return o, err
	}
	return o, p.readBack(ctx, b, x, int64(after.metrics.sum("tidemark_partition_append_records_total")))
}

func keepAlives(m metrics) float64 {
	return m.sum("tidemark_metadata_requests_total", `kind="keepalive"`)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
