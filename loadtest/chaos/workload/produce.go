package workload

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemarkmq/tidemark/loadtest/chaos/history"
)

// Producer sends records to all partitions in turn.
type Producer struct {
	load   *Load
	id     history.Producer
	client *kgo.Client
	next   []uint64 // sequence of each partition
	Errors atomic.Int64

	mu        sync.Mutex
	latencies []time.Duration
}

// NewProducer declares a producer. All wait for all acknowledgements; a plain one has no idempotence, and gives up after a while.
func (l *Load) NewProducer(id history.Producer, name string, idempotent bool) (*Producer, error) {
	opts := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(2 * time.Millisecond), kgo.MaxBufferedRecords(20_000)}
	flags := history.Durable
	if idempotent {
		flags |= history.Idempotent
	} else {
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1), kgo.RecordDeliveryTimeout(10*time.Second))
	}
	c, err := kgo.NewClient(l.options(opts...)...)
	if err != nil {
		return nil, err
	}
	l.Recorder.Add(history.Op{Kind: history.DeclareProducer, Producer: id, Name: name, Flags: flags})
	return &Producer{load: l, id: id, client: c, next: make([]uint64, l.Partitions)}, nil
}

// send sends one record to a partition. done may be nil.
func (p *Producer) send(ctx context.Context, partition int32, done func(error)) {
	n := p.next[partition]
	p.next[partition]++
	op := history.Op{Kind: history.Invoke, Producer: p.id, Partition: history.Partition(partition), Sequence: n, Count: 1}
	p.load.Recorder.Add(op)
	began := time.Now()
	p.client.Produce(ctx, &kgo.Record{Topic: p.load.Topic, Partition: partition, Value: value(p.id, partition, n)}, func(r *kgo.Record, err error) {
		op := op
		op.Kind = outcome(err)
		op.Offset = -1
		if err == nil {
			op.Offset = max(-1, r.Offset)
			p.mu.Lock()
			p.latencies = append(p.latencies, time.Since(began))
			p.mu.Unlock()
		} else {
			p.Errors.Add(1)
		}
		p.load.Recorder.Add(op)
		if done != nil {
			done(err)
		}
	})
}

// Run sends at a rate, in records a second, until ctx is done. It does not wait for what is under way.
func (p *Producer) Run(ctx context.Context, rate float64) {
	began, sent := time.Now(), 0
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due := int(time.Since(began).Seconds() * rate)
		for due = min(due, sent+5000); sent < due && ctx.Err() == nil; sent++ {
			p.send(context.WithoutCancel(ctx), int32(sent%p.load.Partitions), nil)
		}
	}
}

// Probe sends one record to each partition and returns when all have an outcome; the first error says that one is not served.
func (p *Producer) Probe(ctx context.Context) error {
	outcomes := make(chan error, p.load.Partitions)
	for i := range p.load.Partitions {
		p.send(ctx, int32(i), func(err error) { outcomes <- err })
	}
	for i := range p.load.Partitions {
		if err := <-outcomes; err != nil {
			return fmt.Errorf("%d of %d partitions served: %w", i, p.load.Partitions, err)
		}
	}
	return nil
}

// Flush waits until nothing is under way, and says how many records still are when ctx ends.
func (p *Producer) Flush(ctx context.Context) (pending int64) {
	_ = p.client.Flush(ctx) // pending says it
	return p.client.BufferedProduceRecords()
}

// Close fails what is under way; its outcome is unknown.
func (p *Producer) Close() { p.client.Close() }

// Latencies are the times between a send and its acknowledgement so far.
func (p *Producer) Latencies() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Duration(nil), p.latencies...)
}
