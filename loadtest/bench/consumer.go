package bench

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemarkmq/tidemark/loadtest/bench/latency"
	"github.com/tidemarkmq/tidemark/loadtest/bench/raw"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
	"github.com/tidemarkmq/tidemark/loadtest/bench/stamp"
)

// reading is one reading of everything, by consumers that share the partitions.
type reading struct {
	run    *run
	index  int
	ledger *stamp.Ledger
	from   []int64 // where it starts
	ends   []int64 // what was there when it started
}

// arrived tells whether everything before the offsets was read.
func (g *reading) arrived(ends []int64) bool {
	for i, end := range ends {
		p := g.ledger.Partition(int32(i))
		p.Lock()
		next := p.Next()
		p.Unlock()
		if next < end && end > g.from[i] {
			return false
		}
	}
	return true
}

// own are the partitions of consumer i.
func (g *reading) own(i int) []int32 {
	var all []int32
	for p := i; p < g.run.spec.Partitions; p += g.run.spec.Consumers {
		all = append(all, int32(p))
	}
	return all
}

// franz consumes until ctx is done.
func (g *reading) franz(ctx context.Context, i int, m *meter, rec *latency.Recorder) error {
	s := &g.run.spec
	opts := append(g.run.access.Options(), kgo.SeedBrokers(s.Bootstrap...), kgo.ClientID("tidemark-bench"), kgo.FetchMaxBytes(int32(s.FetchMaxBytes)),
		kgo.FetchMaxPartitionBytes(int32(s.FetchPartitionBytes)), kgo.FetchMinBytes(int32(s.FetchMinBytes)), kgo.FetchMaxWait(s.FetchMaxWait),
		kgo.MaxConcurrentFetches(cmp.Or(s.FetchConcurrent, -1)), kgo.KeepControlRecords(), kgo.DisableClientMetrics(), kgo.BrokerMaxReadBytes(1<<30))
	if s.Txn() {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	own := g.own(i)
	if s.Group {
		opts = append(opts, kgo.ConsumerGroup(fmt.Sprintf("%s-%d", g.run.topic, g.index)), kgo.ConsumeTopics(g.run.topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	} else {
		at := map[int32]kgo.Offset{}
		for _, p := range own {
			at[p] = kgo.NewOffset().At(g.from[p])
		}
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{g.run.topic: at}))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	c := franzConsumer{g: g, meter: m, rec: rec}
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		fetches.EachPartition(c.take)
		if s.Read == spec.ReadLoop && g.finished(own) {
			g.rewind(client, own)
		}
	}
}

// finished tells whether everything that was there has been read.
func (g *reading) finished(own []int32) bool {
	for _, p := range own {
		part := g.ledger.Partition(p)
		part.Lock()
		next := part.Next()
		part.Unlock()
		if next < g.ends[p] {
			return false
		}
	}
	return len(own) > 0
}

func (g *reading) rewind(client *kgo.Client, own []int32) {
	at := map[int32]kgo.EpochOffset{}
	for _, p := range own {
		if g.ends[p] == g.from[p] {
			continue
		}
		part := g.ledger.Partition(p)
		part.Lock()
		part.Restart(g.from[p])
		part.Unlock()
		at[p] = kgo.EpochOffset{Epoch: -1, Offset: g.from[p]}
	}
	client.SetOffsets(map[string]map[int32]kgo.EpochOffset{g.run.topic: at})
}

type franzConsumer struct {
	g     *reading
	meter *meter
	rec   *latency.Recorder
	due   []int64
}

func (c *franzConsumer) take(p kgo.FetchTopicPartition) {
	if len(p.Records) == 0 {
		return
	}
	c.due = c.due[:0]
	var bytes, count int64
	part := c.g.ledger.Partition(p.Partition)
	part.Lock()
	for _, r := range p.Records {
		if r.Attrs.IsControl() {
			part.Passed(r.Offset + 1)
			continue
		}
		due, ok := part.Check(r.Offset, r.Value)
		if ok {
			c.due = append(c.due, due)
		}
		bytes += int64(len(r.Value))
		count++
	}
	part.Unlock()
	c.meter.records.Add(count)
	c.meter.bytes.Add(bytes)
	if c.rec != nil {
		c.rec.AddAll(c.due, c.g.run.clock.Now())
	}
}

// raw consumes until ctx is done.
func (g *reading) raw(ctx context.Context, i int, m *meter, rec *latency.Recorder) error {
	from := map[int32]int64{}
	for _, p := range g.own(i) {
		from[p] = g.from[p]
	}
	h := &rawHandler{g: g, meter: m, rec: rec, loop: g.run.spec.Read == spec.ReadLoop}
	if err := raw.Consume(ctx, g.run.consumerOptions(), from, h); err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	return nil
}

func (r *run) consumerOptions() raw.ConsumerOptions {
	s := &r.spec
	return raw.ConsumerOptions{
		Access: r.access, Topic: r.topic, Leaders: r.cluster.leaders, MaxBytes: int32(s.FetchMaxBytes), PartitionBytes: int32(s.FetchPartitionBytes),
		MinBytes: int32(s.FetchMinBytes), MaxWaitMillis: int32(s.FetchMaxWait / time.Millisecond), ReadCommitted: s.Txn(),
	}
}

// rawHandler checks batches where they lie.
type rawHandler struct {
	g     *reading
	meter *meter
	rec   *latency.Recorder
	loop  bool
	until bool // finish each partition at its end

	mu      sync.Mutex // leaders come concurrently; the reader's buffers are for one
	readers []*raw.Reader
}

func (h *rawHandler) Advance(partition int32, next int64) int64 {
	if next < h.g.ends[partition] {
		return next
	}
	switch {
	case h.until:
		return -1
	case h.loop && h.g.ends[partition] > h.g.from[partition]:
		return h.g.from[partition]
	}
	return next
}

func (h *rawHandler) reader() *raw.Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.readers); n > 0 {
		r := h.readers[n-1]
		h.readers = h.readers[:n-1]
		return r
	}
	return raw.NewReader()
}

func (h *rawHandler) Batch(partition int32, from int64, batch []byte) error {
	reader := h.reader()
	defer func() {
		h.mu.Lock()
		h.readers = append(h.readers, reader)
		h.mu.Unlock()
	}()
	var bytes, count, oldest int64
	oldest = -1
	part := h.g.ledger.Partition(partition)
	part.Lock()
	defer part.Unlock()
	base := int64(binary.BigEndian.Uint64(batch))
	if h.loop && from == h.g.from[partition] && base <= from {
		part.Restart(from)
	}
	var dues int64 // of one time: a batch of this program's own raw producer has one
	one := func() {
		if h.rec != nil && dues > 0 {
			h.rec.Add(oldest, h.g.run.clock.Now(), dues)
		}
		dues = 0
	}
	err := reader.Each(batch, func(offset int64, value []byte) {
		if offset < from {
			return
		}
		due, ok := part.Check(offset, value)
		if ok && due != oldest {
			one()
			oldest = due
		}
		if ok {
			dues++
		}
		bytes += int64(len(value))
		count++
	})
	one()
	part.Passed(raw.AfterBatch(batch))
	h.meter.records.Add(count)
	h.meter.bytes.Add(bytes)
	return err
}
