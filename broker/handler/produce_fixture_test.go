package handler

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/wal"
)

// logFixture is a fixture over a real WAL, with an object store that is a map.
type logFixture struct {
	*fixture
	log  *wal.Log
	held *gate
	cold *coldMap
	stop func()
}

// gate is a WAL whose commits can be held back.
type gate struct {
	*wal.Log
	shut atomic.Bool
	held chan wal.Completion
}

type gated struct {
	g *gate
	c wal.Completion
}

func (g *gate) Append(a wal.Admission, n int, c wal.Completion) wal.Region {
	if !g.shut.Load() {
		return g.Log.Append(a, n, c)
	}
	return g.Log.Append(a, n, gated{g, c})
}

func (c gated) Committed(error) { c.g.held <- c.c }

func (g *gate) close() { g.shut.Store(true) }

// open waits for n commits that were held back and lets them go.
func (g *gate) open(n int) {
	g.shut.Store(false)
	for range n {
		(<-g.held).Committed(nil)
	}
}

func newLogFixture(t *testing.T, static map[string]string) *logFixture {
	t.Helper()
	f := &logFixture{fixture: newFixture(t, static), cold: &coldMap{}}
	var err error
	f.log, err = wal.New(wal.Options{Dir: t.TempDir(), Epoch: 1, SegmentBytes: 4 << 20, SlabBytes: 1 << 20, SlabCount: 4, Sync: wal.SyncNone})
	if err != nil {
		t.Fatal(err)
	}
	f.held = &gate{Log: f.log, held: make(chan wal.Completion, 100)}
	f.Partitions, err = partition.NewSet(partition.Options{WAL: f.held, File: f.log, Cold: f.cold, Meta: f.Meta})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.log.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("wal: %v", err)
		}
		if err := f.log.Close(); err != nil { // says so when an answer was not released
			t.Errorf("wal: %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

// upload moves what is durable of a partition below end to the cold store, and recycles every slab.
func (f *logFixture) upload(topic *metadata.Topic, index int32, end metadata.Offset) {
	f.t.Helper()
	id := metadata.PartitionID{Topic: topic.ID, Partition: index}
	err := f.log.Scan(f.t.Context(), 0, f.log.Durable(), func(e wal.Entry) error {
		h, b, err := entry.Parse(e.Data)
		if err != nil || h.Partition != id {
			return err
		}
		if bh, err := batch.Parse(b); err != nil || bh.NextOffset() <= int64(end) {
			f.cold.add(id, bytes.Clone(b))
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.Partitions.Committed([]partition.Range{{Partition: id, End: end}})
	filler, ok := f.Meta.Image().Topic("filler")
	if !ok {
		filler = f.create("filler", 1)
	}
	for range 12 {
		f.send(filler, 0, records(f.t, 1, 400<<10, nil))
	}
	f.Partitions.Sweep()
}

// coldMap is the object store: whole batches per partition. A gate that is not nil must be passed by every read.
type coldMap struct {
	mu      sync.Mutex
	batches map[metadata.PartitionID][][]byte
	gate    chan struct{}
	err     error
	reads   int
	held    int // chunks not released
}

func (c *coldMap) add(id metadata.PartitionID, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.batches == nil {
		c.batches = make(map[metadata.PartitionID][][]byte)
	}
	c.batches[id] = append(c.batches[id], b)
}

func (c *coldMap) Read(ctx context.Context, id metadata.PartitionID, offset metadata.Offset, maxBytes int) (partition.Chunk, error) {
	c.mu.Lock()
	c.reads++
	gate := c.gate
	c.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return partition.Chunk{}, ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return partition.Chunk{}, c.err
	}
	var chunk partition.Chunk
	var run []byte
	size := 0
	for _, b := range c.batches[id] {
		h, _ := batch.Parse(b)
		if h.NextOffset() <= int64(offset) {
			continue
		}
		if size += len(b); size > maxBytes && len(run) > 0 {
			break
		}
		run = append(run, b...)
		chunk.Next = metadata.Offset(h.NextOffset())
	}
	chunk.Batches = [][]byte{run} // in one piece, as tiering does
	if len(run) == 0 {
		return chunk, fmt.Errorf("cold store has nothing at %d", offset)
	}
	c.held++
	chunk.Release = sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.held--
	})
	return chunk, nil
}

func (c *coldMap) FindTimestamp(context.Context, metadata.PartitionID, metadata.Offset, int64) (partition.Found, bool, error) {
	return partition.Found{}, false, c.err
}

func (c *coldMap) MaxTimestamp(context.Context, metadata.PartitionID, metadata.Offset) (partition.Found, bool, error) {
	return partition.Found{}, false, c.err
}

// records makes a batch of n records of the given size.
func records(t testing.TB, n, valueBytes int, change func(*batch.Builder)) []byte {
	t.Helper()
	var b batch.Builder
	if change != nil {
		change(&b)
	}
	for i := range n {
		b.Add(int64(1000+i), []byte("k"), bytes.Repeat([]byte{byte(i)}, valueBytes))
	}
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func fromProducer(pid int64, epoch int16, seq int32) func(*batch.Builder) {
	return func(b *batch.Builder) {
		b.HasProducer, b.ProducerID, b.ProducerEpoch, b.BaseSequence = true, pid, epoch, seq
	}
}

// part is a Produce part for a topic, by name and by id.
func part(topic *metadata.Topic, index int32, b []byte) wire.ProducePart {
	return wire.ProducePart{Topic: []byte(topic.Name), TopicID: topic.ID, Partition: index, Records: b, BaseOffset: -1, LogAppendTimeMs: -1, LogStart: -1, LeaderID: -1, LeaderEpoch: -1}
}

// start sends a Produce request; the channel is closed when it is answered.
func (f *logFixture) start(version int16, req *wire.Produce) <-chan struct{} {
	f.t.Helper()
	done := make(chan struct{})
	req.Version = version
	h := wire.Header{Key: 0, Version: version, ClientID: "test"}
	f.Produce(f.t.Context(), new(server.Conn), h, server.NewProduceCall(req, func() { close(done) }))
	return done
}

func (f *logFixture) produce(version int16, parts ...wire.ProducePart) []wire.ProducePart {
	f.t.Helper()
	req := &wire.Produce{Acks: -1, TimeoutMillis: 5000, Parts: parts}
	<-f.start(version, req)
	return req.Parts
}

// send appends one batch and fails the test if it is refused.
func (f *logFixture) send(topic *metadata.Topic, index int32, b []byte) int64 {
	f.t.Helper()
	got := f.produce(13, part(topic, index, b))[0]
	if got.ErrorCode != 0 {
		f.t.Fatalf("produce: code %d: %s", got.ErrorCode, got.ErrorMessage)
	}
	return got.BaseOffset
}

// ask is one partition of a Fetch request.
type ask struct {
	topic    *metadata.Topic
	index    int32
	offset   int64
	maxBytes int32
	current  int32 // leader epoch + 1; 0: not sent
	last     int32 // last fetched epoch + 1; 0: not sent
}

// fetchOf asks for partitions without session.
func fetchOf(version int16, asks ...ask) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.SessionEpoch = version, 1<<20, -1
	for _, a := range asks {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = a.index, a.offset, 1<<20
		if a.maxBytes != 0 {
			p.PartitionMaxBytes = a.maxBytes
		}
		p.CurrentLeaderEpoch, p.LastFetchedEpoch = a.current-1, a.last-1
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != a.topic.Name {
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = a.topic.Name, a.topic.ID
			req.Topics = append(req.Topics, t)
		}
		last := &req.Topics[len(req.Topics)-1]
		last.Partitions = append(last.Partitions, p)
	}
	return req
}

// fetchedPart is a copy of an answer's partition.
type fetchedPart struct {
	wire.FetchPartition
	topic   string
	offsets []int64 // base offsets of the batches
	bytes   int
}

// fetch sends a request and copies the answer before it releases it.
func (f *logFixture) fetch(c *server.Conn, req *kmsg.FetchRequest) (*wire.FetchResponse, []fetchedPart) {
	f.t.Helper()
	resp, err := f.Fetch(f.t.Context(), c, wire.Header{Key: 1, Version: req.Version, ClientID: "test"}, req)
	if err != nil {
		f.t.Fatal(err)
	}
	head := &wire.FetchResponse{ErrorCode: resp.ErrorCode, SessionID: resp.SessionID, NodeEndpoints: resp.NodeEndpoints}
	var out []fetchedPart
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			got := fetchedPart{FetchPartition: p, topic: t.Topic}
			for b := bytes.Join(p.Records, nil); len(b) > 0; {
				h, err := batch.Parse(b)
				if err != nil || batch.Checksum(b[:h.SizeBytes]) != h.CRC {
					f.t.Fatalf("fetched batch: %v", err)
				}
				got.offsets = append(got.offsets, h.BaseOffset)
				got.bytes += h.SizeBytes
				b = b[h.SizeBytes:]
			}
			got.Records = nil
			out = append(out, got)
		}
	}
	if resp.Release != nil {
		resp.Release()
	}
	return head, out
}
