package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// shake bounds how many handshakes are under way: before it is over anybody may be at the other end.
func (s *Server) shake(ctx context.Context, raw net.Conn) (*served, error) {
	select {
	case s.shaking <- struct{}{}:
		defer func() { <-s.shaking }()
		return s.welcome(ctx, raw)
	default:
		return nil, fmt.Errorf("%w: too many handshakes", ErrRefused)
	}
}

// welcome shakes hands.
func (s *Server) welcome(ctx context.Context, raw net.Conn) (*served, error) {
	deadline := time.Now().Add(s.o.Timing.Timeout)
	if err := raw.SetDeadline(deadline); err != nil {
		return nil, err
	}
	conn := raw
	var state *tls.ConnectionState
	if s.o.TLS != nil {
		secure := tls.Server(raw, s.o.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		st := secure.ConnectionState()
		conn, state = secure, &st
	}
	b, err := readHello(conn)
	if err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	h, err := parseHello(b)
	if err != nil {
		return nil, err
	}
	w := welcome{From: s.o.Self, Limits: limits{Window: uint32(s.o.WindowBytes), Calls: uint16(s.o.MaxCalls), Streams: uint16(s.o.MaxStreams)}}
	w.Version, err = h.judge(s.o.Self)
	if err == nil && s.o.Verify != nil {
		if verr := s.o.Verify(h.From, state); verr != nil {
			err = fmt.Errorf("%w: %w", ErrRefused, verr)
		}
	}
	var c *served
	if err == nil {
		c = newServed(s, newLink(raw, conn, s.o.Timing), h.From)
		err = s.admit(c)
	}
	if err != nil {
		w.Version, w.Refusal = 0, remote(err)
	}
	if _, werr := conn.Write(w.put()); werr != nil && err == nil {
		s.drop(c)
		err = fmt.Errorf("hello: %w", werr)
	}
	if err != nil {
		return nil, fmt.Errorf("broker %d: %w", h.From.Broker, err)
	}
	return c, nil
}

// admit counts the connection.
func (s *Server) admit(c *served) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.o.MaxConns {
		return fmt.Errorf("%w: %d connections are open", ErrRefused, len(s.conns))
	}
	s.conns[c] = struct{}{}
	return nil
}

func (s *Server) drop(c *served) {
	s.mu.Lock()
	delete(s.conns, c)
	s.metrics.add(c.link)
	s.mu.Unlock()
}
