package metadata

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

type storeMetrics struct {
	requests metric.Int64Counter
	duration metric.Float64Histogram
	relists  metric.Int64Counter
}

func newStoreMetrics(meter metric.Meter, s *Store) (*storeMetrics, error) {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("")
	}
	var m storeMetrics
	var errs [6]error
	m.requests, errs[0] = meter.Int64Counter("tidemark.metadata.requests", metric.WithUnit("{request}"),
		metric.WithDescription("Requests to etcd, by kind and result (ok, unavailable, compacted, error)"))
	m.duration, errs[1] = meter.Float64Histogram("tidemark.metadata.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Time that requests to etcd took, by kind"),
		metric.WithExplicitBucketBoundaries(.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10))
	m.relists, errs[2] = meter.Int64Counter("tidemark.metadata.watch.relists", metric.WithUnit("{relist}"),
		metric.WithDescription("Times that the image was read again in full because its watch fell behind etcd's compaction"))
	gauge := func(i int, name, unit, description string, value func() int) {
		_, errs[i] = meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(int64(value()))
				return nil
			}))
	}
	gauge(3, "tidemark.metadata.image.topics", "{topic}", "Topics in the cluster", func() int { return s.Image().NumTopics() })
	gauge(4, "tidemark.metadata.image.partitions", "{partition}", "Partitions in the cluster", func() int { return s.Image().NumPartitions() })
	gauge(5, "tidemark.metadata.pending", "{object}", "Objects committed and not yet absorbed by manifests", s.PendingCount)
	return &m, errors.Join(errs[:]...)
}

// measured is a kv.KV that counts and times the calls to another.
type measured struct {
	kv kv.KV
	m  *storeMetrics
}

func (k *measured) record(ctx context.Context, kind string, began time.Time, err error) {
	result := "ok"
	switch {
	case errors.Is(err, kv.ErrUnavailable):
		result = "unavailable"
	case errors.Is(err, kv.ErrCompacted):
		result = "compacted"
	case err != nil:
		result = "error"
	}
	k.m.requests.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", kind), attribute.String("result", result)))
	k.m.duration.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(attribute.String("kind", kind)))
}

func (k *measured) Range(ctx context.Context, r kv.Range) (kv.Page, error) {
	began := time.Now()
	page, err := k.kv.Range(ctx, r)
	k.record(ctx, "range", began, err)
	return page, err
}

func (k *measured) Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error) {
	began := time.Now()
	res, err := k.kv.Txn(ctx, t)
	k.record(ctx, "txn", began, err)
	return res, err
}

func (k *measured) Watch(ctx context.Context, start, end string, from int64, fn func(kv.Batch) error) error {
	return k.kv.Watch(ctx, start, end, from, fn)
}

func (k *measured) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, time.Duration, error) {
	began := time.Now()
	id, ttl, err := k.kv.Grant(ctx, ttl)
	k.record(ctx, "grant", began, err)
	return id, ttl, err
}

func (k *measured) KeepAlive(ctx context.Context, id kv.LeaseID) (time.Duration, error) {
	began := time.Now()
	ttl, err := k.kv.KeepAlive(ctx, id)
	k.record(ctx, "keepalive", began, err)
	return ttl, err
}

func (k *measured) Revoke(ctx context.Context, id kv.LeaseID) error {
	began := time.Now()
	err := k.kv.Revoke(ctx, id)
	k.record(ctx, "revoke", began, err)
	return err
}
