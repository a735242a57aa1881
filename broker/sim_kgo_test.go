package broker

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func (h *history) kgoClient(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers("127.0.0.1:9092"),
		kgo.Dialer(func(context.Context, string, string) (net.Conn, error) {
			time.Sleep(10 * time.Millisecond) // else it tries again and again before any time passes
			return h.w.dial()
		}),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RequestRetries(1 << 30),
		kgo.RetryTimeout(0),
		kgo.AlwaysRetryEOF(),
	}, opts...)...)
	if err != nil {
		h.w.t.Fatal(err)
	}
	return cl
}

// library produces with franz-go: idempotent, several requests of a partition under way at a time.
type library struct {
	h       *history
	name    string
	parts   []tp
	records int // to each partition
	pause   time.Duration
}

func (p *library) run() {
	cl := p.h.kgoClient(
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(20), kgo.ProducerLinger(0), kgo.ProducerBatchMaxBytes(2000),
		kgo.StopProducerOnDataLossDetected(), kgo.UnknownTopicRetries(1<<30),
		kgo.ProducerOnDataLossDetected(func(topic string, partition int32) {
			p.h.w.errorf("%s: franz-go sees lost data in %s-%d", p.name, topic, partition)
		}),
	)
	defer cl.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-p.h.w.lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	var under sync.WaitGroup
	for seq := range p.records {
		for _, part := range p.parts {
			value := fmt.Sprintf("%s|%s-%d|%d|%s", p.name, part.topic, part.partition, seq, strings.Repeat("k", 100+seq%13*30))
			s := &sent{producer: p.name, seq: seq, retried: true}
			p.h.sending(part, value, s)
			under.Add(1)
			cl.Produce(ctx, &kgo.Record{Topic: part.topic, Partition: part.partition, Value: []byte(value)}, func(r *kgo.Record, err error) {
				defer under.Done()
				if err == nil {
					p.h.settle(s, acked, r.Offset)
				} else if ctx.Err() == nil {
					p.h.w.errorf("%s: record %d to %v: %v", p.name, seq, part, err)
				}
			})
		}
		time.Sleep(p.pause)
	}
	under.Wait()
}
