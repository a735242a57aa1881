package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

// ErrShutdown is the cause of the contexts that end because the server stops.
var ErrShutdown = errors.New("server is shutting down")

// Server accepts connections and serves them. All methods are safe for concurrent use.
type Server struct {
	opts    Options
	metrics *metrics
	warner  warner
	start   time.Time
	ids     atomic.Uint64
	frames  wire.FramePool
	replies sync.Pool

	flushers []flusher

	produceBudget, largeBudget, controlBudget, decodedBudget *budget

	base    context.Context // parent of all connections; ends when Shutdown gives up waiting or is finished
	endBase context.CancelCauseFunc
	wg      sync.WaitGroup // connections' goroutines

	mu        sync.Mutex
	conns     map[*Conn]struct{}
	perIP     map[netip.Addr]int
	listeners map[net.Listener]struct{}
	stopping  bool
	janitor   chan struct{}  // closed to stop it and the flushers; nil before the first Serve
	cleaned   sync.WaitGroup // these
}

// New checks the options. It starts nothing.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts:          o,
		warner:        warner{log: o.Logger},
		start:         time.Now().Add(-time.Second), // so that now is never 0, which means none in Conn
		produceBudget: newBudget(o.MemoryBytes - o.MemoryBytes/2),
		largeBudget:   newBudget(o.MemoryBytes / 2),
		controlBudget: newBudget(o.ControlBytes),
		decodedBudget: newBudget(o.DecodedBytes),
		flushers:      newFlushers(),
		conns:         map[*Conn]struct{}{},
		perIP:         map[netip.Addr]int{},
		listeners:     map[net.Listener]struct{}{},
	}
	s.frames.KeepBytes = o.MemoryBytes / 4
	s.base, s.endBase = context.WithCancelCause(context.Background())
	if s.metrics, err = newMetrics(s); err != nil {
		return nil, fmt.Errorf("server: metrics: %w", err)
	}
	return s, nil
}

// now is the time since New: what deadlines and durations are counted in.
func (s *Server) now() time.Duration { return time.Since(s.start) }

func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Listener is a listener with what the server has to know of it.
type Listener struct {
	net.Listener
	Name string // Kafka's listener name; "" = PLAINTEXT
}

// Serve accepts connections until ctx is done or Shutdown is called; then it closes ln and returns nil. Connections live on until
// Shutdown, which must be called in the end. Several listeners may be served at once; ln may also be a Listener, or any in-process one.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	name := "PLAINTEXT"
	if l, ok := ln.(Listener); ok && l.Name != "" {
		name = l.Name
	}
	if !s.addListener(ln) {
		_ = ln.Close()
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer s.removeListener(ln)
	pause := time.Duration(0)
	for {
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			s.admit(nc, name)
			continue
		}
		if ctx.Err() != nil || s.isStopping() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("server: listener %s: %w", name, err)
		}
		// Out of file descriptors, or a client that is gone already: neither is a reason to stop.
		s.metrics.errors[kindAccept].Add(1)
		s.warner.warn("cannot accept a connection", "listener", name, "error", err)
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.listeners[ln] = struct{}{}
	if s.janitor == nil {
		s.janitor = make(chan struct{})
		s.cleaned.Go(func() { s.clean(s.janitor) })
		for i := range s.flushers {
			s.cleaned.Go(func() { s.flushers[i].run(s.janitor) })
		}
	}
	return true
}

func (s *Server) removeListener(ln net.Listener) {
	_ = ln.Close()
	s.mu.Lock()
	delete(s.listeners, ln)
	s.mu.Unlock()
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// admit starts serving a new connection, or closes it when there are too many.
func (s *Server) admit(nc net.Conn, listenerName string) {
	c := newConn(s, nc, listenerName)
	s.mu.Lock()
	refusal := ""
	switch {
	case s.stopping:
		s.mu.Unlock()
		c.end(ErrShutdown)
		_ = nc.Close()
		return
	case s.opts.MaxConnections > 0 && len(s.conns) >= s.opts.MaxConnections:
		refusal = kindRefused
	case s.opts.MaxConnectionsPerIP > 0 && c.ip.IsValid() && s.perIP[c.ip] >= s.opts.MaxConnectionsPerIP:
		refusal = kindRefusedByIP
	default:
		s.conns[c] = struct{}{}
		if c.ip.IsValid() {
			s.perIP[c.ip]++
		}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if refusal != "" {
		s.metrics.errors[refusal].Add(1)
		s.warner.warn("connection refused: too many are open", "client", nc.RemoteAddr(), "listener", listenerName, "kind", refusal)
		c.end(net.ErrClosed)
		_ = nc.Close()
		return
	}
	s.metrics.accepted.Add(1)
	go func() {
		defer s.wg.Done()
		c.serve()
	}()
}

func (s *Server) forget(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.ip.IsValid() {
		if s.perIP[c.ip]--; s.perIP[c.ip] <= 0 {
			delete(s.perIP, c.ip)
		}
	}
}

// snapshot appends all connections to dst.
func (s *Server) snapshot(dst []*Conn) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		dst = append(dst, c)
	}
	return dst
}

// Shutdown stops accepting and reading, ends long polls (their contexts are done with ErrShutdown), waits until every request that was
// read is answered, and closes the connections. When ctx ends first, it closes them at once and returns ctx's error; handlers' contexts
// are done then, and Shutdown still waits for handlers to return. Call it once; Serve returns as soon as it begins.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopping
	s.stopping = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	s.mu.Unlock()
	for _, c := range s.snapshot(nil) {
		c.drain()
	}
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("server: shutdown: %w", context.Cause(ctx))
		for _, c := range s.snapshot(nil) {
			c.kill(ErrShutdown)
		}
		<-done
	}
	s.endBase(ErrShutdown)
	if first && s.janitor != nil {
		close(s.janitor)
		s.cleaned.Wait()
	}
	if first && s.metrics.registration != nil {
		err = errors.Join(err, s.metrics.registration.Unregister())
	}
	return err
}
