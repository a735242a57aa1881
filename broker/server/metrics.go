package server

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

// Kinds of ends of a connection that are counted by tidemark.server.errors.
const (
	kindMalformed   = "malformed"
	kindTooLarge    = "too_large"
	kindUnknownAPI  = "unknown_api"
	kindVersion     = "unsupported_version"
	kindIdle        = "idle"
	kindSlowFrame   = "slow_frame"
	kindSlowReader  = "slow_reader"
	kindHandler     = "handler"
	kindAcks0       = "acks0_error"
	kindPanic       = "panic"
	kindRefused     = "refused"
	kindRefusedByIP = "refused_by_ip"
	kindAccept      = "accept"
)

var errorKinds = [...]string{kindMalformed, kindTooLarge, kindUnknownAPI, kindVersion, kindIdle, kindSlowFrame, kindSlowReader, kindHandler,
	kindAcks0, kindPanic, kindRefused, kindRefusedByIP, kindAccept}

// metrics counts with atomics, which are read when somebody collects: counting costs nanoseconds and allocates nothing.
type metrics struct {
	requests           [wire.MaxKey + 1]atomic.Int64
	bytesIn, bytesOut  atomic.Int64
	accepted           atomic.Int64
	inFlight           atomic.Int64
	errors             map[string]*atomic.Int64 // fixed keys
	duration           metric.Float64Histogram
	durationAttributes [wire.MaxKey + 1][]metric.RecordOption
	registration       metric.Registration
}

func apiAttribute(a wire.API) attribute.KeyValue { return attribute.String("api", a.Name) }

func newMetrics(s *Server) (*metrics, error) {
	m := &metrics{errors: map[string]*atomic.Int64{}}
	for _, k := range errorKinds {
		m.errors[k] = new(atomic.Int64)
	}
	for _, a := range wire.ServedAPIs() {
		m.durationAttributes[a.Key] = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(apiAttribute(a)))}
	}
	var err error
	m.duration, err = s.opts.Meter.Float64Histogram("tidemark.server.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from a request's first byte to its answer being written, by api."),
		metric.WithExplicitBucketBoundaries(0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
	if err != nil {
		return nil, err
	}
	return m, m.register(s)
}

// register declares what is read on collection.
func (m *metrics) register(s *Server) error {
	meter := s.opts.Meter
	var insts []metric.Observable
	var firstErr error
	counter := func(name, unit, what string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter("tidemark.server."+name, metric.WithUnit(unit), metric.WithDescription(what))
		if err != nil && firstErr == nil {
			firstErr = err
		}
		insts = append(insts, c)
		return c
	}
	gauge := func(name, unit, what string) metric.Int64ObservableUpDownCounter {
		g, err := meter.Int64ObservableUpDownCounter("tidemark.server."+name, metric.WithUnit(unit), metric.WithDescription(what))
		if err != nil && firstErr == nil {
			firstErr = err
		}
		insts = append(insts, g)
		return g
	}
	requests := counter("requests", "{request}", "Requests answered, by api.")
	received := counter("received", "By", "Bytes of requests read.")
	sent := counter("sent", "By", "Bytes of answers written.")
	accepted := counter("connections.accepted", "{connection}", "Connections accepted.")
	failures := counter("errors", "{error}", "Connections closed or refused by the server, by kind.")
	waits := counter("budget.waits", "{wait}", "Times that a connection waited for memory, by budget.")
	connections := gauge("connections", "{connection}", "Open connections.")
	inFlight := gauge("inflight.requests", "{request}", "Requests read and not yet answered.")
	used := gauge("inflight.memory", "By", "Bytes taken from the memory budgets, by budget.")
	pooled := gauge("frames.pooled", "By", "Bytes of unused frames over 64 KiB kept for reuse.")
	if firstErr != nil {
		return firstErr
	}
	budgets := map[string]*budget{"produce": s.produceBudget, "large": s.largeBudget, "control": s.controlBudget, "decoded": s.decodedBudget}
	var err error
	m.registration, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, a := range wire.ServedAPIs() {
			o.ObserveInt64(requests, m.requests[a.Key].Load(), metric.WithAttributes(apiAttribute(a)))
		}
		o.ObserveInt64(received, m.bytesIn.Load())
		o.ObserveInt64(sent, m.bytesOut.Load())
		o.ObserveInt64(accepted, m.accepted.Load())
		for kind, n := range m.errors {
			o.ObserveInt64(failures, n.Load(), metric.WithAttributes(attribute.String("kind", kind)))
		}
		for name, b := range budgets {
			o.ObserveInt64(waits, b.waits.Load(), metric.WithAttributes(attribute.String("budget", name)))
			o.ObserveInt64(used, b.used.Load(), metric.WithAttributes(attribute.String("budget", name)))
		}
		o.ObserveInt64(connections, int64(s.connections()))
		o.ObserveInt64(inFlight, m.inFlight.Load())
		o.ObserveInt64(pooled, s.frames.KeptBytes())
		return nil
	}, insts...)
	return err
}

// answered counts one request.
func (m *metrics) answered(key int16, took time.Duration) {
	m.requests[key].Add(1)
	m.duration.Record(context.Background(), took.Seconds(), m.durationAttributes[key]...)
}
