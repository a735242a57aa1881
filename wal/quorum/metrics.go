package quorum

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metrics are read when somebody asks.
type metrics struct{ registration metric.Registration }

func newMetrics(w *Writer) (*metrics, error) {
	meter := w.o.Meter
	if meter == nil {
		meter = noop.Meter{}
	}
	members, err := meter.Int64ObservableGauge("tidemark.wal.ensemble.members", metric.WithUnit("{member}"),
		metric.WithDescription("Members of the ensemble that replicates the write-ahead log, this broker included."))
	if err != nil {
		return nil, err
	}
	lag, err := meter.Int64ObservableGauge("tidemark.wal.replica.lag", metric.WithUnit("By"),
		metric.WithDescription("Bytes of the write-ahead log that are durable here and not yet on the replica, by its broker."))
	if err != nil {
		return nil, err
	}
	r, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		written := w.o.Log.Written()
		w.mu.Lock()
		defer w.mu.Unlock()
		o.ObserveInt64(members, int64(len(w.core.ensemble)))
		for _, p := range w.core.places {
			o.ObserveInt64(lag, int64(max(written, p.held)-p.held), metric.WithAttributes(attribute.Int64("broker", int64(p.member.Broker))))
		}
		return nil
	}, members, lag)
	return &metrics{r}, err
}

func (m *metrics) close() {
	if m.registration != nil {
		_ = m.registration.Unregister() // it never fails
	}
}
