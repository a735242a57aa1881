package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/wal"
)

const (
	tickEvery  = 100 * time.Millisecond
	closeBytes = 8 << 20 // a newcomer that lacks no more than this may become a member
	// freezeLimit is how long acknowledgements may stand still for a newcomer to come level, before anything is asked of etcd.
	freezeLimit = 500 * time.Millisecond
	// stallLimit is how long what was written may wait to be acknowledged, before the object store is asked to do it.
	stallLimit = 300 * time.Millisecond
	// banned is how long a newcomer that did not manage to become a member is not tried again.
	banned = 10 * time.Second
)

// Options configure a Writer.
type Options struct {
	Log    *wal.Log // with wal.Options.Replicated
	Stream uint64   // the stream's id
	Self   Member
	Quorum int // members, the owner included, that must hold what is acknowledged
	Size   int // members wanted
	Dial   Dial
	// Candidates are the live members, best first, for an ensemble of present. It must not block.
	Candidates func(present []Member) []Member
	// Change makes next the stream's ensemble in etcd, comparing that the stream is the owner's and OPEN and the ensemble is the last one. It returns without an
	// error when that is done, with wal.ErrFenced when it never will be, and otherwise repeats the same transaction until ctx is done.
	Change func(ctx context.Context, next []Member) error
	// Committed is the position before which everything is in the object store, whose commits the log was told of by Replicated. It must not block.
	Committed func() wal.Position
	// Commit asks for what was written to be committed soon, because the ensemble cannot become smaller before. It must not block. May be nil.
	Commit func()
	// Reach asks etcd something, with a limit of its own. It is called before acknowledgements are stopped for Change, so that an etcd that is away
	// stops nothing. May be nil.
	Reach func(ctx context.Context) error
	// SlowAfter is how long a member may lack something before it is replaced, if somebody better is there. Default 1 s.
	SlowAfter time.Duration
	// CatchUp is how long a newcomer may take to hold what the log has. Default 60 s.
	CatchUp time.Duration
	Logger  *slog.Logger // nil: discard
	Meter   metric.Meter // nil: none
}

// Writer sends a log's groups to the members of its ensemble, which is the owner alone at first, tells the log what is replicated, and replaces
// members that are gone.
type Writer struct {
	o       Options
	wake    chan struct{}
	metrics *metrics

	stalled atomic.Bool

	mu      sync.Mutex
	core    *core
	senders map[Member]*sender

	// Of Run.
	mark       wal.Position // what was written at
	markAt     time.Time
	proposal   []Member // the ensemble being made, nil: none
	proposedAt time.Time
	frozenAt   time.Time // zero: not frozen
	bans       map[Member]time.Time
}

// NewWriter returns a writer; Run starts it.
func NewWriter(o Options) (*Writer, error) {
	if o.SlowAfter == 0 {
		o.SlowAfter = time.Second
	}
	if o.CatchUp == 0 {
		o.CatchUp = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Quorum < 1 || o.Size < o.Quorum {
		return nil, fmt.Errorf("quorum of %d in an ensemble of %d", o.Quorum, o.Size)
	}
	w := &Writer{o: o, wake: make(chan struct{}, 1), core: newCore(o.Self, o.Quorum), senders: map[Member]*sender{}, bans: map[Member]time.Time{}}
	var err error
	w.metrics, err = newMetrics(w)
	return w, err
}

// Ensemble is the present one, as etcd has it, the owner first. Safe for concurrent use.
func (w *Writer) Ensemble() []Member {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.core.ensemble)
}

// Stalled tells that replication acknowledges nothing at present, though something waits for it: only commits to the object store do. Safe for
// concurrent use.
func (w *Writer) Stalled() bool { return w.stalled.Load() }

// Run replicates until ctx is done or the log has failed, which is not its error.
func (w *Writer) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		w.mu.Lock()
		senders := w.senders
		w.senders = map[Member]*sender{}
		w.mu.Unlock()
		for _, s := range senders {
			<-s.done
		}
		w.metrics.close()
	}()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		if err := w.step(ctx, time.Now()); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, wal.ErrFenced) {
				w.o.Log.Fail(err)
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-tick.C:
		}
	}
}

// step looks at the ensemble once.
func (w *Writer) step(ctx context.Context, now time.Time) error {
	w.judge(now)
	if w.proposal == nil {
		w.propose(ctx, now)
		return nil
	}
	if !w.frozenAt.IsZero() {
		return w.finish(ctx, now)
	}
	if failed := w.failedNewcomer(now); failed != nil {
		w.abandon(now, failed)
		return nil
	}
	w.mu.Lock()
	level := w.level()
	w.mu.Unlock()
	if !level || w.o.Reach != nil && w.o.Reach(ctx) != nil {
		return nil
	}
	w.mu.Lock()
	frozen := w.core.freeze(w.proposal)
	w.mu.Unlock()
	if !frozen {
		w.abandon(now, nil)
		return nil
	}
	w.frozenAt = now
	if len(w.proposal) < w.o.Quorum && w.o.Commit != nil {
		w.o.Commit()
	}
	return w.finish(ctx, now)
}

// judge finds out which senders lag.
func (w *Writer) judge(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	written := w.o.Log.Written()
	if w.o.Log.Durable() >= w.mark {
		w.mark, w.markAt = written, now
	}
	w.stalled.Store(now.Sub(w.markAt) > stallLimit || len(w.core.ensemble) < w.o.Quorum)
	for _, s := range w.senders {
		s.judge(w.core.find(s.member).held, written, now, w.o.SlowAfter)
	}
}

// propose begins to make another ensemble if a better one is to be had.
func (w *Writer) propose(ctx context.Context, now time.Time) {
	w.mu.Lock()
	present := slices.Clone(w.core.ensemble)
	var lost, slow []Member
	for _, m := range present {
		if s := w.senders[m]; s != nil && s.lost {
			lost = append(lost, m)
		} else if s != nil && s.slow {
			slow = append(slow, m)
		}
	}
	w.mu.Unlock()
	for m, until := range w.bans {
		if now.After(until) {
			delete(w.bans, m)
		} else if !slices.Contains(present, m) {
			lost = append(lost, m)
		}
	}
	next := Desired(w.o.Self, present, lost, slow, w.o.Candidates(present), w.o.Size)
	newcomer := func(m Member) bool { return !slices.Contains(present, m) }
	if len(next) == len(present) && !slices.ContainsFunc(next, newcomer) {
		return
	}
	w.proposal, w.proposedAt = next, now
	for _, m := range next {
		if newcomer(m) {
			w.startSender(ctx, m)
		}
	}
}

func (w *Writer) startSender(ctx context.Context, m Member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.core.join(m)
	s := &sender{w: w, member: m, peer: w.o.Dial(m), done: make(chan struct{})}
	var life context.Context
	life, s.stop = context.WithCancel(ctx)
	w.senders[m] = s
	go s.run(life)
}

// level tells whether all newcomers are close to the end of the log. Called with mu.
func (w *Writer) level() bool {
	for _, m := range w.proposal {
		if p := w.core.find(m); m != w.o.Self && !slices.Contains(w.core.ensemble, m) && (!p.opened || p.held+closeBytes < w.o.Log.Written()) {
			return false
		}
	}
	return true
}

// failedNewcomer returns the newcomers that will not become members: those that are lost, or all after too long a time.
func (w *Writer) failedNewcomer(now time.Time) []Member {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := now.Sub(w.proposedAt) > w.o.CatchUp
	var out []Member
	for _, m := range w.proposal {
		if s := w.senders[m]; s != nil && !slices.Contains(w.core.ensemble, m) {
			opened := w.core.find(m).opened
			if late || s.lost || !opened && now.Sub(w.proposedAt) > 5*w.o.SlowAfter {
				out = append(out, m)
			}
		}
	}
	return out
}

// abandon gives the proposal up, before anything was asked of etcd.
func (w *Writer) abandon(now time.Time, failed []Member) {
	for _, m := range failed {
		w.bans[m] = now.Add(banned)
	}
	w.o.Logger.Warn("the write-ahead log does not get the replicas that it should have", "wanted", w.proposal, "failed", failed)
	w.mu.Lock()
	w.core.thaw()
	var stopped []*sender
	for _, m := range w.proposal {
		if s := w.senders[m]; s != nil && !slices.Contains(w.core.ensemble, m) {
			stopped = append(stopped, s)
			delete(w.senders, m)
			w.core.leave(m)
		}
	}
	w.mu.Unlock()
	for _, s := range stopped {
		s.stop()
		<-s.done
	}
	w.proposal, w.frozenAt = nil, time.Time{}
}

// finish changes the ensemble once enough of the next one hold what is acknowledged.
func (w *Writer) finish(ctx context.Context, now time.Time) error {
	w.mu.Lock()
	ready := w.core.ready(w.o.Committed())
	shrinks := len(w.proposal) < w.o.Quorum // then nobody but the object store acknowledges, now and later
	w.mu.Unlock()
	if !ready {
		if now.Sub(w.frozenAt) > freezeLimit && (!shrinks || w.returned()) {
			w.abandon(now, nil)
			w.acknowledge()
		}
		return nil
	}
	if err := w.o.Change(ctx, w.proposal); err != nil {
		return fmt.Errorf("change the ensemble: %w", err) // and stay frozen: it may yet be carried out
	}
	w.mu.Lock()
	gone := w.core.changed()
	stopped := make([]*sender, 0, len(gone))
	for _, m := range gone {
		if s := w.senders[m]; s != nil {
			stopped = append(stopped, s)
			delete(w.senders, m)
		}
	}
	w.mu.Unlock()
	w.o.Logger.Info("the write-ahead log has another ensemble", "members", w.proposal, "frozen", time.Since(w.frozenAt))
	w.proposal, w.frozenAt = nil, time.Time{}
	for _, s := range stopped {
		s.stop()
		<-s.done
	}
	w.acknowledge()
	return nil
}

// returned tells whether a member that the proposal drops could be kept after all.
func (w *Writer) returned() bool {
	w.mu.Lock()
	present := slices.Clone(w.core.ensemble)
	w.mu.Unlock()
	live := w.o.Candidates(present)
	return slices.ContainsFunc(present, func(m Member) bool { return !slices.Contains(w.proposal, m) && slices.Contains(live, m) })
}

// lose notes that a sender's replica counts no more. When no member has one any more, somebody has recovered the stream: it is sealed, and only that
// is a reason to remove replicas.
func (w *Writer) lose(s *sender, removed bool) {
	w.mu.Lock()
	s.lost, s.removed = true, removed
	over := len(w.core.ensemble) > 1
	for _, m := range w.core.ensemble {
		if m != w.o.Self && (w.senders[m] == nil || !w.senders[m].removed) {
			over = false
		}
	}
	w.mu.Unlock()
	if over {
		w.o.Log.Fail(fmt.Errorf("%w: all its replicas were removed", wal.ErrFenced))
	}
}

// acknowledge tells the log what is replicated.
func (w *Writer) acknowledge() {
	w.mu.Lock()
	to := w.core.acknowledged()
	w.mu.Unlock()
	w.o.Log.Replicated(to)
}

// hold notes what a member has.
func (w *Writer) hold(m Member, to wal.Position) {
	w.mu.Lock()
	acked := w.core.hold(m, to)
	busy := w.core.next != nil || len(w.core.places) >= len(w.core.ensemble) // somebody is to become a member, or to go
	w.mu.Unlock()
	w.o.Log.Replicated(acked)
	if busy {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
