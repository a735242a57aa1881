package peer

import (
	"context"
	"fmt"
	"sync"
)

// conn is the client's side of a connection.
type conn struct {
	broker  int32
	link    *link
	limits  limits
	places  chan struct{} // a token for each request under way
	working sync.WaitGroup

	last uint64 // id of the latest request; its whose turn to write it is

	mu      sync.Mutex
	over    error // no requests any more
	calls   map[uint64]*call
	streams map[uint64]*Stream
}

// call is a request under way.
type call struct {
	ask, want kind
	dst       []byte // memory for the bulk
	abandoned bool   // nobody waits

	done chan struct{} // closed when what follows is set
	head []byte
	bulk []byte
	open *Stream // of an open
	err  error
}

func newConn(broker int32, l *link, limits limits) *conn {
	return &conn{
		broker: broker, link: l, limits: limits, places: make(chan struct{}, limits.Calls),
		calls: map[uint64]*call{}, streams: map[uint64]*Stream{},
	}
}

func (c *conn) lost(cause error) error {
	return fmt.Errorf("%w: broker %d: %w", ErrDisconnected, c.broker, cause)
}

// run reads until the connection ends, and says why.
func (c *conn) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.link.fail(context.Cause(ctx)) })
	defer stop()
	c.working.Go(func() { c.link.beat(ctx) })
	for {
		if err := c.frame(); err != nil {
			c.link.fail(err)
			break
		}
	}
	err := c.lost(c.link.failure())
	c.mu.Lock()
	c.over = err
	for _, k := range c.calls {
		k.err = err
		close(k.done)
	}
	streams := c.streams
	c.calls, c.streams = nil, nil
	c.mu.Unlock()
	for _, s := range streams {
		s.end(err)
	}
	c.working.Wait()
	return err
}

func (c *conn) frame() error {
	h, head, err := c.link.next()
	switch {
	case err != nil:
		return err
	case h.Kind == kindHeartbeat:
		return nil
	case !h.Kind.fromServer():
		return fmt.Errorf("%w: a %s from a server", ErrProtocol, layouts[h.Kind].name)
	case h.Kind == kindAcked:
		held, bytes := getTwo(head)
		return c.acked(h.ID, held, bytes)
	case h.Kind == kindEnded:
		return c.endedStream(h.ID, head)
	}
	return c.reply(h, head)
}

// reply hands an answer to whoever waits for it.
func (c *conn) reply(h frameHeader, head []byte) error {
	c.mu.Lock()
	k := c.calls[h.ID]
	delete(c.calls, h.ID)
	c.mu.Unlock()
	if k == nil || h.Kind != k.want && h.Kind != kindFailed {
		return fmt.Errorf("%w: a %s to request %d", ErrProtocol, layouts[h.Kind].name, h.ID)
	}
	if k.abandoned {
		c.free()
		return c.link.skip(h.Bulk)
	}
	defer close(k.done)
	defer c.free()
	if h.Kind == kindFailed {
		e, err := getError(head)
		k.err = fmt.Errorf("broker %d: %w", c.broker, e)
		if err != nil {
			k.err = err
		}
		return err
	}
	k.head = append([]byte(nil), head...)
	k.bulk = k.dst[:0]
	if cap(k.bulk) < h.Bulk {
		k.bulk = make([]byte, h.Bulk)
	}
	k.bulk = k.bulk[:h.Bulk]
	if k.err = c.link.bulk(h, k.bulk); k.err != nil {
		k.err = c.lost(k.err)
		return k.err
	}
	if k.ask == kindOpen {
		if k.err = c.startStream(h.ID, k); k.err != nil {
			return k.err
		}
	}
	return nil
}

// free gives back a request's place.
func (c *conn) free() { <-c.places }

// do sends a request and waits for the answer.
func (c *conn) do(ctx context.Context, ask kind, fill func([]byte) []byte, bulk []byte, want kind, dst []byte) (*call, error) {
	select {
	case c.places <- struct{}{}:
	case <-c.link.done:
		return nil, c.lost(c.link.failure())
	case <-ctx.Done():
		return nil, fmt.Errorf("peer: broker %d: %w", c.broker, context.Cause(ctx))
	}
	k := &call{ask: ask, want: want, dst: dst, done: make(chan struct{})}
	id, err := c.ask(ctx, k, fill, bulk)
	if err != nil {
		return nil, err
	}
	select {
	case <-k.done:
		return k, k.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	_, waiting := c.calls[id]
	k.abandoned = waiting
	if waiting {
		c.working.Go(func() { _ = c.link.send(kindCancel, id, nil, nil, false) }) // it has failed the link
	}
	c.mu.Unlock()
	if !waiting { // it is being answered this moment, in memory of the caller
		<-k.done
		return k, k.err
	}
	return nil, fmt.Errorf("peer: broker %d: %w", c.broker, context.Cause(ctx))
}

// ask sends the request; ids grow in the order of sending.
func (c *conn) ask(ctx context.Context, k *call, fill func([]byte) []byte, bulk []byte) (uint64, error) {
	select {
	case <-c.link.turn:
	case <-c.link.done:
		c.free()
		return 0, c.lost(c.link.failure())
	case <-ctx.Done():
		c.free()
		return 0, fmt.Errorf("peer: broker %d: %w", c.broker, context.Cause(ctx))
	}
	defer func() { c.link.turn <- struct{}{} }()
	c.mu.Lock()
	if c.over != nil {
		c.mu.Unlock()
		c.free()
		return 0, c.over
	}
	c.last++
	id := c.last
	c.calls[id] = k
	c.mu.Unlock()
	_ = c.link.write(k.ask, id, fill, bulk, false) // if it fails, the reader ends the call
	return id, nil
}
