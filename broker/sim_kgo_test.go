package broker

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (h *history) kgoClient(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers("127.0.0.1:9092"),
		kgo.Dialer(func(_ context.Context, _, addr string) (net.Conn, error) {
			time.Sleep(10 * time.Millisecond) // else it tries again and again before any time passes
			return h.w.dialTo(addr)
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
	// franz-go asks for it under a mutex, for which the senders to other brokers would wait; in a bubble no time passes then.
	for {
		if _, _, err := cl.ProducerID(ctx); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
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

// simpleGroup commits offsets of some partitions as an application that assigns them itself.
type simpleGroup struct {
	h     *history
	cl    *kgo.Client
	name  string
	parts []tp
}

func (h *history) groupOf(name string, parts []tp) *simpleGroup {
	return &simpleGroup{h: h, cl: h.kgoClient(), name: name, parts: parts}
}

func (g *simpleGroup) close() { g.cl.Close() }

// commit commits one offset for all partitions and returns when that is acked. franz-go finds the coordinator, however often it moves.
func (g *simpleGroup) commit(at int64) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = g.name
	for _, p := range g.parts {
		g.h.committing(g.name, p, at, false)
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = p.topic
		if topic, ok := g.h.w.current().broker.meta.Image().Topic(p.topic); ok {
			t.TopicID = topic.ID // the newest version knows no names
		}
		q := kmsg.NewOffsetCommitRequestTopicPartition()
		q.Partition, q.Offset = p.partition, at
		t.Partitions = append(t.Partitions, q)
		req.Topics = append(req.Topics, t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		resp, err := req.RequestWith(ctx, g.cl)
		if ctx.Err() != nil {
			g.h.w.errorf("group %s: offset %d is not committed after a minute: %v", g.name, at, err)
			return
		}
		done := err == nil
		for i := range g.parts {
			done = done && resp.Topics[i].Partitions[0].ErrorCode == 0
		}
		if done {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, p := range g.parts {
		g.h.committing(g.name, p, at, true)
	}
}
