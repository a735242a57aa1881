package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/wal"
)

var testID = metadata.PartitionID{Topic: metadata.TopicID{1, 2, 3}, Partition: 7}

const baseMs = 1_700_000_000_000

func testConfig() *Config {
	return &Config{MaxMessageBytes: 1 << 20, Delete: true, BeforeMaxMs: math.MaxInt64, AfterMaxMs: math.MaxInt64, Codec: batch.CodecProducer}
}

// rig is a set over a real WAL in a temporary folder and an object store that is a map.
type rig struct {
	t    testing.TB
	log  *wal.Log
	set  *Set
	cold *fakeCold
	meta *fakeMeta
	stop func()
}

func newRig(t testing.TB, change func(*wal.Options, *Options)) *rig {
	t.Helper()
	wo := wal.Options{Dir: t.TempDir(), Epoch: 1, SegmentBytes: 1 << 20, SlabBytes: 128 << 10, SlabCount: 4, Sync: wal.SyncNone}
	r := &rig{t: t, cold: &fakeCold{}, meta: &fakeMeta{}}
	o := Options{Cold: r.cold, Meta: r.meta}
	if change != nil {
		change(&wo, &o)
	}
	var err error
	if r.log, err = wal.New(wo); err != nil {
		t.Fatal(err)
	}
	if o.WAL == nil {
		o.WAL = r.log
	}
	if o.File == nil {
		o.File = r.log
	}
	if r.set, err = NewSet(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.log.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("wal: %v", err)
		}
		if err := r.log.Close(); err != nil {
			t.Errorf("wal: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *rig) open(change func(*OpenState)) *Partition {
	r.t.Helper()
	s := OpenState{ID: testID, Topic: "t", LeaderEpoch: 3, MaxTimestampMs: -1, Config: testConfig()}
	if change != nil {
		change(&s)
	}
	p, err := r.set.Open(s)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// mk makes a batch of n records of size valueBytes with timestamps baseMs+at, +1, …
func mk(t testing.TB, n, valueBytes int, at int64, change func(*batch.Builder)) []byte {
	t.Helper()
	var b batch.Builder
	if change != nil {
		change(&b)
	}
	for i := range n {
		b.Add(baseMs+at+int64(i), nil, bytes.Repeat([]byte{byte(i + 1)}, valueBytes))
	}
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func idempotent(pid int64, epoch int16, seq int32) func(*batch.Builder) {
	return func(b *batch.Builder) {
		b.HasProducer, b.ProducerID, b.ProducerEpoch, b.BaseSequence = true, pid, epoch, seq
	}
}

// outcome is an Acker for one append.
type outcome struct {
	c chan result
}

type result struct {
	Appended
	err error
}

func newOutcome() *outcome { return &outcome{c: make(chan result, 1)} }

func (o *outcome) Appended(_ int, a Appended, err error) { o.c <- result{a, err} }

// send appends b without waiting for durability.
func (r *rig) send(p *Partition, b []byte) (*outcome, error) {
	r.t.Helper()
	return r.sendIn(context.Background(), p, b)
}

func (r *rig) sendIn(ctx context.Context, p *Partition, b []byte) (*outcome, error) {
	rules := p.Config().Rules(baseMs)
	rules.ZstdAllowed = true
	b, h, err := batch.Prepare(b, &rules, batch.NewOpener(batch.SmallOpenerBytes))
	if err != nil {
		return nil, err
	}
	o := newOutcome()
	return o, p.Append(ctx, b, &h, o, 0)
}

func (r *rig) append(p *Partition, b []byte) Appended {
	r.t.Helper()
	o, err := r.send(p, b)
	if err != nil {
		r.t.Fatal(err)
	}
	res := <-o.c
	if res.err != nil {
		r.t.Fatal(res.err)
	}
	return res.Appended
}

// upload moves everything below end from the tail to the cold store, as tiering does.
func (r *rig) upload(p *Partition, end metadata.Offset) {
	r.t.Helper()
	var batches [][]byte
	err := r.log.Scan(context.Background(), 0, r.log.Durable(), func(e wal.Entry) error {
		h, b, err := entry.Parse(e.Data)
		if err != nil || h.Partition != p.ID() {
			return err
		}
		bh, err := batch.Parse(b)
		if err == nil && bh.NextOffset() <= int64(end) {
			batches = append(batches, bytes.Clone(b))
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.cold.set(p.ID(), batches)
	r.set.Committed([]Range{{Partition: p.ID(), End: end}})
}

// recycle makes every slab that is not pinned forget its content, by filling all of them through another partition.
func (r *rig) recycle() {
	r.t.Helper()
	id := metadata.PartitionID{Topic: metadata.TopicID{9}, Partition: 0}
	q, ok := r.set.Get(id)
	if !ok {
		q = r.open(func(s *OpenState) { s.ID = id })
	}
	for range 40 {
		r.append(q, mk(r.t, 1, 40<<10, 0, nil))
	}
}

// readAll reads records from offset on, through memory or slowly, and checks that offsets are dense.
func (r *rig) readAll(p *Partition, offset metadata.Offset) (slow int) {
	r.t.Helper()
	for offset < p.HighWatermark() {
		var got Batches
		n, hot := p.ReadTail(offset, 1<<20, true, &got)
		if !hot {
			slow++
			c, err := p.ReadSlow(context.Background(), offset, 1<<20)
			if err != nil {
				r.t.Fatal(err)
			}
			n = got.AddChunk(c, 1<<20, true)
		}
		if n == 0 {
			r.t.Fatalf("nothing at %d below high watermark %d", offset, p.HighWatermark())
		}
		for b := bytes.Join(got.Records, nil); len(b) > 0; {
			h, err := batch.Parse(b)
			if err != nil || batch.Checksum(b[:h.SizeBytes]) != h.CRC {
				r.t.Fatalf("batch at %d: %v", offset, err)
			}
			b = b[h.SizeBytes:]
			if h.BaseOffset > int64(offset) || h.NextOffset() <= int64(offset) {
				r.t.Fatalf("asked %d, got [%d, %d)", offset, h.BaseOffset, h.NextOffset())
			}
			offset = metadata.Offset(h.NextOffset())
		}
		got.Release()
	}
	return slow
}

// fakeCold is the object store: whole batches per partition.
type fakeCold struct {
	mu      sync.Mutex
	batches map[metadata.PartitionID][][]byte
	reads   int
}

func (c *fakeCold) set(id metadata.PartitionID, b [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.batches == nil {
		c.batches = make(map[metadata.PartitionID][][]byte)
	}
	c.batches[id] = b
}

func (c *fakeCold) Read(_ context.Context, id metadata.PartitionID, offset metadata.Offset, maxBytes int) (Chunk, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	var chunk Chunk
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
	return chunk, nil
}

func (c *fakeCold) FindTimestamp(_ context.Context, id metadata.PartitionID, from metadata.Offset, ts int64) (Found, bool, error) {
	return c.scan(id, func(b []byte) (batch.At, bool, error) { return batch.FindTimestamp(b, ts, int64(from)) }, false)
}

func (c *fakeCold) MaxTimestamp(_ context.Context, id metadata.PartitionID, from metadata.Offset) (Found, bool, error) {
	return c.scan(id, func(b []byte) (batch.At, bool, error) { return batch.MaxTimestamp(b, int64(from)) }, true)
}

func (c *fakeCold) scan(id metadata.PartitionID, fn func([]byte) (batch.At, bool, error), largest bool) (best Found, found bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.batches[id] {
		at, ok, err := fn(b)
		if err != nil {
			return best, false, err
		}
		if !ok || (found && at.TimestampMs <= best.TimestampMs) {
			continue
		}
		h, _ := batch.Parse(b)
		best, found = Found{Offset: metadata.Offset(at.Offset), TimestampMs: at.TimestampMs, LeaderEpoch: metadata.LeaderEpoch(h.LeaderEpoch)}, true
		if !largest {
			break
		}
	}
	return best, found, nil
}

type fakeMeta struct {
	mu     sync.Mutex
	starts []metadata.Offset
	err    error
}

func (m *fakeMeta) SetLogStart(_ context.Context, _ metadata.PartitionID, epoch metadata.LeaderEpoch, start metadata.Offset) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch != 3 {
		return errors.New("wrong epoch")
	}
	if m.err == nil {
		m.starts = append(m.starts, start)
	}
	return m.err
}

// heldWAL passes appends on and holds back completions until they are let go.
type heldWAL struct {
	*wal.Log
	held chan wal.Completion
}

type holder struct {
	w *heldWAL
	c wal.Completion
}

func (h holder) Committed(error) { h.w.held <- h.c }

func (w *heldWAL) Append(a wal.Admission, n int, c wal.Completion) wal.Region {
	return w.Log.Append(a, n, holder{w, c})
}

// letGo passes the next n completions on with err.
func (w *heldWAL) letGo(n int, err error) {
	for range n {
		(<-w.held).Committed(err)
	}
}

// newHeldRig is a rig whose commits happen when the test says so.
func newHeldRig(t testing.TB) (*rig, *heldWAL) {
	h := &heldWAL{held: make(chan wal.Completion, 100)}
	r := newRig(t, func(_ *wal.Options, o *Options) { o.WAL = h })
	h.Log = r.log
	return r, h
}
