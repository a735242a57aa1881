package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tidemarkmq/tidemark/wal"
)

var errStreams = errors.New("peer: too many open streams on the connection")

// served is the server's side of a connection.
type served struct {
	s       *Server
	link    *link
	from    Identity
	working sync.WaitGroup

	last uint64 // id of the latest request; the reader's

	mu      sync.Mutex
	calls   map[uint64]context.CancelFunc
	streams map[uint64]*session // by the id of their open
}

// session is a stream that the client may append to.
type session struct {
	id  uint64
	app *wal.Appender
	in  *intake
}

func newServed(s *Server, l *link, from Identity) *served {
	return &served{s: s, link: l, from: from, calls: map[uint64]context.CancelFunc{}, streams: map[uint64]*session{}}
}

// run serves until the connection ends, and says why.
func (c *served) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.working.Go(func() { c.link.beat(ctx) })
	for {
		if err := c.frame(ctx); err != nil {
			c.link.fail(err)
			break
		}
	}
	cancel()
	c.mu.Lock()
	for _, x := range c.streams {
		x.in.finish()
	}
	c.mu.Unlock()
	c.working.Wait()
	return c.link.failure()
}

func (c *served) frame(ctx context.Context) error {
	h, head, err := c.link.next()
	switch {
	case err != nil:
		return err
	case h.Kind.fromServer():
		return fmt.Errorf("%w: a %s from a client", ErrProtocol, layouts[h.Kind].name)
	case h.Kind == kindHeartbeat:
		return nil
	case h.Kind == kindAppend:
		return c.append(h, head)
	case h.Kind == kindLeave || h.Kind == kindCancel:
		c.end(h.ID)
		return nil
	}
	return c.request(ctx, h, head)
}

// end cancels the request, or closes the stream that it opened.
func (c *served) end(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.calls[id]; cancel != nil {
		cancel()
	}
	if x := c.streams[id]; x != nil {
		delete(c.streams, id)
		x.in.finish()
	}
}

// append takes groups in. Those of a stream that has ended meanwhile are dropped.
func (c *served) append(h frameHeader, head []byte) error {
	c.mu.Lock()
	x := c.streams[h.ID]
	c.mu.Unlock()
	if x == nil {
		if h.ID > c.last {
			return fmt.Errorf("%w: an append to stream %d, which was never opened", ErrProtocol, h.ID)
		}
		return c.link.skip(h.Bulk)
	}
	k := wal.Chunk{}
	k.Segment, k.Position = getPlace(head)
	var err error
	if k.Bytes, err = x.in.reserve(h.Bulk); err != nil {
		return err
	}
	if err := c.link.bulk(h, k.Bytes); err != nil {
		return err
	}
	x.in.commit(k)
	return nil
}

// request has the request answered by a goroutine of its own.
func (c *served) request(ctx context.Context, h frameHeader, head []byte) error {
	if h.ID <= c.last {
		return fmt.Errorf("%w: request %d after %d", ErrProtocol, h.ID, c.last)
	}
	c.last = h.ID
	head = append([]byte(nil), head...)
	payload := make([]byte, h.Bulk)
	if err := c.link.bulk(h, payload); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	tooMany, full := len(c.calls) >= c.s.o.MaxCalls, len(c.streams) >= c.s.o.MaxStreams
	if !tooMany {
		c.calls[h.ID] = cancel
	}
	c.mu.Unlock()
	if tooMany {
		cancel()
		return fmt.Errorf("%w: a request above the limits", ErrProtocol)
	}
	c.working.Go(func() {
		defer cancel()
		a := failed(errStreams)
		if h.Kind != kindOpen || !full {
			a = c.s.answer(ctx, c.from, h.Kind, head, payload)
		}
		c.reply(ctx, h.ID, a)
	})
	return nil
}

// reply sends the answer and frees the request's place, in the order that lets the client use it at once.
func (c *served) reply(ctx context.Context, id uint64, a answer) {
	if a.done != nil {
		defer a.done()
	}
	c.mu.Lock()
	delete(c.calls, id)
	var x *session
	switch {
	case a.app == nil:
	case ctx.Err() != nil:
		a = failed(context.Cause(ctx))
	case len(c.streams) >= c.s.o.MaxStreams:
		a = failed(errStreams)
	default:
		x = &session{id: id, app: a.app, in: newIntake(c.s.o.WindowBytes)}
		c.streams[id] = x
	}
	c.mu.Unlock()
	if x != nil {
		c.working.Go(func() { c.replicate(x) })
	}
	_ = c.link.send(a.kind, id, a.fill, a.bulk, false) // it has failed the link
}

// replicate makes durable what the stream brings, all that is there with one write, until the stream ends.
func (c *served) replicate(x *session) {
	total := uint64(0)
	for {
		k, ok := x.in.take()
		if !ok {
			return
		}
		// A write that has begun is not given up: its outcome would be unknown.
		held, err := x.app.Append(context.Background(), k)
		x.in.release(len(k.Bytes))
		if err != nil {
			c.end(x.id)
			_ = c.link.send(kindEnded, x.id, func(b []byte) []byte { return putError(b, remote(err)) }, nil, false) // it has failed the link
			return
		}
		total += uint64(len(k.Bytes))
		if c.link.send(kindAcked, x.id, func(b []byte) []byte { return putTwo(b, uint64(held), total) }, nil, false) != nil {
			return
		}
	}
}
