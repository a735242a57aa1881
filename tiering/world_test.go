package tiering

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/tiering/segment"
	"github.com/tidemarkmq/tidemark/wal"
)

// memoryStream is a WAL stream in memory: every append is durable at once.
type memoryStream struct {
	mu       sync.Mutex
	entries  []wal.Entry
	next     wal.Position
	trimmed  wal.Position
	advanced chan struct{}
}

func newMemoryStream() *memoryStream { return &memoryStream{advanced: make(chan struct{}, 1)} }

func (s *memoryStream) append(data []byte) {
	s.mu.Lock()
	e := wal.Entry{Pos: s.next + 16, Data: data}
	s.next = e.Pos + wal.Position(len(data))
	e.Next = s.next
	s.entries = append(s.entries, e)
	s.mu.Unlock()
	select {
	case s.advanced <- struct{}{}:
	default:
	}
}

func (s *memoryStream) Durable() wal.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}
func (s *memoryStream) Advanced() <-chan struct{} { return s.advanced }

func (s *memoryStream) Trim(to wal.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trimmed = max(s.trimmed, to)
	return nil
}

func (s *memoryStream) Scan(ctx context.Context, from, to wal.Position, fn func(wal.Entry) error) error {
	s.mu.Lock()
	entries := s.entries
	if from < s.trimmed {
		s.mu.Unlock()
		return wal.ErrTrimmed
	}
	s.mu.Unlock()
	for _, e := range entries {
		if e.Pos < from || e.Pos >= to {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// written is a batch that the oracle knows.
type written struct {
	base, next metadata.Offset
	bytes      []byte
	maxTs      int64
}

// world is a broker's metadata, bucket and WAL, with an oracle of what was appended.
type world struct {
	testing.TB
	kv     *memkv.KV
	meta   *metadata.Store
	bucket *memory.Store
	store  objectstore.Store // what catalog and uploader use
	inc    metadata.Incarnation
	reg    *metadata.Registration
	rng    *rand.Rand

	stream *memoryStream
	state  *metadata.StreamState
	log    map[metadata.PartitionID][]written
	seqs   map[metadata.PartitionID]int32

	keeper interface { // what catalog, uploader and maintainer talk to
		Keeper
		Committer
	}
	catalog    *Catalog
	uploader   *Uploader
	maintainer *Maintainer
	mu         sync.Mutex
	committed  []Range // under mu: what OnCommitted was told
	stop       func()
	ctx        context.Context
	token      int

	retentionMs, retentionBytes int64
	sealBytes                   int64
	change                      func(*MaintainerOptions)
}

// inWorld runs fn in a synctest bubble.
func inWorld(t *testing.T, fn func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		fn(w)
	})
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, kv: memkv.New(), bucket: memory.New(), rng: rand.New(rand.NewPCG(7, 7)), log: map[metadata.PartitionID][]written{},
		seqs: map[metadata.PartitionID]int32{}, retentionMs: -1, retentionBytes: -1, sealBytes: 1 << 30, ctx: context.Background()}
	w.store = w.bucket
	var err error
	w.meta, err = metadata.Open(w.ctx, w.kv, metadata.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.keeper = w.meta
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.meta.Run(ctx) }()
	w.stop = func() { cancel(); <-done }
	w.register()
	return w
}

func (w *world) register() {
	w.token++
	if w.reg != nil {
		w.check(w.reg.Close(w.ctx))
	}
	reg, err := w.meta.Register(w.ctx, metadata.Broker{ID: 1, Host: "one.test", Port: 9092, Token: "data"}, time.Hour)
	w.check(err)
	w.reg, w.inc = reg, reg.Incarnation
}

func (w *world) close() {
	w.down()
	w.check(w.reg.Close(w.ctx))
	w.stop()
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// up starts a broker run: a stream, catalog, uploader and maintainer. The uploader does not run yet.
func (w *world) up() {
	w.Helper()
	st, err := w.meta.CreateStream(w.ctx, 1, w.inc, metadata.ClassLocal)
	w.check(err)
	w.state, w.stream = st, newMemoryStream()
	w.assemble()
}

func (w *world) assemble() {
	w.Helper()
	w.catalog = NewCatalog(CatalogOptions{Store: w.store, Partitions: w.keeper, Cluster: w.meta.Image().ClusterID()})
	w.check(w.catalog.Load(w.ctx, w.keeper))
	w.uploader = NewUploader(w.uploaderOptions())
	o := MaintainerOptions{Catalog: w.catalog, Meta: w.keeper, Owner: w, Broker: 1, Incarnation: w.inc,
		Logger: slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if w.change != nil {
		w.change(&o)
	}
	w.maintainer = NewMaintainer(o)
}

func (w *world) uploaderOptions() UploaderOptions {
	return UploaderOptions{Stream: w.stream, StreamID: w.state.ID, Revision: w.state.Revision, FirstSeq: w.catalog.LastSeq(w.state.ID), Catalog: w.catalog,
		Store: w.store, Meta: w.keeper, SealBytes: w.sealBytes, SingleBytes: 1 << 20, SealAge: time.Second,
		OnCommitted: func(r []Range) {
			w.mu.Lock()
			w.committed = append(w.committed, r...)
			w.mu.Unlock()
		}}
}

// told is what OnCommitted was told; trimmed is the WAL's trimmed end.
func (w *world) told() []Range {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.committed)
}

func (s *memoryStream) trimmedTo() wal.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trimmed
}

func (w *world) down() {
	if w.catalog != nil {
		w.catalog.Close()
		w.catalog = nil
	}
}

// restart is a crash and a new run: the stream is recovered, drained and sealed by a new incarnation.
func (w *world) restart() {
	w.Helper()
	w.down()
	w.register()
	st, err := w.meta.RecoverStream(w.ctx, w.state.ID, w.inc)
	w.check(err)
	w.catalog = NewCatalog(CatalogOptions{Store: w.store, Partitions: w.keeper, Cluster: w.meta.Image().ClusterID()})
	w.check(w.catalog.Load(w.ctx, w.keeper))
	w.state = st
	o := w.uploaderOptions()
	o.From = wal.Position(st.Committed)
	w.check(DrainRecovered(w.ctx, w.stream, w.stream.Durable(), o))
	w.check(w.meta.SealStream(w.ctx, st.ID, st.Revision, uint64(w.stream.Durable())))
	var ids []metadata.PartitionID
	for q := range w.meta.All() {
		ids = append(ids, q.ID)
	}
	w.check(w.meta.AcquirePartitions(w.ctx, 1, w.inc, ids))
	w.catalog.Close()
	w.up()
}

func (w *world) topic(name string, partitions int32) []metadata.PartitionID {
	w.Helper()
	t, err := w.meta.CreateTopic(w.ctx, metadata.TopicSpec{Name: name, Partitions: partitions, ReplicationFactor: 1, Owner: 1, Incarnation: w.inc})
	w.check(err)
	ids := make([]metadata.PartitionID, partitions)
	for i := range ids {
		ids[i] = metadata.PartitionID{Topic: t.ID, Partition: int32(i)}
	}
	return ids
}

// append writes a batch of records to the WAL; each record has a timestamp one above the one before.
func (w *world) append(p metadata.PartitionID, records, recordBytes int) {
	w.Helper()
	w.appendAt(p, time.Now().UnixMilli(), records, recordBytes)
}

func (w *world) appendAt(p metadata.PartitionID, ts int64, records, recordBytes int) {
	w.Helper()
	var base metadata.Offset
	if log := w.log[p]; len(log) > 0 {
		base = log[len(log)-1].next
	}
	q, ok := w.meta.Partition(p)
	if !ok {
		w.Fatalf("no partition %v", p)
	}
	b := batch.Builder{BaseOffset: int64(base), LeaderEpoch: int32(q.LeaderEpoch), HasProducer: true, ProducerID: 40 + int64(p.Partition), BaseSequence: w.seqs[p]}
	value := make([]byte, recordBytes)
	for i := range records {
		for j := 0; j < len(value); j += 8 {
			copy(value[j:], binary.LittleEndian.AppendUint64(nil, w.rng.Uint64()))
		}
		b.Add(ts+int64(i), []byte("key"), value)
	}
	bytes, err := b.Bytes()
	w.check(err)
	w.seqs[p] += int32(records)
	data := make([]byte, entry.HeaderBytes+len(bytes))
	entry.Put(data, entry.Header{Partition: p, LeaderEpoch: q.LeaderEpoch})
	copy(data[entry.HeaderBytes:], bytes)
	w.stream.append(data)
	w.log[p] = append(w.log[p], written{base, base + metadata.Offset(records), bytes, ts + int64(records) - 1})
}

// upload drains the WAL.
func (w *world) upload() {
	w.Helper()
	w.check(w.tryUpload(w.ctx))
}

func (w *world) tryUpload(ctx context.Context) error {
	o := w.uploaderOptions()
	o.From = w.uploader.Committed()
	o.FirstSeq = w.uploader.nextSeq
	w.uploader = NewUploader(o)
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 1)
	go func() { failed <- w.uploader.Run(ctx) }()
	err := w.uploader.Drain(ctx)
	cancel()
	return errors.Join(err, <-failed)
}

// Owned and AdvanceLogStart make the world a broker.
func (w *world) Owned() []Owned {
	var out []Owned
	for q := range w.meta.All() {
		out = append(out, Owned{Partition: q.ID, LeaderEpoch: q.LeaderEpoch, RetentionMs: w.retentionMs, RetentionBytes: w.retentionBytes})
	}
	slices.SortFunc(out, func(a, b Owned) int { return segment.Compare(a.Partition, b.Partition) })
	return out
}

func (w *world) AdvanceLogStart(ctx context.Context, p metadata.PartitionID, to metadata.Offset) error {
	q, _ := w.meta.Partition(p)
	if c, ok := w.keeper.(*crashing); ok {
		return c.mutate(func() error { return w.meta.SetLogStart(ctx, p, q.LeaderEpoch, to) })
	}
	return w.meta.SetLogStart(ctx, p, q.LeaderEpoch, to)
}

// oracle reads every partition from its log start to the end of what was appended, and compares every byte.
func (w *world) oracle() {
	w.Helper()
	r := NewReader(w.catalog, ReaderOptions{})
	defer r.Close()
	for p, log := range w.log {
		q, ok := w.meta.Partition(p)
		if !ok {
			continue
		}
		end := log[len(log)-1].next
		if got := w.catalog.End(p); got != end {
			w.Fatalf("%v ends at %d, want %d", p, got, end)
		}
		var want []byte
		first := slices.IndexFunc(log, func(b written) bool { return b.next > q.LogStart })
		if first >= 0 {
			for _, b := range log[first:] {
				want = append(want, b.bytes...)
			}
		}
		got := w.readAll(r, p, q.LogStart, end)
		if !bytes.Equal(got, want) {
			w.Fatalf("%v from %d: %d bytes read, want %d; first difference at %d", p, q.LogStart, len(got), len(want), firstDifference(got, want))
		}
		w.checkState(p, log)
	}
}

func firstDifference(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func (w *world) readAll(r *Reader, p metadata.PartitionID, from, end metadata.Offset) []byte {
	w.Helper()
	var got []byte
	for at := from; at < end; {
		c, err := r.Read(w.ctx, p, at, 300_000)
		if err != nil {
			w.Fatalf("read %v at %d: %v", p, at, err)
		}
		if c.Next <= at {
			w.Fatalf("read %v at %d: next is %d", p, at, c.Next)
		}
		for _, b := range c.Batches {
			got = append(got, b...)
		}
		at = c.Next
		c.Release()
	}
	return got
}

// checkState compares what a partition would be opened with.
func (w *world) checkState(p metadata.PartitionID, log []written) {
	w.Helper()
	s, err := w.catalog.State(w.ctx, p)
	if err != nil {
		w.Fatalf("state of %v: %v", p, err)
	}
	last := log[len(log)-1]
	e := s.Producers.Entry(40 + int64(p.Partition))
	if e == nil {
		w.Fatalf("%v: the producer is not known", p)
	}
	if b := e.Batches(); b[len(b)-1].LastOffset != int64(last.next-1) || len(b) != min(5, len(log)) {
		w.Fatalf("%v: producer state ends with %+v, want offset %d", p, b, last.next-1)
	}
	if s.End != last.next || len(s.Epochs) == 0 {
		w.Fatalf("%v: state %+v", p, s)
	}
}

// verify checks that nothing is wrong; and, if clean, that nothing is left over.
func (w *world) verify(clean bool) {
	w.Helper()
	r, err := Verify(w.ctx, VerifyOptions{Store: w.bucket, Meta: w.meta, Cluster: w.meta.Image().ClusterID(), Deep: true, Unnamed: true})
	w.check(err)
	if len(r.Problems) > 0 {
		w.Fatalf("problems:\n%v", r.Problems)
	}
	if clean && len(r.Unnamed) > 0 {
		w.Fatalf("%d objects are left over: %v", len(r.Unnamed), r.Unnamed)
	}
}

// settle maintains until nothing is left to do.
func (w *world) settle() {
	w.Helper()
	for range 3 {
		w.check(w.maintainer.Pass(w.ctx))
		w.check(w.maintainer.ReapOrphans(w.ctx))
		time.Sleep(w.maintainer.o.Grace + time.Second) // the bubble's time
	}
}

func (w *world) objects(kinds ...segment.Kind) int {
	w.Helper()
	n := 0
	cluster := w.meta.Image().ClusterID()
	err := w.bucket.List(w.ctx, "", "", func(i objectstore.Info) error {
		id, err := segment.ParseKey(cluster, i.Key)
		if err != nil {
			return err
		}
		if len(kinds) == 0 || slices.Contains(kinds, id.Kind) {
			n++
		}
		return nil
	})
	w.check(err)
	return n
}

var errCrash = errors.New("crashed")

// crashing lets a number of mutations through, of the store and of etcd alike, and then nothing any more: as if the process had
// died before or after the next one.
type crashing struct {
	*metadata.Store
	cancel context.CancelFunc

	mu    sync.Mutex
	left  int
	after bool
	dead  bool
	count int
}

func (c *crashing) mutate(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	if c.dead {
		return errCrash
	}
	if c.left--; c.left >= 0 {
		return f()
	}
	c.dead = true
	c.cancel()
	if c.after {
		_ = f()
	}
	return fmt.Errorf("%w: %w", errCrash, metadata.ErrUnavailable)
}

func (c *crashing) CommitObjects(ctx context.Context, id metadata.StreamID, r metadata.Revision, o []metadata.PendingObject) error {
	return c.mutate(func() error { return c.Store.CommitObjects(context.WithoutCancel(ctx), id, r, o) })
}
func (c *crashing) SwapManifests(ctx context.Context, s []metadata.ManifestSwap) error {
	return c.mutate(func() error { return c.Store.SwapManifests(context.WithoutCancel(ctx), s) })
}
func (c *crashing) DeletePending(ctx context.Context, by metadata.BrokerID, inc metadata.Incarnation, o []metadata.PendingObject) error {
	return c.mutate(func() error { return c.Store.DeletePending(context.WithoutCancel(ctx), by, inc, o) })
}
func (c *crashing) PurgeTopic(ctx context.Context, id metadata.TopicID) error {
	return c.mutate(func() error { return c.Store.PurgeTopic(context.WithoutCancel(ctx), id) })
}

// crashingStore is the store side of crashing.
type crashingStore struct {
	objectstore.Store
	c *crashing
}

func (s crashingStore) Put(ctx context.Context, key string, body objectstore.Body, o objectstore.PutOptions) error {
	return s.c.mutate(func() error { return s.Store.Put(context.WithoutCancel(ctx), key, body, o) })
}
func (s crashingStore) Delete(ctx context.Context, keys ...string) error {
	return s.c.mutate(func() error { return s.Store.Delete(context.WithoutCancel(ctx), keys...) })
}
