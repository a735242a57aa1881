package raw

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/loadtest/bench/access"
)

// Handler takes what a Consumer reads. Calls for different leaders may come concurrently, those for one partition do not.
type Handler interface {
	// Advance is told that everything before next was fetched and says where to go on; negative: this partition is finished.
	Advance(partition int32, next int64) int64
	// Batch takes a batch whose records below from were not asked for. It is valid during the call.
	Batch(partition int32, from int64, batch []byte) error
}

// ConsumerOptions describe a Consumer.
type ConsumerOptions struct {
	Access         access.Access
	Topic          string
	Leaders        []string // address of each partition's leader
	MaxBytes       int32
	PartitionBytes int32
	MinBytes       int32
	MaxWaitMillis  int32
	ReadCommitted  bool
}

// Consume reads the partitions from the offsets given until the handler has finished them all, or ctx is done; then it returns
// nil. While a batch is handled, the next fetch is on its way.
func Consume(ctx context.Context, o ConsumerOptions, from map[int32]int64, h Handler) error {
	byLeader := map[string]map[int32]int64{}
	for p, at := range from {
		leader := o.Leaders[p]
		if byLeader[leader] == nil {
			byLeader[leader] = map[int32]int64{}
		}
		byLeader[leader][p] = at
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for leader, at := range byLeader {
		wg.Go(func() {
			if err := consumeFrom(ctx, o, leader, at, h); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && cause != ctx.Err() { //nolint:errorlint // identity tells our own cause from the caller's end
		return cause
	}
	return nil
}

func consumeFrom(ctx context.Context, o ConsumerOptions, leader string, at map[int32]int64, h Handler) error {
	c, err := dial(ctx, o.Access, leader)
	if err != nil {
		return err
	}
	defer c.nc.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.nc.Close() })
	defer stop()
	f := &fetcher{o: o, c: c, at: at, h: h}
	if err = f.run(); ctx.Err() != nil {
		return nil
	}
	return err
}

type fetcher struct {
	o      ConsumerOptions
	c      *conn
	at     map[int32]int64
	h      Handler
	frames [2][]byte
	out    []byte
}

// fetched is a batch of an answer.
type fetched struct {
	partition int32
	from      int64
	batch     []byte
}

func (f *fetcher) run() error {
	if err := f.send(); err != nil {
		return err
	}
	for i := 0; ; i = 1 - i {
		frame, err := f.c.frame(f.frames[i])
		if err != nil {
			return err
		}
		f.frames[i] = frame
		batches, err := f.scan(frame)
		if err != nil {
			return err
		}
		if len(f.at) > 0 {
			if err := f.send(); err != nil {
				return err
			}
		}
		for _, b := range batches {
			if err := f.h.Batch(b.partition, b.from, b.batch); err != nil {
				return fmt.Errorf("partition %d: %w", b.partition, err)
			}
		}
		if len(f.at) == 0 {
			return nil
		}
	}
}

func (f *fetcher) send() error {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MinBytes, req.MaxWaitMillis = fetchVersion, f.o.MaxBytes, f.o.MinBytes, f.o.MaxWaitMillis
	req.SessionEpoch = -1 // no session
	if f.o.ReadCommitted {
		req.IsolationLevel = 1
	}
	t := kmsg.NewFetchRequestTopic()
	t.Topic = f.o.Topic
	for partition, at := range f.at { // in no order, which treats all alike
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, at, f.o.PartitionBytes
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	f.out = f.c.format.AppendRequest(f.out[:0], req, 0)
	_, err := f.c.nc.Write(f.out)
	return err
}

// scan finds the batches of an answer and moves the positions on.
func (f *fetcher) scan(frame []byte) ([]fetched, error) {
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = fetchVersion
	if len(frame) <= correlationLen {
		return nil, io.ErrUnexpectedEOF
	}
	if err := resp.ReadFrom(frame[correlationLen+1:]); err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	var batches []fetched
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("fetch partition %d: %w", p.Partition, err)
			}
			at, asked := f.at[p.Partition]
			if !asked {
				return nil, fmt.Errorf("fetch: partition %d was not asked for", p.Partition)
			}
			next := at
			for b := p.RecordBatches; ; {
				n := batchSize(b)
				if n == 0 {
					break
				}
				batches = append(batches, fetched{p.Partition, at, b[:n]})
				next = AfterBatch(b)
				b = b[n:]
			}
			if next = f.h.Advance(p.Partition, next); next < 0 {
				delete(f.at, p.Partition)
			} else {
				f.at[p.Partition] = next
			}
		}
	}
	return batches, nil
}
