package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

const (
	logPartitions = 12
	again         = 5 * time.Millisecond
	patience      = 2 * time.Minute
)

// unsealed are settings with which a log of a gibibyte stays in the log until a start or a stop moves it.
var unsealed = []string{"--seal-bytes", fmt.Sprint(1 << 30), "--seal-age", time.Hour.String()}

// fillRate bounds by how much a filling goes beyond its end, which is looked for every 20 ms.
const fillRate = 200_000 // records/s

// logRecords is how many records a log of so many MiB has, a little less: batches, groups and padding are in it too, and at a GiB the
// broker would move it by itself.
func logRecords(mib int) int64 { return int64(mib) * 980 }

// restart fills the log, ends the broker as kill -9 does or in order, and times the next start.
func restart(orderly bool) measure {
	return func(ctx context.Context, p *program, dir string, x int) (o outcome, err error) {
		b, err := start(ctx, p.bin, dir, unsealed...)
		if err != nil {
			return o, err
		}
		defer func() { b.Kill() }()
		if err := b.create(ctx, logPartitions); err != nil {
			return o, err
		}
		s := p.load(logPartitions)
		s.Client, s.InFlight, s.Records, s.Warmup, s.BatchBytes, s.Rate = spec.ClientRaw, inFlight, logRecords(x), "0s", equalBatch, fillRate
		if _, err := p.bench(ctx, b, s); err != nil {
			return o, fmt.Errorf("fill the log: %w", err)
		}
		full, err := b.read(ctx)
		if err != nil {
			return o, err
		}
		records, err := b.ends(ctx)
		if err != nil {
			return o, err
		}
		o.Figures = figures{"log": full.metrics.lag() / (1 << 20)}
		ended := time.Now()
		if !orderly {
			b.Kill()
		} else if err := b.Stop(); err != nil {
			return o, err
		} else {
			o.Figures["stop"] = time.Since(ended).Seconds() * 1e3
		}
		return o, p.reopen(ctx, dir, &b, &o, records)
	}
}

// reopen starts a broker on the same data in b's place, times it, and verifies that nothing is missing.
func (p *program) reopen(ctx context.Context, dir string, b **server, o *outcome, records int64) error {
	idle, err := machine.Take(nil)
	if err != nil {
		return err
	}
	next, err := start(ctx, p.bin, dir) // with defaults: what seals at a start may be is no setting of this measurement
	if err != nil {
		return err
	}
	*b = next
	ready := time.Since(next.began)
	acked, err := next.firstAck(ctx)
	if err != nil {
		return fmt.Errorf("first acknowledgement: %w", err)
	}
	now, err := next.read(ctx)
	if err != nil {
		return err
	}
	f := o.Figures
	f["ready"], f["firstack"], f["startcpu"] = ready.Seconds()*1e3, acked.Seconds()*1e3, now.machine.Server.Seconds()
	f["startrss"], f["startput"], f["startetcd"] = float64(now.machine.ServerPeak)/1e6, now.metrics.requests("put"), now.metrics.etcdWrites()
	o.Pressure = machine.Between(idle, now.machine, now.at.Sub(next.began), 1, false).Pressure
	return p.readBack(ctx, next, logPartitions, records+1)
}

// firstAck produces one record and returns the time from the start of the process to its acknowledgement.
func (s *server) firstAck(ctx context.Context) (time.Duration, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Bootstrap), kgo.DefaultProduceTopic(topic), kgo.MetadataMinAge(2*again),
		kgo.RetryBackoffFn(func(int) time.Duration { return again }), kgo.UnknownTopicRetries(-1), kgo.ProducerLinger(0))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = cl.ProduceSync(ctx, &kgo.Record{Value: make([]byte, recordBytes)}).FirstErr()
	return time.Since(s.began), err
}
