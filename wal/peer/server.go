package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tidemarkmq/tidemark/wal"
)

// Own is a stream that this broker writes, or wrote, itself; *wal.Log is one. Fence must leave nothing to be acknowledged beyond the tail that it
// returns, as wal.Replicas.Fence does. Methods are called concurrently.
type Own interface {
	Fence(epoch uint64) (wal.Tail, error)
	ReadGroups(ctx context.Context, from wal.Position, maxBytes int, dst []byte) (wal.Chunk, error)
}

// Handler answers calls of one kind. The payload is valid until it returns; the answer is at most MaxPayloadBytes. The cause of ctx is the caller's
// patience, the connection's end or that of Run. It is called concurrently.
type Handler func(ctx context.Context, from Identity, payload []byte) ([]byte, error)

// ServerOptions configure a Server.
type ServerOptions struct {
	Self     Identity
	Replicas *wal.Replicas
	// Listen is called once by Run, which closes the listener.
	Listen func(ctx context.Context) (net.Listener, error)
	// TLS, if not nil, must demand and verify clients' certificates.
	TLS *tls.Config
	// Verify, if not nil, may refuse a client for what it says of itself. The state is nil without TLS.
	Verify   func(from Identity, state *tls.ConnectionState) error
	Handlers map[uint16]Handler // by the kind of call
	Timing   Timing

	// WindowBytes is how much of a stream may wait here to become durable; default 8 MiB, which any group fits. Each open stream has twice that
	// memory and at least 16 MiB, of which only what is used is touched.
	WindowBytes int
	MaxConns    int // default 256
	MaxCalls    int // requests of a connection at once; default 16
	MaxStreams  int // open streams of a connection; default 8
	MaxReads    int // Reads of all connections at once, of up to 8 MiB each; more wait. Default 8

	Logger *slog.Logger // nil: discard
	Meter  metric.Meter // nil: none
}

func (o *ServerOptions) setDefaults() error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
	for v, def := range map[*int]int{&o.WindowBytes: maxReadBytes, &o.MaxConns: 256, &o.MaxCalls: 16, &o.MaxStreams: 8, &o.MaxReads: 8} {
		if *v == 0 {
			*v = def
		}
	}
	switch {
	case o.Replicas == nil || o.Listen == nil:
		return errors.New("peer server: Replicas and Listen are needed")
	case o.TLS != nil && o.TLS.ClientAuth != tls.RequireAndVerifyClientCert:
		return errors.New("peer server: TLS must demand and verify clients' certificates")
	case o.WindowBytes < 64<<10 || o.WindowBytes > 1<<30:
		return fmt.Errorf("peer server: WindowBytes %d: want 64 KiB to 1 GiB", o.WindowBytes)
	case o.MaxCalls < 1 || o.MaxCalls > 1<<12 || o.MaxStreams < 1 || o.MaxStreams > 1<<12 || o.MaxConns < 1 || o.MaxReads < 1:
		return fmt.Errorf("peer server: MaxCalls %d, MaxStreams %d, MaxConns %d, MaxReads %d", o.MaxCalls, o.MaxStreams, o.MaxConns, o.MaxReads)
	}
	return errors.Join(o.Self.check(), o.Timing.setDefaults())
}

// Server answers other brokers' clients.
type Server struct {
	o       ServerOptions
	metrics *serverMetrics
	reads   chan []byte   // memory for Reads; how many there are bounds them
	shaking chan struct{} // a place for each handshake under way

	mu    sync.Mutex
	own   map[uint64]Own
	conns map[*served]struct{}
}

// NewServer checks the options. It starts nothing.
func NewServer(o ServerOptions) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{
		o: o, reads: make(chan []byte, o.MaxReads), shaking: make(chan struct{}, o.MaxConns), own: map[uint64]Own{}, conns: map[*served]struct{}{},
	}
	for range o.MaxReads {
		s.reads <- nil
	}
	var err error
	if s.metrics, err = newServerMetrics(s); err != nil {
		return nil, err
	}
	return s, nil
}

// Register makes Fence and Read of the stream go to own. A broker registers the streams on its own disk before Run: else a recoverer hears that
// nothing is there of them. Safe for concurrent use, as is Unregister.
func (s *Server) Register(stream uint64, own Own) {
	s.mu.Lock()
	s.own[stream] = own
	s.mu.Unlock()
}

// Unregister forgets the stream.
func (s *Server) Unregister(stream uint64) {
	s.mu.Lock()
	delete(s.own, stream)
	s.mu.Unlock()
}

func (s *Server) ownStream(stream uint64) Own {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own[stream]
}

// Run listens and serves until ctx is done or the listener fails. When it returns all connections are closed and nothing is under way.
func (s *Server) Run(ctx context.Context) error {
	defer s.metrics.close()
	ln, err := s.o.Listen(ctx)
	if err != nil {
		return fmt.Errorf("peer server: listen: %w", err)
	}
	serving, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	stop := context.AfterFunc(serving, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	pause := time.Millisecond
	for {
		raw, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				raw.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("peer server: accept: %w", err)
			}
			s.o.Logger.Warn("accepting a replica's connection failed", "error", err) // too many open files, say
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		working.Go(func() { s.serve(serving, raw) })
	}
}

// serve is one connection's life.
func (s *Server) serve(ctx context.Context, raw net.Conn) {
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	defer raw.Close()
	c, err := s.shake(ctx, raw)
	if err != nil {
		s.metrics.refused.Add(1)
		if ctx.Err() == nil {
			s.o.Logger.Warn("a replica's connection is refused", "remote", addressOf(raw), "error", err)
		}
		return
	}
	err = c.run(ctx)
	s.drop(c)
	if ctx.Err() == nil {
		s.o.Logger.Info("a replica's connection has ended", "broker", c.from.Broker, "remote", addressOf(raw), "reason", err)
	}
}

func addressOf(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}
