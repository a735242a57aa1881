package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

const (
	recordBytes = 1024
	// Equal batches: each request holds one batch of this size.
	equalBatch     = 64 << 10
	equalProducers = 4
	// Many connections: smaller requests, so that a thousand connections with five each do not hold more than brokers and clients may.
	connectionBatch      = 16 << 10
	connectionPartitions = 12
	connectionRate       = 50_000 // records/s
	inFlight             = 5
	publicationLead      = 9 * time.Second // from the end of the load to the publication that is measured: the last seal waits for 5 s
)

// figures of one run, by name.
type figures map[string]float64

// load is what all produce points have in common.
func (p *program) load(partitions int) spec.Spec {
	s := spec.Default()
	s.Topic, s.Existing, s.Partitions, s.Duration, s.Warmup, s.Verify = topic, true, partitions, p.o.each, p.o.warmup.String(), spec.VerifyEnds
	s.RecordSize = fmt.Sprint(recordBytes)
	return s
}

// equal holds the size of batches: the lean client sends requests of one full batch each to the partitions in turn, so nothing but the
// number of partitions changes.
func equal(ctx context.Context, p *program, dir string, x int) (outcome, error) {
	s := p.load(x)
	s.Client, s.BatchBytes, s.Producers, s.InFlight = spec.ClientRaw, equalBatch, equalProducers, inFlight
	return p.produce(ctx, dir, s, true)
}

// natural lets batches become what a client makes of records that are spread over the partitions: they shrink as partitions grow.
func natural(ctx context.Context, p *program, dir string, x int) (outcome, error) {
	s := p.load(x)
	s.Client, s.Partitioner = spec.ClientFranz, "round-robin"
	return p.produce(ctx, dir, s, false)
}

func connections(rate float64) measure {
	return func(ctx context.Context, p *program, dir string, x int) (outcome, error) {
		s := p.load(connectionPartitions)
		s.Client, s.BatchBytes, s.Producers, s.InFlight, s.Rate = spec.ClientRaw, connectionBatch, x, inFlight, rate
		return p.produce(ctx, dir, s, false)
	}
}

// produce runs a load on a broker of its own and follows its bytes until they are in the store, and in manifests too if publish is set.
func (p *program) produce(ctx context.Context, dir string, s spec.Spec, publish bool) (o outcome, err error) {
	var more []string
	if publish {
		more = []string{"--absorb-every", (p.o.warmup + p.o.each + publicationLead).String()}
	}
	b, err := start(ctx, p.bin, dir, more...)
	if err != nil {
		return o, err
	}
	defer func() { b.Kill() }()
	if err := b.create(ctx, s.Partitions); err != nil {
		return o, err
	}
	from, err := b.read(ctx)
	if err != nil {
		return o, err
	}
	res, err := p.bench(ctx, b, s)
	if err != nil {
		return o, err
	}
	moved, err := b.moved(ctx)
	if err != nil {
		return o, err
	}
	o = judged(res)
	o.Figures = produceFigures(res, since(from, moved))
	if publish {
		published, err := b.await(ctx, "publication of manifests", func(m metrics) bool { return m.pending() == 0 })
		if err != nil {
			return o, err
		}
		o.Figures.publication(since(moved, published))
	}
	return o, p.readBack(ctx, b, s.Partitions, int64(moved.metrics.sum("tidemark_partition_append_records_total")))
}

func judged(res *result.Result) outcome {
	return outcome{Disturbed: res.Usage.Disturbed, Pressure: res.Usage.Pressure, Foreign: res.Usage.Foreign, Steal: res.Usage.Steal}
}

// produceFigures are those of the measured window and those of all that was written, from before the load until it was in the store.
func produceFigures(res *result.Result, all between) figures {
	records := all.delta(func(m metrics) float64 { return m.sum("tidemark_partition_append_records_total") })
	batches := all.delta(func(m metrics) float64 { return m.sum("tidemark_partition_append_batches_total") })
	bytes := all.delta(func(m metrics) float64 { return m.sum("tidemark_partition_append_bytes_total") })
	gb := records * recordBytes / 1e9
	ack := res.Latency[result.Ack]
	f := figures{
		"produced": res.MBs(res.Produced), "window": res.ServerCPUPerGB(), "cost": over(all.use.ServerCPU, gb), "client": res.ClientCPUPerGB(),
		"ack50": float64(ack.P50) / 1e6, "ack99": float64(ack.P99) / 1e6, "batch": over(bytes, batches) / 1024, "written": gb,
		"rss": greatestRSS(res),
	}
	for _, kind := range storeKinds {
		f[kind] = over(all.delta(func(m metrics) float64 { return m.requests(kind) }), gb)
	}
	f["etcd"] = over(all.delta(metrics.etcdWrites), gb)
	f["etcdrate"] = f["etcd"] * f["produced"] / 1e3
	return f
}

// publication of everything that was written, in manifests: figures of one, not per GB.
func (f figures) publication(u between) {
	f["pubcpu"], f["pubput"] = u.use.ServerCPU, u.delta(func(m metrics) float64 { return m.requests("put") })
	f["pubget"], f["pubetcd"] = u.delta(func(m metrics) float64 { return m.requests("get") }), u.delta(metrics.etcdWrites)
}

func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// greatestRSS of the server in the measured window, MB.
func greatestRSS(res *result.Result) float64 {
	most := res.Usage.ServerRSS
	for _, s := range res.Series {
		if s.At > 0 {
			most = max(most, s.ServerRSS)
		}
	}
	return float64(most) / 1e6
}

// bench runs a load test against the broker. A result that was not verified is an error.
func (p *program) bench(ctx context.Context, b *server, s spec.Spec) (*result.Result, error) {
	s.Bootstrap, s.ServerPIDs = []string{b.Bootstrap}, []int{b.PID()}
	res, err := bench.Run(ctx, s, bench.Options{Version: p.version})
	if res != nil {
		p.keep(res)
	}
	return res, err
}

// readBack reads the topic from its start to its end, checks each record, and that there are as many as the broker appended.
func (p *program) readBack(ctx context.Context, b *server, partitions int, records int64) error {
	s := p.load(partitions)
	s.Client, s.Producers, s.Fanout, s.Read, s.Verify, s.Warmup, s.Duration = spec.ClientRaw, 0, 1, spec.ReadOnce, spec.VerifyFull, "0s", time.Hour
	res, err := p.bench(ctx, b, s)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if res.Consumed.Records != records {
		return fmt.Errorf("read back: %d records, %d were appended", res.Consumed.Records, records)
	}
	return nil
}
