package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

// Conn is one client connection. The zero value serves handlers' tests.
type Conn struct {
	// Local belongs to the handler: per-connection state such as a fetch waiter. Only the reader goroutine (handler calls) may touch it.
	Local any

	id           uint64
	nc           net.Conn
	ip           netip.Addr
	srv          *Server
	listenerName string
	software     atomic.Pointer[Software]

	// Each is the parent of the next. A client that leaves ends only its long polls: what it sent before, perhaps with acks=0, is still
	// read and produced, as Kafka does.
	ctx      context.Context // ends with the connection
	readCtx  context.Context // ends also when the server begins to shut down
	waitCtx  context.Context // ends also when the client is seen to leave: for handlers that may block
	end      context.CancelCauseFunc
	endReads context.CancelCauseFunc
	endWaits context.CancelCauseFunc

	// Of the reader goroutine.
	br       *bufio.Reader
	dec      wire.ProduceDecoder
	fetch    kmsg.FetchRequest // the last one: the next is decoded into its memory
	clientID string

	// For the janitor, in nanoseconds of Server.now; 0 = none.
	deadline   atomic.Int64 // when the reader must have got further
	inFrame    atomic.Bool  // what it waits for: the rest of a frame, or the next one
	busySince  atomic.Int64 // the reader is in a handler or waits for memory
	arriving   arrivals     // what came from the client
	seenBytes  int64        // of arriving, when the janitor last looked; its own
	seenAt     int64        // when that changed
	writeSince atomic.Int64 // a write is going on; interrupted = it has been told to go on in pieces

	wake chan struct{} // to the writer goroutine, if it was started
	room chan struct{} // to the reader: the queue got shorter
	dead chan struct{} // closed at the end

	mu          sync.Mutex
	queue       []*reply // queue[head:] in the order of the requests
	head        int
	queuedBytes int    // of queue and of what is being written
	current     *reply // the Produce call that the reader goroutine is making: it looks after its answer itself
	writing     bool   // somebody writes, and owns the scratch below
	writer      bool   // the writer goroutine was started
	closed      bool
	draining    bool // no more reading
	cause       error

	rest []byte // answers that the flusher could not write: the writer goroutine goes on with them, and writing stays set until then

	batch   []*reply
	vec     [][]byte
	buffer  net.Buffers
	answers []byte // to Produce, one after the other
	sock    socket

	flusher   *flusher // nil: the writer goroutine writes what the reader goroutine does not
	onFlusher atomic.Bool
	nextFlush *Conn // of the flusher's stack
}

// Software is what a client says of itself in ApiVersions v3+ (KIP-511). Empty until then.
type Software struct{ Name, Version string }

// ID is unique within the process.
func (c *Conn) ID() uint64 { return c.id }

// ListenerName is the name of the listener that accepted the connection.
func (c *Conn) ListenerName() string { return c.listenerName }

// RemoteAddr is the client's address; nil for the zero Conn.
func (c *Conn) RemoteAddr() net.Addr {
	if c.nc == nil {
		return nil
	}
	return c.nc.RemoteAddr()
}

// LocalAddr is the address that the client connected to; nil for the zero Conn.
func (c *Conn) LocalAddr() net.Addr {
	if c.nc == nil {
		return nil
	}
	return c.nc.LocalAddr()
}

// Software returns the client's name and version; safe for concurrent use.
func (c *Conn) Software() Software {
	if s := c.software.Load(); s != nil {
		return *s
	}
	return Software{}
}

// closeError is why the server closes a connection.
type closeError struct {
	kind string
	err  error
}

func (e *closeError) Error() string {
	if e.err == nil {
		return e.kind
	}
	return e.kind + ": " + e.err.Error()
}

func (e *closeError) Unwrap() error { return e.err }

var errPeerLeft = errors.New("client closed the connection")

// interrupted in Conn.writeSince.
const interrupted = -1

func newConn(s *Server, nc net.Conn, listenerName string) *Conn {
	c := &Conn{
		id: s.ids.Add(1), nc: nc, arriving: arrivals{nc: nc}, srv: s, listenerName: listenerName,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), dead: make(chan struct{}),
	}
	c.ctx, c.end = context.WithCancelCause(s.base)
	c.readCtx, c.endReads = context.WithCancelCause(c.ctx)
	c.waitCtx, c.endWaits = context.WithCancelCause(c.readCtx)
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		c.ip = a.AddrPort().Addr().Unmap()
	}
	if c.sock.init(nc) {
		c.flusher = &s.flushers[c.id%uint64(len(s.flushers))]
	}
	return c
}

// serve is the reader goroutine.
func (c *Conn) serve() {
	c.tune()
	c.br = bufio.NewReaderSize(&c.arriving, c.srv.opts.ReadBufferBytes)
	err := c.readLoop()
	if errors.Is(err, ErrShutdown) {
		err = errors.Join(err, c.awaitAnswers())
	}
	c.kill(err)
	c.cleanUp()
}

func (c *Conn) tune() {
	tc, ok := c.nc.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tc.SetNoDelay(true)
	if n := c.srv.opts.SendBufferBytes; n > 0 {
		_ = tc.SetWriteBuffer(n)
	}
	if n := c.srv.opts.ReceiveBufferBytes; n > 0 {
		_ = tc.SetReadBuffer(n)
	}
}

func (c *Conn) readLoop() (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.srv.opts.Logger.Error("handler panicked, closing the connection", "client", c.nc.RemoteAddr(), "panic", p, "stack", string(debug.Stack()))
			err = &closeError{kindPanic, fmt.Errorf("panic: %v", p)}
		}
	}()
	for {
		if err := c.waitRoom(); err != nil {
			return err
		}
		if err := c.next(); err != nil {
			return err
		}
		if c.readCtx.Err() != nil {
			return context.Cause(c.readCtx)
		}
	}
}

// next reads one request and has it handled.
func (c *Conn) next() error {
	s := c.srv
	c.inFrame.Store(false)
	c.deadline.Store(int64(s.now() + s.opts.IdleTimeout))
	if _, err := c.br.Peek(1); err != nil {
		return c.readError(err)
	}
	start := s.now()
	c.inFrame.Store(true)
	c.deadline.Store(int64(start + s.opts.FrameTimeout))
	head, err := c.br.Peek(4 + wire.PrefixBytes)
	if err != nil {
		return c.readError(err)
	}
	size := int(int32(be.Uint32(head)))
	h := wire.ParsePrefix(head[4:])
	if size < wire.PrefixBytes {
		return &closeError{kindMalformed, fmt.Errorf("frame of %d bytes", size)}
	}
	if err := c.acceptable(h, size); err != nil {
		return err
	}
	c.deadline.Store(int64(start + s.opts.FrameTimeout + time.Duration(size>>20)*extraPerMiB))
	_, _ = c.br.Discard(4)
	s.metrics.bytesIn.Add(int64(size) + 4)
	if h.Key == wire.KeyProduce {
		return c.produce(size, start)
	}
	return c.control(h, size, start)
}

// acceptable refuses what is not served at all, and sizes beyond the bounds, before anything is read or allocated.
func (c *Conn) acceptable(h wire.Header, size int) error {
	o := &c.srv.opts
	if a, ok := wire.LookupAPI(h.Key); !ok || !a.Served {
		return &closeError{kindUnknownAPI, fmt.Errorf("API key %d %s", h.Key, a.Name)}
	}
	if h.Key != wire.KeyApiVersions && !wire.Accepts(h.Key, h.Version) {
		return &closeError{kindVersion, fmt.Errorf("API key %d version %d", h.Key, h.Version)}
	}
	limit := o.MaxControlBytes
	if h.Key == wire.KeyProduce {
		limit = o.MaxRequestBytes
	}
	if size > min(limit, o.MaxRequestBytes) {
		return &closeError{kindTooLarge, fmt.Errorf("frame of %d bytes, API key %d", size, h.Key)}
	}
	return nil
}

// readError gives a failed read its meaning.
func (c *Conn) readError(err error) error {
	if c.readCtx.Err() != nil {
		return context.Cause(c.readCtx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return errPeerLeft
	}
	if errors.Is(err, wire.ErrMalformed) {
		return &closeError{kindMalformed, err}
	}
	return err
}

// busy tells the janitor that the reader goroutine is not reading but waiting for something of ours.
func (c *Conn) busy() {
	c.deadline.Store(0)
	c.busySince.Store(int64(c.srv.now()))
}

func (c *Conn) idle() { c.busySince.Store(0) }

// take gets n bytes from a budget, waiting in line if need be, and returns how much is to be released.
func (c *Conn) take(b *budget, n int) (int64, error) {
	taken := b.cap(n)
	if b.try(taken) {
		return taken, nil
	}
	deadline := c.deadline.Load()
	began := c.srv.now()
	c.busy()
	defer func() {
		c.idle()
		if deadline != 0 {
			c.deadline.Store(deadline + int64(c.srv.now()-began))
		}
	}()
	if err := b.wait(c.readCtx, taken); err != nil {
		return 0, err
	}
	return taken, nil
}

// waitRoom waits until the connection owes few enough answers to read on.
func (c *Conn) waitRoom() error {
	for first := true; ; first = false {
		c.mu.Lock()
		full := len(c.queue)-c.head >= c.srv.opts.MaxInFlight || c.queuedBytes > maxQueuedBytes
		draining := c.draining
		c.mu.Unlock()
		if draining {
			return ErrShutdown
		}
		if !full {
			if !first {
				c.idle()
			}
			return nil
		}
		if first {
			c.busy()
		}
		select {
		case <-c.room:
		case <-c.readCtx.Done():
			return context.Cause(c.readCtx)
		}
	}
}

// drain begins the connection's part of a shutdown: no more requests, and no more waiting.
func (c *Conn) drain() {
	c.mu.Lock()
	c.draining = true
	c.mu.Unlock()
	c.endReads(ErrShutdown)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// awaitAnswers waits until everything that was read is answered.
func (c *Conn) awaitAnswers() error {
	for {
		c.mu.Lock()
		owed := len(c.queue) > c.head || c.writing
		c.mu.Unlock()
		if !owed {
			return nil
		}
		select {
		case <-c.room:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
}

// kill closes the connection; the first cause counts. The reader goroutine then ends and cleans up.
func (c *Conn) kill(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	c.end(cause)
	_ = c.nc.Close()
}

// cleanUp runs once, on the reader goroutine, after kill.
func (c *Conn) cleanUp() {
	s := c.srv
	s.forget(c)
	c.mu.Lock()
	c.closed = true
	left := c.queue[c.head:]
	c.queue, c.head = nil, 0
	var ready []*reply
	for _, r := range left {
		if r.ready {
			ready = append(ready, r)
		} else {
			r.abandon() // the handler still has it; Done finds the connection closed
		}
	}
	cause := c.cause
	c.mu.Unlock()
	for _, r := range ready {
		r.discard()
	}
	close(c.dead)
	c.report(cause)
}

// report counts and logs why the connection ended: clients that leave are nobody's business.
func (c *Conn) report(cause error) {
	var ce *closeError
	if !errors.As(cause, &ce) {
		c.srv.opts.Logger.Debug("connection closed", "client", c.nc.RemoteAddr(), "cause", cause)
		return
	}
	c.srv.metrics.errors[ce.kind].Add(1)
	c.srv.opts.Logger.Debug("closed a connection", "client", c.nc.RemoteAddr(), "client_id", c.clientID, "kind", ce.kind, "cause", cause)
	if ce.kind != kindIdle && ce.kind != kindPanic {
		c.srv.warner.warn("closed a connection", "client", c.nc.RemoteAddr(), "client_id", c.clientID, "kind", ce.kind, "cause", cause)
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
