package wal

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// walMetrics are the log's instruments. Counters and gauges are read when somebody asks; only the histograms cost
// anything while committing.
type walMetrics struct {
	sync, wait metric.Float64Histogram
	callback   metric.Registration
}

var durationBuckets = metric.WithExplicitBucketBoundaries(
	0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

func newMetrics(l *Log) (*walMetrics, error) {
	meter := l.o.Meter
	m := &walMetrics{}
	var err error
	keep := func(e error) {
		if err == nil && e != nil {
			err = fmt.Errorf("wal metrics: %w", e)
		}
	}
	histogram := func(name, text string) metric.Float64Histogram {
		h, e := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text), durationBuckets)
		keep(e)
		return h
	}
	counter := func(name, unit, text string) metric.Int64ObservableCounter {
		c, e := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		keep(e)
		return c
	}
	gauge := func(name, unit, text string) metric.Int64ObservableGauge {
		g, e := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
		keep(e)
		return g
	}
	m.sync = histogram("tidemark.wal.sync.duration", "Time from starting a group's write until it is durable.")
	m.wait = histogram("tidemark.wal.admission.wait", "Time that appends waited for slab or disk space; those that did not wait are left out.")
	groups := counter("tidemark.wal.groups", "{group}", "Groups made durable.")
	entries := counter("tidemark.wal.entries", "{entry}", "Entries made durable.")
	bytes := counter("tidemark.wal.bytes", "By", "Bytes made durable, with framing and padding.")
	slabs := gauge("tidemark.wal.slabs", "{slab}", "Slabs that hold entries, durable or not.")
	pinned := gauge("tidemark.wal.slabs.pinned", "{slab}", "Slabs that readers hold.")
	untrimmed := gauge("tidemark.wal.untrimmed", "By", "Bytes appended and not trimmed.")
	limit := gauge("tidemark.wal.inflight.limit", "{group}", "Groups that may be in flight at once.")
	full := gauge("tidemark.wal.full", "1", "1 while there is no room for the next segment.")
	if err != nil {
		return nil, err
	}
	m.callback, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := l.Stats()
		o.ObserveInt64(groups, int64(s.Groups))
		o.ObserveInt64(entries, int64(s.Entries))
		o.ObserveInt64(bytes, int64(s.Bytes))
		o.ObserveInt64(slabs, int64(s.SlabsInUse))
		o.ObserveInt64(pinned, int64(s.SlabsPinned))
		o.ObserveInt64(untrimmed, s.UntrimmedBytes)
		o.ObserveInt64(limit, int64(s.InFlightLimit))
		isFull := int64(0)
		if s.Full {
			isFull = 1
		}
		o.ObserveInt64(full, isFull)
		return nil
	}, groups, entries, bytes, slabs, pinned, untrimmed, limit, full)
	if err != nil {
		return nil, fmt.Errorf("wal metrics: %w", err)
	}
	return m, nil
}

func (m *walMetrics) synced(took time.Duration) { m.sync.Record(context.Background(), took.Seconds()) }

func (m *walMetrics) admissionWait(took time.Duration) {
	m.wait.Record(context.Background(), took.Seconds())
}

func (m *walMetrics) close() {
	if m.callback != nil {
		_ = m.callback.Unregister() // the meter is gone already: nothing to undo
	}
}
