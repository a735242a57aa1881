package tiering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/segment"
	"github.com/tidemarkmq/tidemark/wal"
)

// Scanner reads a stream; *wal.Log and *wal.Recovered do.
type Scanner interface {
	Scan(ctx context.Context, from, to wal.Position, fn func(wal.Entry) error) error
}

// Stream is a WAL stream that is being written; *wal.Log is one.
type Stream interface {
	Scanner
	Durable() wal.Position
	// Advanced receives after Durable grew; the uploader is its only receiver.
	Advanced() <-chan struct{}
	Trim(to wal.Position) error
}

// UploaderOptions configure an Uploader. Zero sizes and times take the defaults.
type UploaderOptions struct {
	Stream   Stream
	StreamID metadata.StreamID
	Revision metadata.Revision // of the stream's record; every commit compares it
	From     wal.Position      // everything before it is committed
	// FirstSeq is the sequence of the first object, above all that the stream has. No sequence is ever used twice in a stream, not even
	// that of an object which was absorbed and forgotten: a delayed deletion of its record would hit the new one. So the first is above
	// From in any case: each object holds more of the stream than one position, and has a sequence below its end.
	FirstSeq uint64
	Catalog  *Catalog
	Store    objectstore.Store
	Meta     Committer

	SealBytes   int64         // seal when so much is durable; default 64 MiB
	SealAge     time.Duration // or when the oldest waits so long; default 5 s
	SingleBytes int64         // a partition with so much in a seal gets an object of its own; default 8 MiB
	InFlight    int           // seals between collecting and commit, each with up to SealBytes in memory; default 4
	Parallel    int           // puts at once; default 8
	// PutTimeout limits one attempt to put n bytes. Default: 10 s and 1 s per MiB.
	PutTimeout func(nBytes int64) time.Duration

	// OnCommitted learns what became committed, in order, before the WAL is trimmed. It must not block for long. May be nil.
	OnCommitted func([]Range)
	Logger      *slog.Logger
	Meter       metric.Meter
}

func (o *UploaderOptions) setDefaults() {
	orDefault(&o.SealBytes, 64<<20)
	orDefault((*int64)(&o.SealAge), int64(5*time.Second))
	orDefault(&o.SingleBytes, 8<<20)
	orDefault(&o.InFlight, 4)
	orDefault(&o.Parallel, 8)
	if o.PutTimeout == nil {
		o.PutTimeout = transferLimit
	}
	if o.OnCommitted == nil {
		o.OnCommitted = func([]Range) {}
	}
	o.Logger = loggerOr(o.Logger)
}

// Uploader moves one WAL stream into objects. Seals are put in parallel and committed in the order of positions. While the store
// or etcd is away it repeats what failed, for ever; acknowledgements go on until the WAL is full.
type Uploader struct {
	o       UploaderOptions
	staging staging
	puts    chan struct{} // slots
	slots   chan struct{} // of seals in flight
	kick    chan struct{}
	metrics *metrics

	committed atomic.Uint64 // position
	oldest    atomic.Int64  // Unix ms since when something waits to be committed; 0: nothing does

	mu       sync.Mutex
	target   wal.Position  // Drain wants everything before it
	progress chan struct{} // closed and replaced when committed grew
	finished bool
	failure  error

	// Of the sealing goroutine.
	nextFrom   wal.Position
	nextSeq    uint64
	entries    []sealEntry                              // reused
	indexBytes int64                                    // bound of a seal's indexes
	ends       map[metadata.PartitionID]metadata.Offset // of what is sealed and not committed yet
	endsMu     sync.Mutex
}

// NewUploader returns an uploader; Run starts it.
func NewUploader(o UploaderOptions) *Uploader {
	o.setDefaults()
	u := &Uploader{o: o, puts: make(chan struct{}, o.Parallel), slots: make(chan struct{}, o.InFlight), kick: make(chan struct{}, 1),
		progress: make(chan struct{}), nextFrom: o.From, nextSeq: max(o.FirstSeq, uint64(o.From)), ends: map[metadata.PartitionID]metadata.Offset{}, metrics: o.Catalog.metrics,
		indexBytes: segment.MaxIndexBytes / 2}
	if o.Meter != nil {
		u.metrics = newMetrics(o.Meter, o.Logger)
	}
	u.committed.Store(uint64(o.From))
	u.metrics.gauge("tidemark.tiering.lag", "By", "Durable bytes of the WAL stream that are not in committed objects yet.", func() int64 {
		return int64(max(u.o.Stream.Durable(), u.Committed()) - u.Committed())
	})
	u.metrics.gauge("tidemark.tiering.lag.age", "ms", "How long the oldest durable bytes have waited to be committed.", func() int64 {
		if since := u.oldest.Load(); since != 0 {
			return max(0, u.now().UnixMilli()-since)
		}
		return 0
	})
	return u
}

func (u *Uploader) now() time.Time { return time.Now() }

// Committed is the position before which everything is in committed objects.
func (u *Uploader) Committed() wal.Position { return wal.Position(u.committed.Load()) }

func (u *Uploader) exists(p metadata.PartitionID) bool {
	_, ok := u.o.Catalog.o.Partitions.Partition(p)
	return ok
}

// sealedEnd is the end of what is committed or on its way.
func (u *Uploader) sealedEnd(p metadata.PartitionID) metadata.Offset {
	u.endsMu.Lock()
	end, ok := u.ends[p]
	u.endsMu.Unlock()
	if ok {
		return end
	}
	return u.o.Catalog.End(p)
}

// Run seals and commits until ctx is done (it then returns nil; what is under way is given up and would be done again) or until
// it cannot go on: the stream is fenced, or the WAL cannot be read back.
func (u *Uploader) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan *seal, u.o.InFlight)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := u.commitAll(ctx, queue); err != nil {
			cancel(err)
		}
	})
	err := u.sealAll(ctx, queue)
	if err != nil {
		cancel(err)
	}
	close(queue)
	wg.Wait()
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		err = cause
	}
	u.mu.Lock()
	u.finished, u.failure = true, err
	close(u.progress)
	u.progress = make(chan struct{})
	u.mu.Unlock()
	return err
}

// Drain returns when everything that is durable at the call is in committed objects, without waiting for size or age; Run must be
// running. It returns an error when ctx is done or Run has ended before.
func (u *Uploader) Drain(ctx context.Context) error {
	target := u.o.Stream.Durable()
	u.mu.Lock()
	u.target = max(u.target, target)
	u.mu.Unlock()
	select {
	case u.kick <- struct{}{}:
	default:
	}
	for {
		u.mu.Lock()
		progress, finished, failure := u.progress, u.finished, u.failure
		u.mu.Unlock()
		switch {
		case u.Committed() >= target:
			return nil
		case finished:
			return fmt.Errorf("drain to %d: uploader stopped at %d: %w", target, u.Committed(), errors.Join(failure, context.Canceled))
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return fmt.Errorf("drain to %d: at %d: %w", target, u.Committed(), context.Cause(ctx))
		}
	}
}

func (u *Uploader) drainTarget() wal.Position {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.target
}

// pace is how soon to look again at the size of what waits when missing bytes of a seal are not there yet: before a fast log can have
// brought them, because what is sealed late is no longer in memory and has to be read back from the disk.
func pace(missing int64) time.Duration {
	const bytesPerSecond = 4 << 30
	return min(max(time.Duration(missing)*time.Second/bytesPerSecond, time.Millisecond), 25*time.Millisecond)
}

// sealAll decides what to seal when. It returns nil when ctx is done.
func (u *Uploader) sealAll(ctx context.Context, queue chan<- *seal) error {
	at := u.o.From
	var since time.Time
	for ctx.Err() == nil {
		durable := u.o.Stream.Durable()
		if durable <= at {
			since = time.Time{}
			if !u.idle(ctx) {
				return nil
			}
			continue
		}
		if since.IsZero() {
			since = u.now()
			u.oldest.CompareAndSwap(0, since.UnixMilli())
		}
		maxBytes, maxAge := u.limits()
		waited := u.now().Sub(since)
		if int64(durable-at) < maxBytes && waited < maxAge && u.drainTarget() <= at {
			u.pause(ctx, min(pace(maxBytes-int64(durable-at)), maxAge-waited))
			continue
		}
		select {
		case u.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		s, err := u.collect(ctx, at, durable, maxBytes)
		if err != nil {
			<-u.slots
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("seal from %d: %w", at, err)
		}
		at = s.to
		since = time.Time{}
		u.launch(ctx, s, queue)
	}
	return nil
}

// limits are when to seal. Many pending objects mean that absorbing is behind: bigger seals make fewer of them.
func (u *Uploader) limits() (maxBytes int64, maxAge time.Duration) {
	if u.o.Catalog.pendingCount() >= u.o.Catalog.o.HardPending {
		return 2 * u.o.SealBytes, 8 * u.o.SealAge
	}
	return u.o.SealBytes, u.o.SealAge
}

// idle waits until something is durable; false when ctx is done. Idle memory is given back after a while.
func (u *Uploader) idle(ctx context.Context) bool {
	t := time.NewTimer(10 * time.Second)
	defer t.Stop()
	select {
	case <-u.o.Stream.Advanced():
	case <-u.kick:
	case <-t.C:
		u.staging.shrink(1)
		select {
		case <-u.o.Stream.Advanced():
		case <-u.kick:
		case <-ctx.Done():
			return false
		}
	case <-ctx.Done():
		return false
	}
	return true
}

func (u *Uploader) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-u.kick:
	case <-ctx.Done():
	}
}

// launch starts the puts of a seal and hands it to the committing goroutine.
func (u *Uploader) launch(ctx context.Context, s *seal, queue chan<- *seal) {
	u.nextFrom = s.to
	if len(s.objects) > 0 {
		u.endsMu.Lock()
		for _, r := range s.ranges {
			u.ends[r.Partition] = r.End
		}
		u.endsMu.Unlock()
	}
	go func() { s.done <- u.putAll(ctx, s) }()
	queue <- s
}

func (u *Uploader) putAll(ctx context.Context, s *seal) error {
	errs := make(chan error, len(s.objects))
	for _, o := range s.objects {
		go func() {
			select {
			case u.puts <- struct{}{}:
				err := u.put(ctx, o)
				<-u.puts
				errs <- err
			case <-ctx.Done():
				errs <- context.Cause(ctx)
			}
		}()
	}
	var err error
	for range s.objects {
		err = errors.Join(err, <-errs)
	}
	return err
}

func (u *Uploader) put(ctx context.Context, o *sealed) error {
	started := u.now()
	size := o.layout.SizeBytes()
	failures := 0
	err := settlePut(ctx, u.o.Store, o.key, o.layout.Header.ID.Nonce, o.image, u.o.PutTimeout(size), func(err error) {
		failures++
		u.metrics.uploadRetries.Add(ctx, 1)
		if failures&(failures-1) == 0 { // 1, 2, 4, 8 …
			u.o.Logger.Warn("object store does not take an object, trying again", "key", o.key, "bytes", size, "failures", failures,
				"waiting", u.now().Sub(started), "error", err)
		}
	})
	if err != nil {
		return err
	}
	if failures > 0 {
		u.o.Logger.Info("object store took the object after failures", "key", o.key, "failures", failures, "waited", u.now().Sub(started))
	}
	u.metrics.uploadSeconds.Record(ctx, u.now().Sub(started).Seconds())
	return nil
}

// commitAll commits seals in order. It returns nil when the queue is closed or ctx is done.
func (u *Uploader) commitAll(ctx context.Context, queue <-chan *seal) error {
	var failure error
	for s := range queue {
		err := <-s.done // the memory may only be reused when the puts are over
		if failure == nil && err == nil {
			err = u.commit(ctx, s)
		}
		s.release()
		<-u.slots
		if failure == nil && err != nil {
			failure = fmt.Errorf("commit [%d, %d): %w", s.from, s.to, err)
			if ctx.Err() == nil {
				return u.abandon(queue, failure)
			}
		}
	}
	return nil
}

// abandon keeps the queue moving after a failure that ends the uploader.
func (u *Uploader) abandon(queue <-chan *seal, failure error) error {
	go func() {
		for s := range queue {
			if err := <-s.done; err != nil {
				u.o.Logger.Debug("a seal was given up", "error", err)
			}
			<-u.slots
		}
	}()
	return failure
}

// commit makes a seal's objects known to etcd, then to the catalog and the partitions, and only then trims the WAL.
func (u *Uploader) commit(ctx context.Context, s *seal) error {
	if len(s.objects) > 0 {
		records := make([]metadata.PendingObject, len(s.objects))
		pending := make([]*pendingObject, len(s.objects))
		for i, o := range s.objects {
			f := o.layout.Footer
			records[i] = metadata.PendingObject{Stream: u.o.StreamID, Seq: o.layout.Header.ID.Seq, Key: o.key, SizeBytes: o.layout.SizeBytes(),
				FooterAt: f.IndexAt, CRC: f.IndexCRC, From: uint64(s.from), To: uint64(s.to)}
			pending[i] = newPending(records[i], o.layout.Header.ID, &o.layout.Index, f)
			u.metrics.sealedBytes.Add(ctx, records[i].SizeBytes)
			u.metrics.sealedObjects.Add(ctx, 1, kindAttribute(o.layout.Header.ID.Kind.String()))
		}
		if err := u.commitRecords(ctx, records); err != nil {
			return err
		}
		u.o.Catalog.add(pending)
		u.forgetEnds(s.ranges)
		u.o.OnCommitted(s.ranges)
	}
	if len(s.objects) == 0 {
		if err := u.skip(ctx, s.to); err != nil {
			return err
		}
	}
	u.committed.Store(uint64(s.to))
	if s.to >= u.o.Stream.Durable() {
		u.oldest.Store(0)
	} else {
		u.oldest.Store(u.now().UnixMilli())
	}
	// Never beyond the position in etcd: a recovery that finds the WAL beginning above it knows that a segment was lost.
	if err := u.o.Stream.Trim(s.to); err != nil {
		// The data is safe; the next trim frees the space.
		u.o.Logger.Warn("WAL could not be trimmed", "to", s.to, "error", err)
	}
	u.mu.Lock()
	close(u.progress)
	u.progress = make(chan struct{})
	u.mu.Unlock()
	return nil
}

// forgetEnds drops the ends that the catalog knows by now.
func (u *Uploader) forgetEnds(ranges []Range) {
	u.endsMu.Lock()
	defer u.endsMu.Unlock()
	for _, r := range ranges {
		if u.ends[r.Partition] == r.End {
			delete(u.ends, r.Partition)
		}
	}
}

// commitRecords commits in etcd. After an unknown outcome or a conflict it looks whether the objects are there.
func (u *Uploader) commitRecords(ctx context.Context, records []metadata.PendingObject) error {
	b := backoff{base: 50 * time.Millisecond, max: 5 * time.Second}
	failures := 0
	for {
		err := attempt(ctx, 15*time.Second, func(ctx context.Context) error {
			return u.o.Meta.CommitObjects(ctx, u.o.StreamID, u.o.Revision, records)
		})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, metadata.ErrFenced), errors.Is(err, metadata.ErrInvalid), errors.Is(err, metadata.ErrNotFound):
			return err
		}
		there, lerr := u.areCommitted(ctx, records)
		switch {
		case lerr == nil && there:
			return nil
		case lerr == nil && (errors.Is(err, metadata.ErrConflict) || errors.Is(err, metadata.ErrExists)):
			return err
		}
		if failures++; failures&(failures-1) == 0 {
			u.o.Logger.Warn("etcd does not take a commit, trying again", "objects", len(records), "failures", failures, "error", err)
		}
		if werr := b.wait(ctx); werr != nil {
			return fmt.Errorf("%w: %w", werr, err)
		}
	}
}

// skip makes known that nothing below to is left to commit: what is not in objects belonged to deleted topics.
func (u *Uploader) skip(ctx context.Context, to wal.Position) error {
	b := backoff{base: 50 * time.Millisecond, max: 5 * time.Second}
	for {
		err := attempt(ctx, 15*time.Second, func(ctx context.Context) error {
			return u.o.Meta.SkipTo(ctx, u.o.StreamID, u.o.Revision, uint64(to))
		})
		if err == nil || errors.Is(err, metadata.ErrFenced) || errors.Is(err, metadata.ErrInvalid) || errors.Is(err, metadata.ErrNotFound) {
			return err
		}
		u.o.Logger.Warn("etcd does not take a stream's position, trying again", "to", to, "error", err)
		if werr := b.wait(ctx); werr != nil {
			return fmt.Errorf("%w: %w", werr, err)
		}
	}
}

// areCommitted looks for the objects among the pending ones: nothing absorbs them before this uploader has told the catalog.
func (u *Uploader) areCommitted(ctx context.Context, records []metadata.PendingObject) (bool, error) {
	all, err := u.o.Meta.PendingObjects(ctx)
	if err != nil {
		return false, err
	}
	keys := make(map[string]bool, len(all))
	for i := range all {
		keys[all[i].Key] = true
	}
	for i := range records {
		if !keys[records[i].Key] {
			return false, nil
		}
	}
	return true, nil
}

// DrainRecovered moves what is left of a dead stream, [o.From, end), into committed objects, in the same way as a live one.
// o.Stream is ignored.
func DrainRecovered(ctx context.Context, dead Scanner, end wal.Position, o UploaderOptions) error {
	o.Stream = deadStream{dead, max(end, o.From)}
	u := NewUploader(o)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- u.Run(ctx) }()
	err := u.Drain(ctx)
	cancel()
	return errors.Join(err, <-failed)
}

type deadStream struct {
	Scanner
	end wal.Position
}

func (d deadStream) Durable() wal.Position     { return d.end }
func (d deadStream) Advanced() <-chan struct{} { return nil }
func (d deadStream) Trim(wal.Position) error   { return nil }

// LastSeq is the largest object sequence of a stream among its pending objects in the catalog.
func (c *Catalog) LastSeq(stream metadata.StreamID) uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var seq uint64
	for _, o := range c.pending {
		if o.record.Stream == stream {
			seq = max(seq, o.record.Seq)
		}
	}
	return seq
}

var _ objectstore.Summed = (*segment.Body)(nil)
