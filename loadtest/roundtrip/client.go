package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	keyDelimiter = "\x1f" // between key and line for kcat; no path has it
	stallWait    = 90 * time.Second
	// maxBatchBytes is room for the longest line; one of Go's own test files has a line of 1.3 MB.
	maxBatchBytes = 4 << 20
)

func createTopic(ctx context.Context, bootstrap, topic string, partitions int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = kadm.NewClient(cl).CreateTopic(ctx, int32(partitions), -1, map[string]*string{"max.message.bytes": kadm.StringPtr(strconv.Itoa(maxBatchBytes))}, topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("topic %s: %w; a round trip needs a fresh topic", topic, err)
	}
	return err
}

// produce sends the whole corpus with an idempotent producer and returns how many records were acknowledged. acked counts
// while it runs. Failures of the broker in between are retried without end; any record that fails is an error.
func produce(ctx context.Context, bootstrap, topic string, c *corpus, acked *atomic.Int64) error {
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(maxBatchBytes), kgo.MaxBufferedRecords(100_000), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.ConnIdleTimeout(time.Minute), kgo.DialTimeout(2*time.Second),
		kgo.ProducerLinger(2*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	var failure error
	var once sync.Once
	for i := range c.files {
		f := &c.files[i]
		for n, line := range f.lines {
			number := binary.LittleEndian.AppendUint32(nil, uint32(n))
			r := &kgo.Record{Key: []byte(f.key), Value: line, Headers: []kgo.RecordHeader{{Key: lineHeader, Value: number}}}
			cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					once.Do(func() { failure = err })
					return
				}
				acked.Add(1)
			})
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	if failure != nil {
		return fmt.Errorf("produce to %s: %w", topic, failure)
	}
	if got := acked.Load(); got != int64(c.records) {
		return fmt.Errorf("produce to %s: %d of %d records acknowledged", topic, got, c.records)
	}
	return nil
}

// produceKcat sends the whole corpus through kcat (librdkafka), idempotently.
func produceKcat(ctx context.Context, bootstrap, topic string, c *corpus) error {
	cmd := exec.CommandContext(ctx, "kcat", "-P", "-b", bootstrap, "-t", topic, "-K", keyDelimiter,
		"-X", "enable.idempotence=true", "-X", "queue.buffering.max.messages=1000000", "-X", "linger.ms=5", "-X", "message.max.bytes="+strconv.Itoa(maxBatchBytes),
		"-X", "topic.partitioner=consistent", "-X", "delivery.timeout.ms=120000")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = os.Stderr, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	var text bytes.Buffer
	var writeErr error
	for i := range c.files {
		text.Reset()
		for _, line := range c.files[i].lines {
			text.WriteString(c.files[i].key)
			text.WriteString(keyDelimiter)
			text.Write(line)
			text.WriteByte('\n')
		}
		if _, writeErr = io.Copy(stdin, &text); writeErr != nil {
			break
		}
	}
	closeErr := stdin.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("kcat: %w\n%s", err, said.Bytes())
	}
	return errors.Join(writeErr, closeErr)
}

// consume reads the topic to its end with a group of some members and checks every record against the corpus.
func consume(ctx context.Context, bootstrap, topic, group string, members int, c *corpus) (verdict, error) {
	ends, err := endOffsets(ctx, bootstrap, topic)
	if err != nil {
		return verdict{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLedger(c)
	progress := newProgress(ends)
	var wg sync.WaitGroup
	for range members {
		cl, err := kgo.NewClient(
			kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(4<<20),
			kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsAssigned(progress.assigned),
		)
		if err != nil {
			return verdict{}, err
		}
		wg.Go(func() {
			defer cl.CloseAllowingRebalance()
			if err := consumeMember(ctx, cl, l, progress); err != nil {
				cancel(err)
			}
		})
	}
	stalled := time.AfterFunc(stallWait, func() { cancel(nil) })
	defer stalled.Stop()
	for !progress.done() {
		select {
		case <-progress.moved:
			stalled.Reset(stallWait)
		case <-ctx.Done():
			wg.Wait()
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return verdict{}, cause
			}
			return l.verdict(), fmt.Errorf("consume %s: stalled for %v at %s", topic, stallWait, progress)
		}
	}
	cancel(nil)
	wg.Wait()
	return l.verdict(), nil
}

func consumeMember(ctx context.Context, cl *kgo.Client, l *ledger, p *progress) error {
	for {
		fetches := cl.PollRecords(ctx, 50_000)
		if ctx.Err() != nil {
			return nil
		}
		for _, fe := range fetches.Errors() {
			return fmt.Errorf("fetch %s[%d]: %w", fe.Topic, fe.Partition, fe.Err)
		}
		fetches.EachRecord(l.add)
		// Commit before a rebalance may hand the partition on: whoever comes next starts where this member stopped.
		if err := cl.CommitRecords(ctx, fetches.Records()...); err != nil && ctx.Err() == nil {
			return fmt.Errorf("commit: %w", err)
		}
		fetches.EachPartition(func(tp kgo.FetchTopicPartition) {
			if n := len(tp.Records); n > 0 {
				p.reached(tp.Partition, tp.Records[n-1].Offset+1)
			}
		})
		cl.AllowRebalance()
	}
}

func endOffsets(ctx context.Context, bootstrap, topic string) (map[int32]int64, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	listed, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("end offsets of %s: %w", topic, err)
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends, nil
}

// progress tells when every partition has been read to its end.
type progress struct {
	moved chan struct{} // has room for one

	mu   sync.Mutex
	left map[int32]int64 // partition → end offset, while not reached
	all  int
}

func newProgress(ends map[int32]int64) *progress {
	p := &progress{moved: make(chan struct{}, 1), left: map[int32]int64{}, all: len(ends)}
	for partition, end := range ends {
		if end > 0 {
			p.left[partition] = end
		}
	}
	return p
}

func (p *progress) assigned(context.Context, *kgo.Client, map[string][]int32) { p.signal() }

func (p *progress) signal() {
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

func (p *progress) reached(partition int32, next int64) {
	p.mu.Lock()
	if end, ok := p.left[partition]; ok && next >= end {
		delete(p.left, partition)
	}
	p.mu.Unlock()
	p.signal()
}

func (p *progress) done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.left) == 0
}

// String says how far it is, for errors.
func (p *progress) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%d of %d partitions unread", len(p.left), p.all)
}
