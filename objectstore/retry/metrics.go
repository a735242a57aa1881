package retry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tidemarkmq/tidemark/objectstore"
)

type metrics struct {
	retries, denials, recognitions metric.Int64Counter
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("")
	}
	var m metrics
	var errs [3]error
	m.retries, errs[0] = meter.Int64Counter("tidemark.objectstore.retries", metric.WithUnit("{retry}"),
		metric.WithDescription("Calls to the object store that were tried again, by kind and by reason (throttled, unknown, error)."))
	m.denials, errs[1] = meter.Int64Counter("tidemark.objectstore.retries.denied", metric.WithUnit("{retry}"),
		metric.WithDescription("Retries that were not made because the budget of retries was empty, by kind of call."))
	m.recognitions, errs[2] = meter.Int64Counter("tidemark.objectstore.puts.recognized", metric.WithUnit("{object}"),
		metric.WithDescription("Conditional puts whose answer was lost or refused, and whose object was recognized as one's own by its nonce."))
	return &m, errors.Join(errs[:]...)
}

func kind(op string) attribute.KeyValue { return attribute.String("kind", op) }

func (m *metrics) retried(ctx context.Context, op string, err error) {
	reason := "error"
	switch {
	case errors.Is(err, objectstore.ErrThrottled):
		reason = "throttled"
	case errors.Is(err, objectstore.ErrOutcomeUnknown):
		reason = "unknown"
	}
	m.retries.Add(ctx, 1, metric.WithAttributes(kind(op), attribute.String("reason", reason)))
}

func (m *metrics) denied(ctx context.Context, op string) {
	m.denials.Add(ctx, 1, metric.WithAttributes(kind(op)))
}

func (m *metrics) recognized(ctx context.Context) { m.recognitions.Add(ctx, 1) }
