package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	recordBytes = 1 << 10
	batchBytes  = 1 << 20
	payloads    = 4096 // distinct values that records cycle through
)

// values are half random, half zero, so that nothing between here and the disk can win by compressing or deduplicating alone.
func values() [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([][]byte, payloads)
	for i := range all {
		v := make([]byte, recordBytes)
		for j := 0; j < recordBytes/2; j++ {
			v[j] = byte(random.Uint32())
		}
		all[i] = v
	}
	return all
}

func createTopic(ctx context.Context, bootstrap, topic string, partitions int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	admin.SetTimeoutMillis(60_000)
	_, err = admin.CreateTopic(ctx, int32(partitions), 1, nil, topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}

// produceMax sends records of one producer connection as fast as they are acknowledged, for the time given or, if total is
// not 0, until so many bytes are acknowledged. It returns the acknowledged bytes and how long that took.
func produceMax(ctx context.Context, bootstrap, topic string, d time.Duration, total int64) (int64, time.Duration, error) {
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(batchBytes), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(64<<10), kgo.ProducerLinger(5*time.Millisecond),
	)
	if err != nil {
		return 0, 0, err
	}
	defer cl.Close()
	var acked atomic.Int64
	var failed atomic.Pointer[error]
	promise := func(r *kgo.Record, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
			return
		}
		acked.Add(int64(len(r.Value)))
	}
	all := values()
	began := time.Now()
	var sent int64
	for i := 0; ; i++ {
		if total > 0 && sent >= total || total == 0 && i%256 == 0 && time.Since(began) >= d {
			break
		}
		v := all[i%payloads]
		cl.Produce(ctx, &kgo.Record{Value: v}, promise)
		sent += int64(len(v))
	}
	if err := cl.Flush(ctx); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	if err := failed.Load(); err != nil {
		return 0, 0, *err
	}
	return acked.Load(), took, nil
}

// consumeAll reads the topic from its start until want bytes of values have come, and returns how long that took.
func consumeAll(ctx context.Context, bootstrap, topic string, want int64) (time.Duration, error) {
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(32<<20), kgo.FetchMaxPartitionBytes(8<<20), kgo.MaxConcurrentFetches(2),
	)
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	began := time.Now()
	var got int64
	for got < want {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return 0, err
		}
		fetches.EachRecord(func(r *kgo.Record) { got += int64(len(r.Value)) })
	}
	if got > want {
		return 0, fmt.Errorf("read %d bytes of %s, %d were written", got, topic, want)
	}
	return time.Since(began), nil
}

// paced sends records at a fixed rate, measured from the moment each was due, and returns the latency of acknowledgements.
func paced(ctx context.Context, bootstrap, topic string, perSecond int, d time.Duration) (*hdrhistogram.Histogram, error) {
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20),
	)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	all := values()
	if err := cl.ProduceSync(ctx, &kgo.Record{Value: all[0]}).FirstErr(); err != nil {
		return nil, err // also warms up connections and metadata
	}
	var mu sync.Mutex
	latency := hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
	var failure error
	interval := time.Second / time.Duration(perSecond)
	total := int(d / interval)
	warm := total / 5
	// The sleeping thread keeps its share of the scheduler until that is taken back, which may be 10 ms later: have shares to spare,
	// or the client's own goroutines would wait and count as the broker's latency.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 2))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := time.Now()
	for i := range total {
		due := began.Add(time.Duration(i) * interval)
		if early := time.Until(due); early > 0 {
			sleep(early)
		}
		cl.Produce(ctx, &kgo.Record{Value: all[i%payloads]}, func(_ *kgo.Record, err error) {
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failure = err
			} else if i >= warm {
				failure = errors.Join(failure, latency.RecordValue(took.Microseconds()))
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	return latency, failure
}
