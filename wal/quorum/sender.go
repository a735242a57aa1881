package quorum

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
)

const (
	sendBytes  = 1 << 20 // a chunk is sent when it has so much, or there is nothing more
	retryFirst = 20 * time.Millisecond
	retryMost  = time.Second
	trimEvery  = time.Second // of a log that is quiet
)

// errQuiet ends a session in which nothing was sent for a while. The next one opens the replica again, and so learns of a fence, which a log that
// writes nothing would never hear of.
var errQuiet = errors.New("quiet")

// sender copies a log's groups to one member.
type sender struct {
	w      *Writer
	member Member
	peer   Peer
	stop   context.CancelFunc
	done   chan struct{}

	created bool         // its replica was made by this sender: from now on a missing one is a lost one
	trimmed wal.Position // what the member was told
	buf     []byte

	// Under Writer.mu.
	lost    bool         // its replica counts no more
	removed bool         // because it is not there any more
	slow    bool         // it has lacked something for too long
	mark    wal.Position // what was written at
	markAt  time.Time
	refused string // why it does not take anything at present
}

// judge is called with Writer.mu.
func (s *sender) judge(held, written wal.Position, now time.Time, limit time.Duration) {
	if s.markAt.IsZero() || held >= s.mark {
		s.mark, s.markAt, s.slow = written, now, false
		return
	}
	s.slow = now.Sub(s.markAt) > limit
}

// run sends until ctx is done, the log has failed or the member is lost.
func (s *sender) run(ctx context.Context) {
	defer close(s.done)
	defer s.stop()
	pause := retryFirst
	for {
		began := time.Now()
		err := s.session(ctx)
		if ctx.Err() != nil || errors.Is(err, wal.ErrFailed) {
			return
		}
		if errors.Is(err, errQuiet) {
			continue
		}
		if errors.Is(err, wal.ErrFenced) {
			s.w.o.Log.Fail(err)
			return
		}
		if errors.Is(err, wal.ErrLimbo) || errors.Is(err, wal.ErrNoReplica) || errors.Is(err, wal.ErrForeign) || errors.Is(err, wal.ErrMalformed) {
			s.w.o.Logger.Error("a replica of the write-ahead log counts no more", "broker", s.member.Broker, "error", err)
			s.w.lose(s, errors.Is(err, wal.ErrNoReplica))
			return
		}
		if !errors.Is(err, wal.ErrTrimmed) {
			s.report(err)
		}
		if time.Since(began) > retryMost {
			pause = retryFirst
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMost)
	}
}

// report says once why a member takes nothing.
func (s *sender) report(err error) {
	s.w.mu.Lock()
	again := s.refused == err.Error()
	s.refused = err.Error()
	s.w.mu.Unlock()
	if !again {
		s.w.o.Logger.Warn("a replica of the write-ahead log is not reached; trying again", "broker", s.member.Broker, "error", err)
	}
}

// session sends from where the replica ends.
func (s *sender) session(ctx context.Context) (err error) {
	log, stream := s.w.o.Log, s.w.o.Stream
	if !s.created {
		// What an earlier membership has left is in the way, and nobody counts on it.
		if err := s.peer.Remove(ctx, stream, log.Epoch()); err != nil {
			return err
		}
	}
	app, tail, err := s.peer.Open(ctx, stream, log.Header(), log.Oldest(), !s.created)
	if err != nil {
		return err
	}
	if c, ok := app.(io.Closer); ok {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	s.created = true
	s.w.mu.Lock()
	s.refused = ""
	s.w.mu.Unlock()
	s.trimmed = tail.Start
	s.w.hold(s.member, tail.End)
	f := log.Follow(tail.End)
	err = s.send(ctx, app, f)
	return errors.Join(err, f.Close())
}

func (s *sender) send(ctx context.Context, app Appender, f *wal.Follower) error {
	var g wal.Group
	var err error
	for have := false; ; {
		if !have {
			if g, err = s.next(ctx, f); err != nil {
				return err
			}
		}
		k := wal.Chunk{Segment: g.Segment, Position: g.Position}
		k.Bytes = append(s.buf[:0], g.Bytes...)
		for have = false; len(k.Bytes) < sendBytes && f.More(); {
			if g, err = f.Next(ctx); err != nil {
				return err
			}
			if have = g.Segment != k.Segment || len(k.Bytes)+len(g.Bytes) > wal.MaxChunkBytes; have {
				break
			}
			k.Bytes = append(k.Bytes, g.Bytes...)
		}
		s.buf = k.Bytes
		held, err := app.Append(ctx, k)
		if err != nil {
			return err
		}
		s.w.hold(s.member, held)
		if err := s.trim(ctx); err != nil {
			return err
		}
	}
}

// next waits for a group; errQuiet: none came for a while, and the replica is trimmed.
func (s *sender) next(ctx context.Context, f *wal.Follower) (wal.Group, error) {
	if f.More() {
		return f.Next(ctx)
	}
	waiting, cancel := context.WithTimeout(ctx, trimEvery)
	defer cancel()
	g, err := f.Next(waiting)
	if err == nil || ctx.Err() != nil || waiting.Err() == nil {
		return g, err
	}
	if err := s.trim(ctx); err != nil {
		return g, err
	}
	return g, errQuiet
}

// trim tells the member what the log has let go of.
func (s *sender) trim(ctx context.Context) error {
	to := s.w.o.Log.Oldest().First
	if to <= s.trimmed {
		return nil
	}
	if err := s.peer.Trim(ctx, s.w.o.Stream, to); err != nil {
		return err
	}
	s.trimmed = to
	return nil
}
