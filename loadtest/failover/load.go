//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topic         = "load"
	perRequest    = 10_000 // partitions that one request may create
	settle        = 2 * time.Second
	recordBytes   = 200
	deliverWithin = time.Minute
)

// load produces to every partition by itself: the next record follows the acknowledgement of the last.
type load struct {
	o       options
	client  *kgo.Client
	created time.Duration
}

func newLoad(ctx context.Context, seeds []string, o options) (*load, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MetadataMinAge(20*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.RecordDeliveryTimeout(deliverWithin), kgo.DialTimeout(time.Second), kgo.ProduceRequestTimeout(5*time.Second))
	if err != nil {
		return nil, err
	}
	l := &load{o: o, client: client}
	began := time.Now()
	if err = l.create(ctx, topic, o.partitions); err == nil {
		for i, left := 0, o.idle; left > 0 && err == nil; i, left = i+1, left-perRequest {
			err = l.create(ctx, fmt.Sprintf("idle-%d", i), min(left, perRequest))
		}
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	l.created = time.Since(began)
	return l, nil
}

func (l *load) create(ctx context.Context, name string, partitions int) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, int32(partitions), -1
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, l.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

// run loads the cluster, brings about the fault and goes on. A record that is given up is an error.
func (l *load) run(ctx context.Context, fault func() error) (*result, error) {
	r := &result{gaps: make([]time.Duration, l.o.partitions), created: l.created}
	begin := time.Now().Add(settle) // acknowledgements before are the warm-up
	at := begin.Add(l.o.before)
	var mu sync.Mutex
	var errs error
	var partitions sync.WaitGroup
	for p := range l.o.partitions {
		partitions.Go(func() {
			acks, err := l.partition(ctx, int32(p), begin, at, &r.gaps[p])
			mu.Lock()
			defer mu.Unlock()
			r.acks = append(r.acks, acks...)
			errs = errors.Join(errs, err)
		})
	}
	time.Sleep(time.Until(at))
	err := fault()
	partitions.Wait()
	if err = errors.Join(err, errs); err != nil {
		return nil, err
	}
	if len(r.acks) == 0 {
		return nil, errors.New("nothing was acknowledged before the fault")
	}
	slices.Sort(r.gaps)
	slices.Sort(r.acks)
	return r, nil
}

// partition produces to one partition; gap becomes the longest time between two acknowledgements of which the second came after the fault.
func (l *load) partition(ctx context.Context, p int32, begin, fault time.Time, gap *time.Duration) (acks []time.Duration, err error) {
	last := begin
	for end := fault.Add(l.o.after); last.Before(end); time.Sleep(l.o.every) {
		sent := time.Now()
		if err := l.client.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: p, Value: make([]byte, recordBytes)}).FirstErr(); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
		now := time.Now()
		switch {
		case now.After(fault):
			*gap = max(*gap, now.Sub(last))
		case sent.After(begin):
			acks = append(acks, now.Sub(sent))
		}
		last = now
	}
	return acks, nil
}
