package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
)

// ErrNotEnough says that too few members of an ensemble can tell what they hold, now or ever: what was acknowledged may be on the others.
var ErrNotEnough = errors.New("too few replicas of the write-ahead log answer")

// ErrUnreadable says that nobody of those that were counted could show what must be there: recovery counts again, without them.
var ErrUnreadable = errors.New("no replica shows a part of the stream that one had")

// RecoverOptions say which stream is over.
type RecoverOptions struct {
	Stream    uint64
	Epoch     uint64   // of the recoverer: the revision of its swap, above the writer's and those of earlier recoverers
	Members   []Member // read after that swap
	Quorum    int
	Committed wal.Position // everything before is in the object store
	Dial      Dial
	// Patience is how long to wait for enough members. Default 5 s.
	Patience time.Duration
	Logger   *slog.Logger // nil: discard
}

// Recovered is a stream that nobody writes any more, as its replicas have it.
type Recovered struct {
	o       RecoverOptions
	end     wal.Position
	mu      sync.Mutex
	replies []reply // longest first
}

type reply struct {
	member Member
	peer   Peer
	tail   wal.Tail
}

// Recover fences the members and finds the end of the stream: nothing acknowledged, before or after, lies beyond it, and [Committed, End) can be read.
// An ensemble smaller than its quorum acknowledged only what is committed, and ends there.
//
// Errors: ErrNotEnough; wal.ErrFenced, when another recoverer with a higher epoch is at work; the cause of ctx.
func Recover(ctx context.Context, o RecoverOptions) (*Recovered, error) {
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Recovered{o: o, end: o.Committed}
	if len(o.Members) < o.Quorum {
		return r, nil
	}
	limit, cancel := context.WithTimeout(ctx, o.Patience)
	defer cancel()
	if err := r.fence(limit); err != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	return r, nil
}

// fence asks all members until enough have answered.
func (r *Recovered) fence(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	type answer struct {
		reply
		err error
	}
	answers := make(chan answer, len(r.o.Members))
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	for _, m := range r.o.Members {
		asking.Go(func() {
			a := answer{reply: reply{member: m, peer: r.o.Dial(m)}}
			a.tail, a.err = fenceOne(ctx, a.peer, r.o.Stream, r.o.Epoch)
			answers <- a
		})
	}
	need := len(r.o.Members) - r.o.Quorum + 1
	var errs error
	for range r.o.Members {
		a := <-answers
		if errors.Is(a.err, wal.ErrFenced) {
			return a.err
		}
		if a.err != nil {
			errs = errors.Join(errs, fmt.Errorf("broker %d: %w", a.member.Broker, a.err))
			continue
		}
		r.replies = append(r.replies, a.reply)
		r.end = max(r.end, a.tail.End)
		if len(r.replies) == need {
			slices.SortFunc(r.replies, func(a, b reply) int { return int(b.tail.End) - int(a.tail.End) })
			return nil
		}
	}
	return fmt.Errorf("%w: %d of %d, %d are needed: %w", ErrNotEnough, len(r.replies), len(r.o.Members), need, errs)
}

// fenceOne asks until there is an answer.
func fenceOne(ctx context.Context, p Peer, stream, epoch uint64) (wal.Tail, error) {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		tail, err := p.Fence(ctx, stream, epoch)
		if err == nil || errors.Is(err, wal.ErrFenced) || errors.Is(err, wal.ErrLimbo) || errors.Is(err, wal.ErrNoReplica) {
			return tail, err
		}
		select {
		case <-ctx.Done():
			return tail, err
		case <-time.After(pause):
		}
	}
}

// End is the position before which everything that was ever acknowledged lies.
func (r *Recovered) End() wal.Position { return r.end }

// Scan calls fn for the entries whose data begins in [from, to), in order; from must not be before what was committed. An error of fn ends the scan and
// is returned as it is. Memory is valid only while fn runs. A replica that fails is left for another one; with none left the error says so, and to
// recover again finds an end that can be read. Safe for concurrent use.
func (r *Recovered) Scan(ctx context.Context, from, to wal.Position, fn func(wal.Entry) error) error {
	var buf []byte
	var chain *wal.Chain
	var last Peer
	for pos := from; pos < to; {
		k, peer, header, err := r.read(ctx, pos, buf)
		if err != nil {
			return err
		}
		if chain == nil || peer != last {
			chain, last = wal.NewChain(header), peer
		}
		if err := chain.Take(k); err != nil {
			r.drop(peer, err)
			chain = nil
			continue
		}
		if err := k.EachEntry(from, to, fn); err != nil {
			return err
		}
		pos, buf = k.End(), k.Bytes
	}
	return nil
}

// read returns groups from the first one that ends after pos, of the first replica that shows them.
func (r *Recovered) read(ctx context.Context, pos wal.Position, buf []byte) (wal.Chunk, Peer, wal.StreamHeader, error) {
	var errs error
	for {
		r.mu.Lock()
		var from *reply
		for _, a := range r.replies {
			if a.tail.Start <= pos && pos < a.tail.End {
				from = &a
				break
			}
		}
		r.mu.Unlock()
		if from == nil {
			return wal.Chunk{}, nil, wal.StreamHeader{}, errors.Join(fmt.Errorf("%w: position %d of %d", ErrUnreadable, pos, r.end), errs)
		}
		k, err := from.peer.Read(ctx, r.o.Stream, pos, wal.MaxChunkBytes/2, buf)
		if err == nil && (len(k.Bytes) == 0 || k.End() <= pos || k.Position > pos && k.Position != k.Segment.First) {
			err = fmt.Errorf("groups of [%d, %d) instead of those at %d", k.Position, k.End(), pos)
		}
		if err == nil {
			return k, from.peer, from.tail.Header, nil
		}
		if ctx.Err() != nil {
			return wal.Chunk{}, nil, wal.StreamHeader{}, context.Cause(ctx)
		}
		errs = errors.Join(errs, fmt.Errorf("broker %d: %w", from.member.Broker, err))
		r.drop(from.peer, err)
	}
}

// drop leaves a replica out of the reading.
func (r *Recovered) drop(p Peer, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replies = slices.DeleteFunc(r.replies, func(a reply) bool { return a.peer == p })
	r.o.Logger.Warn("a replica of a recovered write-ahead log is not read any further", "error", why)
}

// Remove drops the stream's replicas, after it was sealed and all of it is in objects. It asks every member once; what stays is dropped by its own broker.
func (r *Recovered) Remove(ctx context.Context) error {
	var errs error
	for _, m := range r.o.Members {
		if err := r.o.Dial(m).Remove(ctx, r.o.Stream, r.o.Epoch); err != nil {
			errs = errors.Join(errs, fmt.Errorf("broker %d: %w", m.Broker, err))
		}
	}
	return errs
}
