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

	SealBytes int64         // seal when so much is durable; default 64 MiB
	SealAge   time.Duration // or when the oldest waits so long; default 5 s
	// Awaited tells, if not nil, that somebody waits for commits at present: then the oldest waits no longer than AwaitedAge. Called often.
	Awaited     func() bool
	AwaitedAge  time.Duration // default 100 ms
	SingleBytes int64         // a partition with so much in a seal gets an object of its own; default 8 MiB
	InFlight    int           // seals between collecting and the end of their puts, each with up to SealBytes in memory; default 4
	Parallel    int           // puts at once; default 8
	// PutTimeout limits one attempt to put n bytes. Default: 10 s and 1 s per MiB.
	PutTimeout func(nBytes int64) time.Duration

	// HoldSlabs is how long a put may copy from the WAL's memory, which writers lack meanwhile. Default 250 ms.
	HoldSlabs time.Duration

	// OnCommitted learns what became committed, in order, before the WAL is trimmed. It must not block for long. May be nil.
	OnCommitted func([]Range)
	Logger      *slog.Logger
	Meter       metric.Meter
}

func (o *UploaderOptions) setDefaults() {
	orDefault(&o.SealBytes, 64<<20)
	orDefault((*int64)(&o.SealAge), int64(5*time.Second))
	orDefault((*int64)(&o.AwaitedAge), int64(100*time.Millisecond))
	orDefault(&o.SingleBytes, 8<<20)
	orDefault((*int64)(&o.HoldSlabs), int64(250*time.Millisecond))
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
	slow      atomic.Bool   // the last put took longer than slabs may be held
	oldest    atomic.Int64  // Unix ms since when something waits to be committed; 0: nothing does

	mu       sync.Mutex
	target   wal.Position  // Drain wants everything before it
	progress chan struct{} // closed and replaced when committed grew
	finished bool
	failure  error

	// Of the sealing goroutine.
	nextFrom   wal.Position
	nextSeq    uint64
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
// it cannot go on: the stream is fenced, or the WAL cannot be read back. When it returns nothing of the WAL's memory is held.
func (u *Uploader) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan *seal, uncommittedSeals)
	var wg sync.WaitGroup
	wg.Go(func() { u.commitAll(ctx, queue, cancel) })
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
