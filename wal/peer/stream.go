package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tidemarkmq/tidemark/wal"
)

// ErrTooLong says that a chunk is longer than wal.MaxChunkBytes, or no whole blocks.
var ErrTooLong = errors.New("peer: a chunk of such a length cannot be sent")

// Stream is a writer's access to its stream's replica on another broker, as long as the connection lasts and nobody opens the replica again. Send
// and Append are for one goroutine; the others are safe for concurrent use.
type Stream struct {
	c      *conn
	id     uint64
	window int

	room chan struct{} // signalled by acks and at the end
	done chan struct{}

	mu         sync.Mutex
	onAck      func(wal.Position)
	sentEnd    wal.Position
	held       wal.Position
	sent, kept uint64 // bytes since the open: sent, and acked
	err        error
}

// startStream is called by the reader when an open has come true, before anybody else knows.
func (c *conn) startStream(id uint64, k *call) error {
	t, err := getTail(k.head)
	if err != nil {
		return err
	}
	s := &Stream{c: c, id: id, window: int(c.limits.Window), room: make(chan struct{}, 1), done: make(chan struct{}), sentEnd: t.End, held: t.End}
	c.mu.Lock()
	c.streams[id] = s
	c.mu.Unlock()
	k.open = s
	return nil
}

// OnAck has fn called with each position that Held grows to, on the connection's reader: it must not block. It
// must be set before the first Send; when Append returns the call for its position is over or under way.
func (s *Stream) OnAck(fn func(wal.Position)) {
	s.mu.Lock()
	s.onAck = fn
	s.mu.Unlock()
}

// Held is the position before which the replica has everything durably.
func (s *Stream) Held() wal.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Done is closed when the stream has ended. What was sent and is not held may become durable or not; to open again tells.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Err is why the stream has ended: ErrDisconnected, wal.ErrClosed after Close, or what the replica said of an append (see wal.Appender.Append); nil
// while it has not.
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Send sends whole groups of one segment that follow those sent before, at most wal.MaxChunkBytes, and does not wait until they are durable: Held and
// OnAck tell. It waits while more than the server's window is not held yet. The chunk is the caller's again on return. With more it may stay in a
// buffer until the next one, or for half a heartbeat. After an error other than ErrTooLong or ctx's cause the stream has ended; after those two nothing was sent.
func (s *Stream) Send(ctx context.Context, k wal.Chunk, more bool) error {
	n := len(k.Bytes)
	if n == 0 || n%blockBytes != 0 || n > wal.MaxChunkBytes {
		return fmt.Errorf("%w: %d bytes", ErrTooLong, n)
	}
	for flushed := false; ; {
		s.mu.Lock()
		err, waiting := s.err, s.sent-s.kept
		fits := waiting == 0 || waiting+uint64(n) <= uint64(s.window)
		if err == nil && fits {
			s.sent += uint64(n)
			s.sentEnd = k.End()
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if fits {
			break
		}
		if !flushed {
			s.c.link.flushNow()
			flushed = true
			continue
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return fmt.Errorf("peer: broker %d: %w", s.c.broker, context.Cause(ctx))
		}
	}
	if err := s.c.link.send(kindAppend, s.id, func(b []byte) []byte { return putPlace(b, k) }, k.Bytes, more); err != nil {
		return s.c.lost(err)
	}
	return nil
}

// Append is Send that waits until the groups are held. After ctx's cause they may have been sent.
func (s *Stream) Append(ctx context.Context, k wal.Chunk) (wal.Position, error) {
	if err := s.Send(ctx, k, false); err != nil {
		return 0, err
	}
	for {
		s.mu.Lock()
		held, err := s.held, s.err
		s.mu.Unlock()
		if held >= k.End() || err != nil {
			return held, err
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return 0, fmt.Errorf("peer: broker %d: %w", s.c.broker, context.Cause(ctx))
		}
	}
}

// Close ends the stream. What was sent and is not held may be lost.
func (s *Stream) Close() error {
	s.c.mu.Lock()
	_, open := s.c.streams[s.id]
	delete(s.c.streams, s.id)
	s.c.mu.Unlock()
	if open {
		s.end(wal.ErrClosed)
		_ = s.c.link.send(kindLeave, s.id, nil, nil, false) // without a connection there is nothing to leave
	}
	return nil
}

func (s *Stream) end(cause error) {
	s.mu.Lock()
	s.err = cause
	s.mu.Unlock()
	close(s.done)
	s.signal()
}

func (s *Stream) signal() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// stream finds one by the id of its open; nil: it was left.
func (c *conn) stream(id uint64) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id > c.last {
		return nil, fmt.Errorf("%w: news of stream %d, which was never opened", ErrProtocol, id)
	}
	return c.streams[id], nil
}

// acked believes no server that it holds more than was sent.
func (c *conn) acked(id, held, bytes uint64) error {
	s, err := c.stream(id)
	if s == nil || err != nil {
		return err
	}
	s.mu.Lock()
	if bytes > s.sent || bytes < s.kept || wal.Position(held) > s.sentEnd || wal.Position(held) < s.held {
		s.mu.Unlock()
		return fmt.Errorf("%w: %d held after %d bytes, of %d after %d", ErrProtocol, held, bytes, s.sentEnd, s.sent)
	}
	s.kept, s.held = bytes, wal.Position(held)
	tell := s.onAck
	s.mu.Unlock()
	if tell != nil {
		tell(wal.Position(held))
	}
	s.signal()
	return nil
}

func (c *conn) endedStream(id uint64, head []byte) error {
	e, err := getError(head)
	if err != nil {
		return err
	}
	s, err := c.stream(id)
	if s == nil || err != nil {
		return err
	}
	c.mu.Lock()
	_, open := c.streams[id] // unless Close was faster
	delete(c.streams, id)
	c.mu.Unlock()
	if open {
		s.end(fmt.Errorf("broker %d: %w", c.broker, e))
	}
	return nil
}
