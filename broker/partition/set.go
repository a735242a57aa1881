package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
	"github.com/tidemarkmq/tidemark/tiering/producers"
)

// Meta stores log starts durably. *metadata.Store implements it.
type Meta interface {
	SetLogStart(ctx context.Context, p metadata.PartitionID, epoch metadata.LeaderEpoch, start metadata.Offset) error
}

// Options configure a Set. WAL and File, the stream of partitions that are opened on no other, Cold and Meta are required.
type Options struct {
	WAL  WAL
	File TailFile
	Cold Cold
	Meta Meta

	SweepEvery          time.Duration // how often the tails of idle partitions are pruned; default 10 s
	ProducerExpiration  time.Duration // producer.id.expiration.ms; default 24 h
	ProducerExpiryEvery time.Duration // default 10 min
	Now                 func() time.Time
	Logger              *slog.Logger
	Meter               metric.Meter
}

func (o *Options) defaults() {
	if o.SweepEvery <= 0 {
		o.SweepEvery = 10 * time.Second
	}
	if o.ProducerExpiration <= 0 {
		o.ProducerExpiration = 24 * time.Hour
	}
	if o.ProducerExpiryEvery <= 0 {
		o.ProducerExpiryEvery = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
}

// Set is all partitions that this broker owns. Its methods are safe for concurrent use.
type Set struct {
	stream Stream
	cold   Cold
	meta   Meta
	now    func() time.Time
	opts   Options
	stats  stats
	failed atomic.Pointer[error]

	forgotMs atomic.Int64 // when a warning about forgotten producers was last written

	mu         sync.RWMutex
	partitions map[metadata.PartitionID]*Partition
	released   map[metadata.PartitionID]metadata.LeaderEpoch // given to others, or about to be
	opened     chan struct{}                                 // closed at the next opening; nil while nobody waits for one
}

// NewSet returns an empty set. Run prunes and expires; without it everything else works.
func NewSet(o Options) (*Set, error) {
	o.defaults()
	s := &Set{
		stream: Stream{WAL: o.WAL, File: o.File}, cold: o.Cold, meta: o.Meta, now: o.Now, opts: o,
		partitions: make(map[metadata.PartitionID]*Partition), released: make(map[metadata.PartitionID]metadata.LeaderEpoch),
	}
	if err := s.registerMetrics(o.Meter); err != nil {
		return nil, fmt.Errorf("partition metrics: %w", err)
	}
	return s, nil
}

// ErrReleased says that a partition was given to another broker in the leader epoch in which it should be opened.
var ErrReleased = errors.New("the partition was given to another broker")

// Open adds a partition. One that is open already is an error: close it first. ErrReleased: Release named this leader epoch, or a later one.
func (s *Set) Open(state OpenState) (*Partition, error) {
	if state.Config == nil || state.LogStart > state.End || state.LogStart < 0 {
		return nil, fmt.Errorf("open partition %s: bad state (log start %d, end %d)", state.ID, state.LogStart, state.End)
	}
	p := newPartition(s, state)
	s.mu.Lock()
	if s.partitions[state.ID] != nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("open partition %s: open already", state.ID)
	}
	if last, ok := s.released[state.ID]; ok && state.LeaderEpoch <= last {
		s.mu.Unlock()
		return nil, fmt.Errorf("open partition %s in leader epoch %d: %w", state.ID, state.LeaderEpoch, ErrReleased)
	}
	delete(s.released, state.ID)
	s.partitions[state.ID] = p
	if s.opened != nil {
		close(s.opened)
		s.opened = nil
	}
	s.mu.Unlock()
	if s.failed.Load() != nil { // perhaps too late for Fail to see the new partition
		p.fail()
	}
	return p, nil
}

// Get returns an open partition.
func (s *Set) Get(id metadata.PartitionID) (*Partition, bool) {
	s.mu.RLock()
	p := s.partitions[id]
	s.mu.RUnlock()
	return p, p != nil
}

// Opened returns a channel that is closed when the next partition is opened. Who waits for a certain one takes the channel, and then looks.
func (s *Set) Opened() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened == nil {
		s.opened = make(chan struct{})
	}
	return s.opened
}

// Close removes a partition: appends and reads get ErrClosed, appends in flight are still answered.
func (s *Set) Close(id metadata.PartitionID) {
	s.mu.Lock()
	p := s.partitions[id]
	delete(s.partitions, id)
	s.mu.Unlock()
	if p != nil {
		p.close()
	}
}

// Release notes, before anybody else is told, that a partition is given away in this leader epoch: whatever an older image of the metadata says,
// it will not be opened in it again. An open partition stays open.
func (s *Set) Release(id metadata.PartitionID, epoch metadata.LeaderEpoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released[id] = epoch
}

// Keep takes Release back: it is certain that nobody was given the partition.
func (s *Set) Keep(id metadata.PartitionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.released, id)
}

// ForgetReleased drops the notes of partitions that exist no more.
func (s *Set) ForgetReleased(exists func(metadata.PartitionID) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.released, func(id metadata.PartitionID, _ metadata.LeaderEpoch) bool { return !exists(id) })
}

// All returns the open partitions in no order.
func (s *Set) All() []*Partition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*Partition, 0, len(s.partitions))
	for _, p := range s.partitions {
		out = append(out, p)
	}
	return out
}

// Range is a run of offsets of one partition that reached the object store.
type Range = tiering.Range

// Committed says that ranges are in the object store and in its catalog: their tail entries go once their slabs are recycled.
func (s *Set) Committed(ranges []Range) {
	for _, r := range ranges {
		p, ok := s.Get(r.Partition)
		if !ok {
			continue
		}
		for old := p.uploaded.Load(); old < int64(r.End) && !p.uploaded.CompareAndSwap(old, int64(r.End)); old = p.uploaded.Load() {
		}
	}
}

// Fail says that the stream failed: no partition accepts appends any more, and what is durable can still be read.
func (s *Set) Fail(err error) {
	wrapped := fmt.Errorf("%w: %w", ErrFailed, err)
	if !s.failed.CompareAndSwap(nil, &wrapped) {
		return
	}
	s.opts.Logger.Error("the log failed: no more appends", "error", err)
	for _, p := range s.All() {
		p.fail()
	}
}

func (s *Set) failure() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return ErrFailed
}

// Run prunes the tails of idle partitions and expires idle producers until ctx is done.
func (s *Set) Run(ctx context.Context) error {
	sweep := time.NewTicker(s.opts.SweepEvery)
	defer sweep.Stop()
	expire := time.NewTicker(s.opts.ProducerExpiryEvery)
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			s.Sweep()
		case <-expire.C:
			s.ExpireProducers()
		}
	}
}

// sweepLimit bounds how many entries go under one hold of a partition's lock.
const sweepLimit = 4096

// Sweep prunes every tail.
func (s *Set) Sweep() {
	for _, p := range s.All() {
		for {
			p.mu.Lock()
			before := len(p.log.tail.live())
			p.log.prune(p.uploaded.Load(), sweepLimit, gone)
			left := len(p.log.tail.live())
			p.mu.Unlock()
			if before-left < sweepLimit {
				break
			}
		}
	}
}

// ExpireProducers forgets producers that were silent for longer than Options.ProducerExpiration.
func (s *Set) ExpireProducers() {
	nowMs, n := s.now().UnixMilli(), 0
	for _, p := range s.All() {
		p.mu.Lock()
		n += p.log.producers.Expire(nowMs, s.opts.ProducerExpiration.Milliseconds())
		p.mu.Unlock()
	}
	if n > 0 {
		s.opts.Logger.Info("forgot idle producers", "count", n)
	}
}

// forgotLogEvery is the least time between two warnings about forgotten producers.
const forgotLogEvery = time.Minute

// forgot counts producers that p forgot because it had too many of them.
func (s *Set) forgot(p *Partition, n int) {
	s.stats.forgotten.Add(int64(n))
	nowMs, last := s.now().UnixMilli(), s.forgotMs.Load()
	if nowMs-last < forgotLogEvery.Milliseconds() || !s.forgotMs.CompareAndSwap(last, nowMs) {
		return
	}
	s.opts.Logger.Warn("partition had too many idempotent producers; those silent for longest are forgotten",
		"topic", p.topic, "partition", p.id.Partition, "most", producers.MaxProducers, "forgotten", n)
}

// stats are totals since the start.
type stats struct {
	batches, records, bytes, duplicates, forgotten atomic.Int64
}

func (s *Set) registerMetrics(m metric.Meter) error {
	counters := []struct {
		name, unit, help string
		value            *atomic.Int64
	}{
		{"tidemark.partition.append.batches", "{batch}", "Record batches appended to the log.", &s.stats.batches},
		{"tidemark.partition.append.records", "{record}", "Records appended to the log.", &s.stats.records},
		{"tidemark.partition.append.bytes", "By", "Bytes of record batches appended to the log.", &s.stats.bytes},
		{"tidemark.partition.append.duplicates", "{batch}", "Retried batches that were answered with their first offset.", &s.stats.duplicates},
		{"tidemark.partition.producers.forgotten", "{producer}", "Idempotent producers forgotten because their partition had too many.", &s.stats.forgotten},
	}
	for _, c := range counters {
		_, err := m.Int64ObservableCounter(c.name, metric.WithUnit(c.unit), metric.WithDescription(c.help),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(c.value.Load())
				return nil
			}))
		if err != nil {
			return err
		}
	}
	_, err := m.Int64ObservableGauge("tidemark.partition.open", metric.WithUnit("{partition}"), metric.WithDescription("Partitions that this broker serves."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			s.mu.RLock()
			defer s.mu.RUnlock()
			o.Observe(int64(len(s.partitions)))
			return nil
		}))
	if err != nil {
		return err
	}
	_, err = m.Int64ObservableGauge("tidemark.partition.tail.bytes", metric.WithUnit("By"), metric.WithDescription("Bytes of record batches that the tail indexes cover."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			total := int64(0)
			for _, p := range s.All() {
				p.mu.Lock()
				total += p.log.tail.bytes
				p.mu.Unlock()
			}
			o.Observe(total)
			return nil
		}))
	return err
}
