package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemarkmq/tidemark/loadtest/bench/latency"
	"github.com/tidemarkmq/tidemark/loadtest/bench/raw"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
	"github.com/tidemarkmq/tidemark/loadtest/bench/stamp"
)

// producer sends records; one goroutine calls it.
type producer interface {
	// send sends the records that were due at a time; it waits while too much is outstanding.
	send(ctx context.Context, due int64) error
	// perSend is how many records a send has.
	perSend() int
	flush(ctx context.Context) error
	close()
	// stamped is the producer's number in its stamps.
	stamped() uint32
	// proof is what was acknowledged; call it after flush.
	proof() *stamp.Acks
	// sent is how many records a partition must have of it.
	sent(partition int32) uint64
}

// meter counts what one worker did. Others read it now and then.
type meter struct {
	records, bytes atomic.Int64
	_              [48]byte // apart from the next one's cache line
}

// place says where the next record goes.
type place struct {
	partitions int32
	at         int32
	stay       int // bytes to one partition before the next has its turn; 0: each record goes elsewhere
	filled     int
}

func newPlace(s *spec.Spec, index int) place {
	p := place{partitions: int32(s.Partitions), at: int32(index % s.Partitions)}
	if s.Partitioner == "sticky" {
		p.stay = s.BatchBytes
	}
	return p
}

func (p *place) next(bytes int) int32 {
	at := p.at
	p.filled += bytes
	if p.filled >= p.stay {
		p.filled = 0
		p.at = (p.at + 1) % p.partitions
	}
	return at
}

// franzProducer produces through franz-go.
type franzProducer struct {
	run    *run
	client *kgo.Client
	number uint32
	sizes  spec.Size
	draw   *rand.Rand
	place  place
	data   *payload
	keys   []key

	sequences []uint64
	local     []*kgo.Record // free records of the sending goroutine
	inTxn     int

	meter *meter
	acked *latency.Recorder
	acks  *stamp.Acks

	mu    sync.Mutex
	freed []*kgo.Record
}

func (r *run) franz(number uint32, m *meter, rec *latency.Recorder) (*franzProducer, error) {
	s := &r.spec
	sizes, err := spec.ParseSize(s.RecordSize)
	if err != nil {
		return nil, err
	}
	p := &franzProducer{
		run: r, number: number, sizes: sizes, place: newPlace(s, int(number&0xffff)), data: newPayload(s, uint64(number&0xffff)), keys: r.keys,
		sequences: make([]uint64, s.Partitions), meter: m, acked: rec, acks: stamp.NewAcks(s.Partitions),
	}
	p.draw = p.data.random
	acks := map[string]kgo.Acks{"all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}[s.Acks]
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[s.Compression]
	opts := append(r.access.Options(), kgo.SeedBrokers(s.Bootstrap...), kgo.ClientID("tidemark-bench"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(acks), kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(int32(s.BatchBytes)), kgo.ProducerLinger(s.Linger),
		kgo.MaxBufferedRecords(s.Buffered), kgo.RecordDeliveryTimeout(r.spec.DrainMax+time.Minute), kgo.UnknownTopicRetries(5), kgo.DisableClientMetrics())
	if !s.Idempotent { // with idempotence there are five, always
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(s.InFlight))
	}
	if s.Txn() {
		opts = append(opts, kgo.TransactionalID(fmt.Sprintf("%s-%d", r.topic, number)))
	}
	if batch := int32(s.BatchBytes) + 1<<20; batch > 100<<20 {
		opts = append(opts, kgo.BrokerMaxWriteBytes(batch))
	}
	p.client, err = kgo.NewClient(opts...)
	return p, err
}

func (p *franzProducer) perSend() int    { return 1 }
func (p *franzProducer) stamped() uint32 { return p.number }
func (p *franzProducer) close()          { p.client.Close() }

func (p *franzProducer) proof() *stamp.Acks { return p.acks }

func (p *franzProducer) sent(partition int32) uint64 { return p.sequences[partition] }

// record takes a record with a value of the size from those that are free.
func (p *franzProducer) record(size int) *kgo.Record {
	if len(p.local) == 0 {
		p.mu.Lock()
		p.local, p.freed = p.freed, p.local
		p.mu.Unlock()
	}
	if n := len(p.local); n > 0 {
		r := p.local[n-1]
		p.local = p.local[:n-1]
		value := r.Value[:size] // all values have room for the largest
		*r = kgo.Record{Value: value}
		return r
	}
	value := make([]byte, p.sizes.Max())
	p.data.fill(value)
	return &kgo.Record{Value: value[:size]}
}

func (p *franzProducer) send(ctx context.Context, due int64) error {
	if p.run.spec.Txn() && p.inTxn == 0 {
		if err := p.client.BeginTransaction(); err != nil {
			return fmt.Errorf("begin a transaction: %w", err)
		}
	}
	size := p.sizes.Draw(p.draw)
	r := p.record(size)
	r.Topic = p.run.topic
	if len(p.keys) > 0 {
		k := p.keys[p.draw.IntN(len(p.keys))]
		r.Key, r.Partition = k.bytes, k.partition
	} else {
		r.Partition = p.place.next(size)
	}
	stamp.Put(r.Value, stamp.Stamp{Producer: p.number, Sequence: p.sequences[r.Partition], Due: due})
	p.sequences[r.Partition]++
	p.client.Produce(ctx, r, p.promise)
	if !p.run.spec.Txn() {
		return nil
	}
	if p.inTxn++; p.inTxn >= p.run.spec.TxnRecords {
		return p.commit(ctx)
	}
	return nil
}

func (p *franzProducer) commit(ctx context.Context) error {
	p.inTxn = 0
	if err := p.client.Flush(ctx); err != nil {
		return err
	}
	began := p.run.clock.Now()
	if err := p.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit a transaction: %w", err)
	}
	p.run.commits.Recorder(int(p.number)).Add(began, p.run.clock.Now(), 1)
	return nil
}

// promise is called by one goroutine at a time.
func (p *franzProducer) promise(r *kgo.Record, err error) {
	if err != nil {
		p.run.fail(fmt.Errorf("produce to partition %d: %w", r.Partition, err))
		return
	}
	s, _ := stamp.Get(r.Value)
	p.acked.Add(s.Due, p.run.clock.Now(), 1)
	if p.run.spec.Acks != "0" {
		p.acks.Add(r.Partition, r.Offset, 1)
	}
	p.meter.records.Add(1)
	p.meter.bytes.Add(int64(len(r.Value)))
	p.mu.Lock()
	p.freed = append(p.freed, r)
	p.mu.Unlock()
}

func (p *franzProducer) flush(ctx context.Context) error {
	if p.inTxn > 0 {
		return p.commit(ctx)
	}
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// rawProducer produces through prebuilt requests.
type rawProducer struct {
	p      *raw.Producer
	number uint32
	place  place
	batch  int // bytes of values
	acks   *stamp.Acks
	counts []uint64
}

func (r *run) raw(ctx context.Context, number uint32, m *meter, rec *latency.Recorder) (*rawProducer, error) {
	s := &r.spec
	sizes, err := spec.ParseSize(s.RecordSize)
	if err != nil {
		return nil, err
	}
	p := &rawProducer{number: number, place: newPlace(s, int(number&0xffff)), acks: stamp.NewAcks(s.Partitions), counts: make([]uint64, s.Partitions)}
	p.place.stay = 0 // a batch each
	data := newPayload(s, uint64(number&0xffff))
	acks := map[string]int16{"all": -1, "1": 1, "0": 0}[s.Acks]
	var mu sync.Mutex // leaders answer concurrently
	p.p, err = raw.NewProducer(ctx, raw.ProducerOptions{
		Access: r.access, Topic: r.topic, Leaders: r.cluster.leaders, Producer: number, RecordBytes: sizes.Max(), BatchBytes: s.BatchBytes,
		InFlight: s.InFlight, Acks: acks, Idempotent: s.Idempotent, Fill: data.fill,
		Acked: func(partition int32, offset, due int64, n int) {
			rec.Add(due, r.clock.Now(), int64(n))
			if acks != 0 {
				mu.Lock()
				p.acks.Add(partition, offset, n)
				mu.Unlock()
			}
			m.records.Add(int64(n))
			m.bytes.Add(int64(n * sizes.Max()))
		},
	})
	if err != nil {
		return nil, fmt.Errorf("raw producer: %w", err)
	}
	p.batch = p.p.PerBatch() * sizes.Max()
	return p, nil
}

func (p *rawProducer) send(ctx context.Context, due int64) error {
	at := p.place.next(p.batch)
	p.counts[at] += uint64(p.p.PerBatch())
	return p.p.Send(ctx, at, due)
}

func (p *rawProducer) perSend() int                    { return p.p.PerBatch() }
func (p *rawProducer) flush(ctx context.Context) error { return p.p.Flush(ctx) }
func (p *rawProducer) close()                          { p.p.Close() }
func (p *rawProducer) stamped() uint32                 { return p.number }
func (p *rawProducer) proof() *stamp.Acks              { return p.acks }
func (p *rawProducer) sent(partition int32) uint64     { return p.counts[partition] }

// newProducer makes the producer that the settings ask for.
func (r *run) newProducer(ctx context.Context, number uint32, m *meter, rec *latency.Recorder) (producer, error) {
	if r.spec.Client == spec.ClientRaw {
		return r.raw(ctx, number, m, rec)
	}
	return r.franz(number, m, rec)
}
