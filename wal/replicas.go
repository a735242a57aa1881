package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Errors of replicas that callers tell apart; test with errors.Is.
var (
	// ErrFenced says that a higher epoch was promised: whoever asked is not the stream's writer, or its latest recoverer, any more.
	ErrFenced = errors.New("wal stream fenced")
	// ErrLimbo says that a replica lost what it had: it may serve the rest, and never counts.
	ErrLimbo = errors.New("wal replica in limbo")
	// ErrNoReplica says that nothing is kept here of the stream. Of a member that was one, this is as bad as ErrLimbo.
	ErrNoReplica = errors.New("wal replica not here")
	// ErrSuperseded says that the writer has opened the replica again elsewhere.
	ErrSuperseded = errors.New("wal replica opened again")
)

// ReplicaOptions configure the store of other writers' streams on one disk. Sizes are bytes.
type ReplicaOptions struct {
	FS       FS       // nil: the operating system's
	Dir      string   // folder for all replicas alone
	FreeDir  string   // pool of used segment files, on the same file system; may be that of logs; empty: no pool
	Sync     SyncMode // SyncAuto is decided by a trial write
	MaxBytes int64    // of segment files; default 64 GiB. One prepared segment per stream comes on top
	// MaxStreams bounds how many streams are kept; default 1024.
	MaxStreams int

	Logger *slog.Logger // nil: discard
	Meter  metric.Meter // nil: none
}

// Replicas keeps byte-identical copies of streams that are written elsewhere, each with a durable promise. All methods may be called
// concurrently. What callers give it is not trusted.
type Replicas struct {
	o       ReplicaOptions
	mode    SyncMode
	metrics *replicaMetrics
	used    atomic.Int64
	ctx     context.Context // done at Close: ends preparations
	stop    context.CancelFunc
	working sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	streams map[uint64]*replica
}

// Tail is what a replica holds: [Start, End) durably, and nothing of an epoch below Promise will be added.
type Tail struct {
	Header  StreamHeader
	Start   Position
	End     Position
	Promise uint64
}

// OpenReplicas finds out which streams are kept in o.Dir. What they hold is read, and checked, when somebody asks for one.
func OpenReplicas(o ReplicaOptions) (*Replicas, error) {
	if o.FS == nil {
		o.FS = OSFS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
	setDefault(&o.MaxBytes, 64<<30)
	setDefault(&o.MaxStreams, 1024)
	if o.Dir == "" {
		return nil, errors.New("wal replicas: Dir is empty")
	}
	for _, dir := range []string{o.Dir, o.FreeDir} {
		if dir == "" {
			continue
		}
		if err := o.FS.MkdirAll(dir); err != nil {
			return nil, fmt.Errorf("wal replicas folder %s: %w", dir, err)
		}
	}
	rs := &Replicas{o: o, mode: o.Sync, streams: map[uint64]*replica{}}
	rs.ctx, rs.stop = context.WithCancel(context.Background())
	if err := rs.findStreams(); err != nil {
		return nil, err
	}
	if err := rs.decideMode(); err != nil {
		return nil, err
	}
	var err error
	if rs.metrics, err = newReplicaMetrics(rs); err != nil {
		return nil, err
	}
	return rs, nil
}

func (rs *Replicas) findStreams() error {
	names, err := rs.o.FS.List(rs.o.Dir)
	if err != nil {
		return fmt.Errorf("wal replicas folder %s: %w", rs.o.Dir, err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, tempSuffix) {
			if err := rs.o.FS.Remove(filepath.Join(rs.o.Dir, n)); err != nil {
				return fmt.Errorf("wal replicas: %w", err)
			}
		}
		stream, err := strconv.ParseUint(strings.TrimSuffix(n, stateSuffix), 16, 64)
		if err != nil || n != fmt.Sprintf("%016x%s", stream, stateSuffix) {
			continue
		}
		r := newReplica(rs, stream)
		if s, err := r.readState(); err == nil {
			r.charge(s)
		}
		rs.streams[stream] = r
	}
	return nil
}

// decideMode finds out whether the file system takes direct writes.
func (rs *Replicas) decideMode() error {
	if rs.mode != SyncAuto {
		return nil
	}
	rs.mode = SyncDirect
	probe := filepath.Join(rs.o.Dir, "probe"+tempSuffix)
	f, err := rs.o.FS.Open(probe, OpenCreate|writeFlags(SyncDirect))
	if err == nil {
		_, err = f.WriteAt(alignedBytes(blockBytes), 0)
		_ = f.Close() // it is removed
	}
	if errors.Is(err, ErrNoDirect) {
		rs.o.Logger.Info("wal: no direct writes here, using fdatasync", "dir", rs.o.Dir, "reason", err)
		rs.mode, err = SyncData, nil
	}
	if rerr := rs.o.FS.Remove(probe); err == nil && rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = rerr
	}
	if err != nil {
		return fmt.Errorf("wal replicas: trial write: %w", err)
	}
	return nil
}

// Mode is the SyncMode in use.
func (rs *Replicas) Mode() SyncMode { return rs.mode }

// Streams returns the ids of the streams that something is kept of, in order.
func (rs *Replicas) Streams() []uint64 {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	ids := make([]uint64, 0, len(rs.streams))
	for id := range rs.streams {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// find returns the stream's replica.
func (rs *Replicas) find(stream uint64) (*replica, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		return nil, ErrClosed
	}
	r := rs.streams[stream]
	if r == nil {
		return nil, fmt.Errorf("%w: stream %016x", ErrNoReplica, stream)
	}
	return r, nil
}

// findOrMake returns the stream's replica, made in memory if need be.
func (rs *Replicas) findOrMake(stream uint64) (*replica, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		return nil, ErrClosed
	}
	r := rs.streams[stream]
	if r == nil {
		if len(rs.streams) >= rs.o.MaxStreams {
			return nil, fmt.Errorf("%w: %d streams are kept", ErrFull, len(rs.streams))
		}
		r = newReplica(rs, stream)
		rs.streams[stream] = r
	}
	return r, nil
}

// forget leaves a replica of which nothing is kept to those that wait for its turn, who find it gone. The caller has the turn.
func (rs *Replicas) forget(r *replica) {
	if r.gone == nil {
		r.gone = fmt.Errorf("%w: stream %016x", ErrNoReplica, r.stream)
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.streams[r.stream] == r {
		delete(rs.streams, r.stream)
	}
}

// Open is the writer's: it makes the replica ready for appends to the stream that h describes, whose oldest retained segment is oldest,
// and says what it holds. What lies before that segment is dropped. A replica that is not there is made only with create, which a writer
// must not say of a member that may have held something: its loss would go unnoticed. Any earlier Appender is superseded.
//
// Errors: ErrFenced, ErrLimbo, ErrNoReplica, ErrForeign (another stream of the same id), ErrMalformed, ErrFull, those of the file system.
func (rs *Replicas) Open(ctx context.Context, stream uint64, h StreamHeader, oldest SegmentRef, create bool) (*Appender, Tail, error) {
	if err := errors.Join(h.check(), oldest.check(h)); err != nil {
		return nil, Tail{}, err
	}
	find := rs.find
	if create {
		find = rs.findOrMake
	}
	for {
		r, err := find(stream)
		if err != nil {
			return nil, Tail{}, err
		}
		app, tail, again, err := r.tryOpen(ctx, h, oldest, create)
		if !again {
			return app, tail, err
		}
	}
}

// Fence promises, durably before it returns, that nothing of a writer with a lower epoch will be added and that no lower epoch can
// fence, and says what the replica holds. ErrFenced: a higher one was promised before. ErrLimbo and ErrNoReplica: it does not count.
func (rs *Replicas) Fence(ctx context.Context, stream, epoch uint64) (Tail, error) {
	r, err := rs.find(stream)
	if err != nil {
		return Tail{}, err
	}
	if err := r.lock(ctx); err != nil {
		return Tail{}, err
	}
	defer r.unlock()
	return r.fence(epoch)
}

// Read returns whole groups from the first one that ends after from, in dst if that is large enough: at most maxBytes unless one alone
// is longer, none if there are none. A replica in limbo shows what it can.
func (rs *Replicas) Read(ctx context.Context, stream uint64, from Position, maxBytes int, dst []byte) (Chunk, error) {
	r, err := rs.find(stream)
	if err != nil {
		return Chunk{}, err
	}
	if err := r.lock(ctx); err != nil {
		return Chunk{}, err
	}
	err = r.load()
	segs, end := r.segs, r.chain.end
	r.unlock()
	if segs == nil || err != nil && !errors.Is(err, ErrLimbo) {
		return Chunk{}, err
	}
	return segs.chunk(ctx, from, end, maxBytes, dst)
}

// Trim drops the segments that lie wholly before to, where everything is safe elsewhere. The last one stays.
func (rs *Replicas) Trim(ctx context.Context, stream uint64, to Position) error {
	r, err := rs.find(stream)
	if err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	if err := r.load(); err != nil {
		return err
	}
	return r.trim(to)
}

// Remove drops the stream, if no higher epoch than the given one was promised: when everything in it is safe elsewhere, or before it
// becomes a member again. A stream that is not there is no error.
func (rs *Replicas) Remove(ctx context.Context, stream, epoch uint64) error {
	r, err := rs.find(stream)
	if errors.Is(err, ErrNoReplica) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	return r.remove(epoch)
}

// Close waits for what is under way and closes the files. Each replica notes first up to where it is durable, so that rot of its
// last write will be noticed too.
func (rs *Replicas) Close() error {
	rs.mu.Lock()
	if rs.closed {
		rs.mu.Unlock()
		return nil
	}
	rs.closed = true
	var all []*replica
	for _, r := range rs.streams {
		all = append(all, r)
	}
	rs.mu.Unlock()
	rs.stop()
	var errs []error
	for _, r := range all {
		_ = r.lock(context.Background()) // which cannot end
		errs = append(errs, r.close())
		r.unlock()
	}
	rs.working.Wait()
	rs.metrics.close()
	return errors.Join(errs...)
}

// replicaMetrics are read when somebody asks.
type replicaMetrics struct {
	written  atomic.Int64
	writes   atomic.Int64
	callback metric.Registration
}

func newReplicaMetrics(rs *Replicas) (*replicaMetrics, error) {
	m := &replicaMetrics{}
	bytes, err1 := rs.o.Meter.Int64ObservableCounter("tidemark.wal.replica.bytes", metric.WithUnit("By"), metric.WithDescription("Bytes of other brokers' streams made durable here."))
	writes, err2 := rs.o.Meter.Int64ObservableCounter("tidemark.wal.replica.writes", metric.WithUnit("{write}"), metric.WithDescription("Writes that made them durable; each may hold many groups."))
	streams, err3 := rs.o.Meter.Int64ObservableGauge("tidemark.wal.replica.streams", metric.WithUnit("{stream}"), metric.WithDescription("Other brokers' streams that something is kept of."))
	files, err4 := rs.o.Meter.Int64ObservableGauge("tidemark.wal.replica.files", metric.WithUnit("By"), metric.WithDescription("Size of their segment files."))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("wal replica metrics: %w", err)
	}
	var err error
	m.callback, err = rs.o.Meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(bytes, m.written.Load())
		o.ObserveInt64(writes, m.writes.Load())
		o.ObserveInt64(streams, int64(len(rs.Streams())))
		o.ObserveInt64(files, rs.used.Load())
		return nil
	}, bytes, writes, streams, files)
	if err != nil {
		return nil, fmt.Errorf("wal replica metrics: %w", err)
	}
	return m, nil
}

func (m *replicaMetrics) close() {
	if m.callback != nil {
		_ = m.callback.Unregister() // the meter is gone already: nothing to undo
	}
}
