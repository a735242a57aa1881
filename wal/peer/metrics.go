package peer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.opentelemetry.io/otel/metric"
)

// serverMetrics are read when somebody asks.
type serverMetrics struct {
	refused        atomic.Int64
	sent, received atomic.Int64 // of connections that have ended
	callback       metric.Registration
}

// add takes over the counts of a connection that has ended.
func (m *serverMetrics) add(l *link) {
	m.sent.Add(l.sent.Load())
	m.received.Add(l.received.Load())
}

func newServerMetrics(s *Server) (*serverMetrics, error) {
	m := &serverMetrics{}
	conns, err1 := s.o.Meter.Int64ObservableGauge("tidemark.wal.peer.connections", metric.WithUnit("{connection}"), metric.WithDescription("Connections of other brokers for replicas and hand-overs."))
	refused, err2 := s.o.Meter.Int64ObservableCounter("tidemark.wal.peer.refused", metric.WithUnit("{connection}"), metric.WithDescription("Connections refused: certificate, cluster, disk, version, or too many."))
	sent, err3 := s.o.Meter.Int64ObservableCounter("tidemark.wal.peer.server.sent", metric.WithUnit("By"), metric.WithDescription("Bytes sent to other brokers that asked for them."))
	received, err4 := s.o.Meter.Int64ObservableCounter("tidemark.wal.peer.server.received", metric.WithUnit("By"), metric.WithDescription("Bytes received from other brokers, most of them groups to replicate."))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("peer metrics: %w", err)
	}
	var err error
	m.callback, err = s.o.Meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		out, in := m.sent.Load(), m.received.Load()
		s.mu.Lock()
		n := len(s.conns)
		for c := range s.conns {
			out, in = out+c.link.sent.Load(), in+c.link.received.Load()
		}
		s.mu.Unlock()
		o.ObserveInt64(conns, int64(n))
		o.ObserveInt64(refused, m.refused.Load())
		o.ObserveInt64(sent, out)
		o.ObserveInt64(received, in)
		return nil
	}, conns, refused, sent, received)
	if err != nil {
		return nil, fmt.Errorf("peer metrics: %w", err)
	}
	return m, nil
}

func (m *serverMetrics) close() {
	if m.callback != nil {
		_ = m.callback.Unregister() // the meter is gone already: nothing to undo
	}
}
