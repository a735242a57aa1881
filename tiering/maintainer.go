package tiering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// Owned is a partition that this broker owns, and how long its data is kept.
type Owned struct {
	Partition      metadata.PartitionID
	LeaderEpoch    metadata.LeaderEpoch
	RetentionMs    int64 // -1: for ever
	RetentionBytes int64 // -1: any amount
}

// Owner is the broker as maintenance sees it. Both methods must be safe for concurrent use.
type Owner interface {
	Owned() []Owned
	// AdvanceLogStart raises the partition's log start, durably, before it returns.
	AdvanceLogStart(ctx context.Context, p metadata.PartitionID, to metadata.Offset) error
}

// MaintainerOptions configure a Maintainer. Zero sizes and times take the defaults.
type MaintainerOptions struct {
	Catalog     *Catalog
	Meta        Keeper
	Owner       Owner
	Broker      metadata.BrokerID    // this one
	Incarnation metadata.Incarnation // of this broker; part of the ids of what it writes

	// Others tells whether other brokers commit objects too: then the catalog follows them. nil: there are none.
	Others func() bool
	// Controller tells whether this broker is the one that reaps deleted topics and orphans; that all do it would be waste only. nil: it is.
	Controller func() bool

	AbsorbEvery    time.Duration // default 1 min; sooner when the catalog is over its soft cap
	Grace          time.Duration // between "nothing names it" and delete, for readers; default 5 min
	OrphanEvery    time.Duration // between listings of the bucket; default 6 h
	ProducerExpiry time.Duration // of idempotent producers that are silent; default 24 h
	MergeBytes     int64         // segments below it are merged; default 12 MiB, so that what is sealed at full speed is stored once
	MaxMergeBytes  int64         // of a merged object; default 256 MiB
	MergeCount     int           // so many small segments are merged though they do not add up to MergeBytes; default 8
	SingleBytes    int64         // what a merge must add up to, to get an object of its own; others share one; default 8 MiB
	PackBytes      int           // manifests published together in one object; default 4 MiB
	StateBytes     int64         // producer state of the partitions that are absorbed or merged together; default 32 MiB
	InlineBytes    int           // of a manifest's list, beyond which its oldest part moves to an object of its own; default 128 KiB

	Logger *slog.Logger
	Meter  metric.Meter // nil: the catalog's
}

func (o *MaintainerOptions) setDefaults() {
	orDefault((*int64)(&o.AbsorbEvery), int64(time.Minute))
	orDefault((*int64)(&o.Grace), int64(5*time.Minute))
	orDefault((*int64)(&o.OrphanEvery), int64(6*time.Hour))
	orDefault((*int64)(&o.ProducerExpiry), int64(24*time.Hour))
	orDefault(&o.MergeBytes, 12<<20)
	orDefault(&o.MaxMergeBytes, 256<<20)
	orDefault(&o.MergeCount, 8)
	orDefault(&o.SingleBytes, 8<<20)
	orDefault(&o.PackBytes, 4<<20)
	orDefault(&o.StateBytes, 32<<20)
	orDefault(&o.InlineBytes, manifest.InlineBytes)
	if o.Others == nil {
		o.Others = func() bool { return false }
	}
	if o.Controller == nil {
		o.Controller = func() bool { return true }
	}
	o.Logger = loggerOr(o.Logger)
}

// Maintainer keeps the store tidy for the partitions that this broker owns: it absorbs pending objects into manifests, merges,
// applies retention, and deletes what nothing names. Its steps are safe to be cut short anywhere: each leaves every committed
// record named exactly once, and what is left behind unnamed is found by listing.
//
// Its methods are not safe for concurrent use with each other; Run calls them one after another.
type Maintainer struct {
	o       MaintainerOptions
	catalog *Catalog
	store   objectstore.Store
	cluster string
	metrics *metrics
	seq     atomic.Uint64

	outlooks map[metadata.PartitionID]outlook
	// retired are objects that nothing names any more, with the time since when. blocked are shared objects that some partition has
	// dropped, with one that still names them.
	retired map[segment.ID]time.Time
	blocked map[segment.ID]metadata.PartitionID
	// unsettled are the newest swaps of their partitions whose outcome is unknown.
	unsettled map[metadata.PartitionID]metadata.ManifestSwap
	// doubtful are the changes behind swaps whose outcome was unknown, until the image tells whether they took effect.
	doubtful map[metadata.PartitionID][]doubtfulChange
	// orphaned are objects that a listing found unnamed, with the time of the first such listing.
	orphaned map[segment.ID]time.Time
}

// outlook is what a partition's manifest, at a generation, promises to need. It saves loading manifests that need nothing.
type outlook struct {
	generation uint64
	firstEnd   metadata.Offset // end of the oldest segment; what a log start must reach to drop it
	oldestMs   int64           // when retention by time counts it from
	sizeBytes  int64
	mergeable  bool
	empty      bool
}

// NewMaintainer returns a maintainer; Run starts it.
func NewMaintainer(o MaintainerOptions) *Maintainer {
	o.setDefaults()
	m := &Maintainer{o: o, catalog: o.Catalog, store: o.Catalog.o.Store, cluster: o.Catalog.o.Cluster, metrics: o.Catalog.metrics,
		outlooks: map[metadata.PartitionID]outlook{}, retired: map[segment.ID]time.Time{}, blocked: map[segment.ID]metadata.PartitionID{},
		unsettled: map[metadata.PartitionID]metadata.ManifestSwap{}, doubtful: map[metadata.PartitionID][]doubtfulChange{}, orphaned: map[segment.ID]time.Time{}}
	if o.Meter != nil {
		m.metrics = newMetrics(o.Meter, o.Logger)
	}
	return m
}

// Run maintains until ctx is done, and then returns nil. Steps that fail are logged and repeated at the next pass.
func (m *Maintainer) Run(ctx context.Context) error {
	ticker := time.NewTicker(m.o.AbsorbEvery)
	defer ticker.Stop()
	nextOrphans := time.Now().Add(m.o.Grace)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.catalog.pressed:
		case <-ticker.C:
		}
		m.step(ctx, "maintain", m.Pass)
		if now := time.Now(); now.After(nextOrphans) && ctx.Err() == nil && m.o.Controller() {
			m.step(ctx, "orphans", m.ReapOrphans)
			nextOrphans = now.Add(m.o.OrphanEvery)
			if len(m.orphaned) > 0 {
				nextOrphans = now.Add(m.o.Grace + m.o.AbsorbEvery)
			}
		}
	}
}

func (m *Maintainer) step(ctx context.Context, name string, f func(context.Context) error) {
	if err := f(ctx); err != nil && ctx.Err() == nil {
		m.metrics.failed(ctx, name)
		m.o.Logger.Warn("tiering maintenance failed, to be repeated", "step", name, "error", err)
	}
}

// Pass runs all steps but the listing for orphans once, and goes on with the next step where one fails.
func (m *Maintainer) Pass(ctx context.Context) error {
	if owned := m.o.Owner.Owned(); len(m.outlooks) > 2*len(owned)+1000 {
		clear(m.outlooks)
	}
	var errs error
	for _, step := range []struct {
		name string
		f    func(context.Context) error
	}{{"follow", m.follow}, {"retain", m.Retain}, {"absorb", m.Absorb}, {"merge", m.Merge}, {"deleted topics", m.reapTopics}, {"reap", m.Reap}} {
		if ctx.Err() != nil {
			return errors.Join(errs, context.Cause(ctx))
		}
		if err := step.f(ctx); err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s: %w", step.name, err))
		}
	}
	return errs
}

// follow brings the catalog up to date with what other brokers have committed and absorbed.
func (m *Maintainer) follow(ctx context.Context) error {
	if !m.o.Others() {
		return nil
	}
	return m.catalog.Sync(ctx, m.o.Meta)
}

func (m *Maintainer) reapTopics(ctx context.Context) error {
	if !m.o.Controller() {
		return nil
	}
	return m.ReapTopics(ctx)
}

func (m *Maintainer) newID(kind segment.Kind) segment.ID {
	return segment.ID{Kind: kind, Epoch: uint64(m.o.Incarnation), Seq: m.seq.Add(1), Nonce: nonce()}
}

// look notes the outlook of a manifest.
func (m *Maintainer) look(mf *manifest.Manifest) outlook {
	o := outlook{generation: mf.Generation, sizeBytes: mf.SizeBytes(), empty: true}
	switch {
	case len(mf.Children) > 0:
		// A child says no more than its newest timestamp; its first segment may be dropped at any time.
		o.firstEnd, o.oldestMs, o.empty = mf.Children[0].Start+1, 0, false
	case len(mf.Segments) > 0:
		s := &mf.Segments[0]
		o.firstEnd, o.oldestMs, o.empty = s.End, retentionMs(s), false
	}
	i, j := planMerge(mf.Segments, m.o.MergeBytes, m.o.MaxMergeBytes, m.o.MergeCount)
	o.mergeable = j > i
	m.outlooks[mf.Partition] = o
	return o
}

// outlookOf returns the outlook of the partition's present manifest, loading it if need be.
func (m *Maintainer) outlookOf(ctx context.Context, q *metadata.Partition) (outlook, error) {
	if o, ok := m.outlooks[q.ID]; ok && o.generation == q.Manifest.Generation {
		return o, nil
	}
	mf, err := m.catalog.manifest(ctx, q.ID, q.Manifest)
	if err != nil {
		return outlook{}, err
	}
	return m.look(mf), nil
}

// retentionMs is when a segment's retention counts from: its largest timestamp, or when it was made if it has none.
func retentionMs(s *manifest.Segment) int64 {
	if s.MaxTimestampMs < 0 {
		return s.SealedMs
	}
	return s.MaxTimestampMs
}
