package wal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Log is the writer of one stream. All methods may be called concurrently, Run once.
type Log struct {
	o         Options
	mode      SyncMode
	segs      *segments
	maxCharge int
	metrics   *walMetrics
	first     SegmentRef

	durable                atomic.Uint64 // Position
	written, replicated    atomic.Uint64 // Positions; with Options.Replicated only
	groups, entries, bytes atomic.Uint64
	depthLimit             atomic.Int32
	idle                   atomic.Bool // the committer found nothing to do; the next Done wakes it
	hungry                 atomic.Bool // the committer waits for the next segment
	started                atomic.Bool

	wake        chan struct{} // to the committer
	prepareWake chan struct{} // to the goroutine that makes segments
	advanced    chan struct{}

	mu         sync.Mutex
	err        error // the stream failed
	fullErr    error // making the next segment fails for want of room
	closing    bool
	pool       *slabPool
	open       *slab
	cur        *group   // open group
	closed     []*group // closed for size, in order, not taken by the committer yet
	spare      []*group
	nextPos    Position // of the open group, or of the next if none is open
	segLimit   Position // of the segment that nextPos is in
	segSeq     uint64
	preparedTo Position // limit of the last segment that exists
	prepared   *segment // the next one, not taken yet
	trimmed    Position
	admitted   int64 // bytes admitted and not appended, with overhead
	admissions int
	waiters    waiterQueue
	extents    extents
	sealed     Position    // end of the last group that followers may see
	followers  []*Follower // in no order
	surcharge  surcharge
}

// New makes the stream's folder with its first segment, in milliseconds, and starts nothing. Dir must not hold a stream.
// The log needs Run, and finally Close.
func New(o Options) (*Log, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	if o.Epoch == 0 {
		return nil, errors.New("wal options: Epoch is 0")
	}
	l := &Log{
		o: o, mode: o.Sync,
		wake: make(chan struct{}, 1), prepareWake: make(chan struct{}, 1), advanced: make(chan struct{}, 1),
		surcharge: newSurcharge(o.MaxBytes),
	}
	l.maxCharge = min(maxGroupBytes, o.SlabBytes, int(o.SegmentBytes)-blockBytes)
	for l.o.nonce == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		l.o.nonce = le.Uint64(b[:])
	}
	l.segs = &segments{
		fs: o.FS, dir: o.Dir, freeDir: o.FreeDir, segmentBytes: o.SegmentBytes, epoch: o.Epoch, nonce: l.o.nonce,
		seed: segmentHeader{Nonce: l.o.nonce}.seed(),
	}
	if err := l.makeFolders(); err != nil {
		return nil, err
	}
	first, err := l.firstSegment()
	if err != nil {
		return nil, err
	}
	pool, err := newSlabPool(o.SlabBytes, o.SlabCount, l.unstarve)
	if err != nil {
		_ = first.w.Close() // nothing was written; the slabs' error counts
		return nil, err
	}
	l.pool, l.prepared, l.first = pool, first, first.ref()
	l.segSeq, l.segLimit, l.preparedTo = first.Sequence, first.limit(), first.limit()
	l.depthLimit.Store(1)
	if l.metrics, err = newMetrics(l); err != nil {
		return nil, errors.Join(err, first.w.Close(), pool.close())
	}
	return l, nil
}

func (l *Log) makeFolders() error {
	for _, dir := range []string{l.o.Dir, l.o.FreeDir} {
		if dir == "" {
			continue
		}
		if err := l.o.FS.MkdirAll(dir); err != nil {
			return fmt.Errorf("wal folder %s: %w", dir, err)
		}
	}
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return fmt.Errorf("wal folder %s: %w", l.o.Dir, err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, segmentSuffix) {
			return fmt.Errorf("wal folder %s holds a stream already: %w", l.o.Dir, fs.ErrExist)
		}
	}
	return nil
}

// firstSegment makes the first segment and finds out whether the file system takes direct writes. Without a used file at
// hand it is a small one, which is zeroed in no time.
func (l *Log) firstSegment() (*segment, error) {
	if l.mode == SyncAuto {
		seg, err := l.tryFirstSegment(SyncDirect)
		if err == nil {
			l.mode = SyncDirect
			return seg, nil
		}
		if !errors.Is(err, ErrNoDirect) {
			return nil, err
		}
		l.o.Logger.Info("wal: no direct writes here, using fdatasync", "dir", l.o.Dir, "reason", err)
		l.mode = SyncData
	}
	return l.tryFirstSegment(l.mode)
}

func (l *Log) tryFirstSegment(mode SyncMode) (*segment, error) {
	h := segmentHeader{Epoch: l.o.Epoch, Owner: l.o.Owner, Nonce: l.o.nonce, Sequence: firstSegmentSeq, SizeBytes: l.o.SegmentBytes}
	if l.o.FreeDir != "" {
		names, err := l.o.FS.List(l.o.FreeDir)
		if err != nil {
			return nil, fmt.Errorf("wal pool %s: %w", l.o.FreeDir, err)
		}
		if !hasSuffix(names, freeSuffix) {
			h.SizeBytes = l.o.firstSegmentBytes
		}
	} else {
		h.SizeBytes = l.o.firstSegmentBytes
	}
	return l.segs.prepare(context.Background(), h, mode, nil)
}

func hasSuffix(names []string, suffix string) bool {
	for _, n := range names {
		if strings.HasSuffix(n, suffix) {
			return true
		}
	}
	return false
}

// Run commits what is appended, until ctx is done; then it admits nothing more, waits for outstanding admissions to be
// appended or cancelled, commits all and returns nil. If the stream fails it tells all completions so and returns the
// error, which wraps ErrFailed. After Run the log can still be read and trimmed.
func (l *Log) Run(ctx context.Context) error {
	if l.started.Swap(true) {
		return errors.New("wal: Run called twice")
	}
	first := l.prepared.segmentHeader
	prepareCtx, stopPreparing := context.WithCancel(context.WithoutCancel(ctx))
	var preparing sync.WaitGroup
	preparing.Go(func() { l.prepareLoop(prepareCtx, first) })
	preparing.Go(func() { l.relaxLoop(prepareCtx) })
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		l.closing = true
		l.grantLocked()
		l.mu.Unlock()
		l.notify()
	})
	defer stop()
	c := &committer{
		l: l, depth: newDepth(l.o.MaxInFlight), link: l.segs.seed, sequence: firstGroupSequence - 1,
		results: make(chan *group, maxInFlight),
	}
	c.run()
	stopPreparing()
	preparing.Wait()
	l.mu.Lock()
	l.closing = true
	err := l.err
	unused := l.prepared
	l.prepared = nil
	l.grantLocked()
	l.mu.Unlock()
	if unused != nil {
		l.segs.add(unused)
		l.closeFile(unused)
	}
	return err
}

// prepareLoop keeps the next segment ready, so that the committer hardly ever waits for one.
func (l *Log) prepareLoop(ctx context.Context, h segmentHeader) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.prepareWake:
		}
		h = segmentHeader{Epoch: h.Epoch, Owner: h.Owner, Nonce: h.Nonce, Sequence: h.Sequence + 1, First: h.limit(), SizeBytes: l.o.SegmentBytes}
		seg, err := l.prepareNext(ctx, h)
		if err != nil {
			if ctx.Err() == nil {
				l.fail(err)
			}
			return
		}
		l.mu.Lock()
		l.prepared, l.preparedTo, l.fullErr = seg, seg.limit(), nil
		l.grantLocked()
		l.mu.Unlock()
		l.notify()
	}
}

// prepareNext makes a segment, again and again while there is no room for it.
func (l *Log) prepareNext(ctx context.Context, h segmentHeader) (*segment, error) {
	const pause, maxPause = 100 * time.Millisecond, 2 * time.Second
	for wait := pause; ; wait = min(2*wait, maxPause) {
		seg, err := l.segs.prepare(ctx, h, l.mode, l.pace)
		if !errors.Is(err, ErrFull) {
			if err == nil && wait > pause {
				l.o.Logger.Info("wal: there is room again", "dir", l.o.Dir)
			}
			return seg, err
		}
		if wait == pause {
			l.o.Logger.Error("wal: no room for the next segment; appends will be refused", "dir", l.o.Dir, "error", err)
		}
		l.mu.Lock()
		l.fullErr = err
		l.grantLocked()
		l.mu.Unlock()
		l.notify()
		retry := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			retry.Stop()
			return nil, ctx.Err()
		case <-retry.C:
		}
	}
}

// pace leaves every other moment to the committer, unless it waits for the segment.
func (l *Log) pace(took time.Duration) {
	if !l.hungry.Load() {
		time.Sleep(took)
	}
}

// Durable is the position before which everything is durable, and held by enough others with Options.Replicated: the end of the last
// completed group.
func (l *Log) Durable() Position { return Position(l.durable.Load()) }

// Advanced receives after Durable or Written grew; it holds one signal, for one receiver.
func (l *Log) Advanced() <-chan struct{} { return l.advanced }

// Epoch is Options.Epoch.
func (l *Log) Epoch() uint64 { return l.o.Epoch }

// Mode is the SyncMode in use: SyncAuto has been decided.
func (l *Log) Mode() SyncMode { return l.mode }

// Trim says that entries before to are not needed any more. Segments wholly below it go to FreeDir or are removed, when
// no reader is in them; others stay readable. to must not be beyond Durable. After an error it may be called again.
func (l *Log) Trim(to Position) error {
	durable := l.Durable()
	if to > durable {
		return fmt.Errorf("wal trim to %d: only durable up to %d", to, durable)
	}
	l.mu.Lock()
	l.trimmed = max(l.trimmed, to)
	next := l.nextPos
	if l.cur != nil {
		next = l.cur.end()
	}
	l.surcharge.trim(to, next)
	l.grantLocked()
	l.mu.Unlock()
	return l.segs.trim(to, durable)
}

// Stats returns a snapshot.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Start: l.trimmed, Durable: l.Durable(), Appended: l.nextPos, Segments: l.segs.count(),
		Groups: l.groups.Load(), Entries: l.entries.Load(), Bytes: l.bytes.Load(),
		SlabsInUse: l.o.SlabCount - len(l.pool.free), SlabsPinned: int(l.pool.pinned.Load()),
		AdmittedBytes: l.admitted, AdmitWaiting: l.waiters.count,
		InFlightLimit: int(l.depthLimit.Load()), Full: l.fullErr != nil, Mode: l.mode,
	}
	if l.cur != nil {
		s.Appended = l.cur.end()
	}
	if l.prepared != nil {
		s.Segments++
	}
	s.UntrimmedBytes = int64(s.Appended - s.Start)
	s.SurchargeBytes = l.surcharge.untrimmed()
	return s
}

// Close frees slabs and read handles. Run must have returned, and no reader be left: slabs that are still pinned stay
// mapped and are reported. Afterwards every Ref is stale.
func (l *Log) Close() error {
	l.metrics.close()
	l.segs.closeReaders()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = true
	if !l.started.Swap(true) && l.prepared != nil { // never ran
		_ = l.prepared.w.Close() // nothing was written since it was synced
	}
	l.open = nil
	return l.pool.close()
}

// Remove hands the segment files to FreeDir and deletes the folder, after Close, when everything in the stream is safe
// elsewhere.
func (l *Log) Remove() error { return l.segs.removeAll() }

// extent is where a durable group lies, and lay in memory.
type extent struct {
	pos    Position
	length int32
	off    int32
	gen    uint64
	slab   *slab
}

func (e extent) end() Position { return e.pos + Position(e.length) }

// extents are those of the groups that may still be in memory, in order. Guarded by Log.mu.
type extents struct {
	list []extent
	head int
}

// add appends a durable group and forgets the oldest ones whose slab is gone.
func (x *extents) add(g *group) {
	for x.head < len(x.list) && x.list[x.head].slab.generation() != x.list[x.head].gen {
		x.list[x.head] = extent{}
		x.head++
	}
	if x.head > 1024 && 2*x.head > len(x.list) {
		n := copy(x.list, x.list[x.head:])
		clear(x.list[n:])
		x.list, x.head = x.list[:n], 0
	}
	x.list = append(x.list, extent{
		pos: g.pos, length: int32(alignUp(g.length)), off: int32(g.off), gen: g.slab.generation(), slab: g.slab,
	})
}

// find returns the first extent that ends after pos, if pos does not lie before all of them.
func (x *extents) find(pos Position) (extent, bool) {
	live := x.list[x.head:]
	if len(live) == 0 || pos < live[0].pos {
		return extent{}, false
	}
	i := sort.Search(len(live), func(i int) bool { return live[i].end() > pos })
	if i == len(live) {
		return extent{}, false
	}
	return live[i], true
}
