package tiering

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics are the instruments of one catalog and of the uploader, reader and maintainer that work on it.
type metrics struct {
	meter                                                    metric.Meter
	logger                                                   *slog.Logger
	sealedBytes, sealedObjects, uploadRetries                metric.Int64Counter
	uploadSeconds                                            metric.Float64Histogram
	absorbed, mergedBytes, mergedSegments, merges, published metric.Int64Counter
	dropped, reaped, orphans, maintenanceErrors              metric.Int64Counter
	coldBytes, fetchedBytes, blockHits, blockMisses          metric.Int64Counter
	coldSeconds                                              metric.Float64Histogram
}

func newMetrics(meter metric.Meter, logger *slog.Logger) *metrics {
	m := &metrics{meter: meterOr(meter), logger: logger}
	var errs []error
	counter := func(name, unit, description string) metric.Int64Counter {
		c, err := m.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	seconds := func(name, description string) metric.Float64Histogram {
		h, err := m.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60))
		errs = append(errs, err)
		return h
	}
	m.sealedBytes = counter("tidemark.tiering.sealed", "By", "Bytes of objects committed from WAL streams.")
	m.sealedObjects = counter("tidemark.tiering.sealed.objects", "{object}", "Objects committed from WAL streams, by kind.")
	m.uploadRetries = counter("tidemark.tiering.upload.retries", "{attempt}", "Attempts to put an object that failed and were repeated.")
	m.uploadSeconds = seconds("tidemark.tiering.upload.duration", "Time from the start of an object's first put until it was stored.")
	m.absorbed = counter("tidemark.tiering.absorbed", "{object}", "Pending objects that manifests have taken over.")
	m.published = counter("tidemark.tiering.manifests", "{manifest}", "Manifests published.")
	m.merges = counter("tidemark.tiering.merges", "{object}", "Objects made by merging.")
	m.mergedBytes = counter("tidemark.tiering.merged", "By", "Bytes copied by merging.")
	m.mergedSegments = counter("tidemark.tiering.merged.segments", "{segment}", "Segments that merging replaced.")
	m.dropped = counter("tidemark.tiering.dropped", "{segment}", "Segments below the log start that were dropped from manifests.")
	m.reaped = counter("tidemark.tiering.reaped", "{object}", "Objects deleted because nothing names them any more.")
	m.orphans = counter("tidemark.tiering.orphans", "{object}", "Objects deleted that were found by listing; part of reaped.")
	m.maintenanceErrors = counter("tidemark.tiering.maintenance.errors", "{error}", "Maintenance steps that failed and will be repeated, by step.")
	m.coldBytes = counter("tidemark.tiering.read", "By", "Bytes of record batches served by the cold lane.")
	m.fetchedBytes = counter("tidemark.tiering.fetched", "By", "Bytes of blocks that the cold lane read from the store.")
	m.blockHits = counter("tidemark.tiering.blocks.hits", "{block}", "Blocks that the cold lane had in memory, or under way, when they were wanted.")
	m.blockMisses = counter("tidemark.tiering.blocks.misses", "{block}", "Blocks that the cold lane had to ask the store for.")
	m.coldSeconds = seconds("tidemark.tiering.read.duration", "Time of reads in the cold lane.")
	if err := errors.Join(errs...); err != nil {
		logger.Warn("tiering metrics are incomplete", "error", err)
	}
	return m
}

// gauge registers an observed value; observe must be cheap and safe for concurrent use.
func (m *metrics) gauge(name, unit, description string, observe func() int64) {
	_, err := m.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(observe())
			return nil
		}))
	if err != nil {
		m.logger.Warn("tiering metrics are incomplete", "error", err)
	}
}

func (m *metrics) watchCatalog(c *Catalog) {
	m.gauge("tidemark.tiering.pending", "{object}", "Committed objects that manifests have not taken over yet.", func() int64 { return int64(c.pendingCount()) })
	m.gauge("tidemark.tiering.pending.memory", "By", "Memory held by the indexes of pending objects.", func() int64 {
		c.mu.RLock()
		defer c.mu.RUnlock()
		return c.indexBytes
	})
}

func (m *metrics) failed(ctx context.Context, step string) {
	m.maintenanceErrors.Add(ctx, 1, metric.WithAttributes(attribute.String("step", step)))
}

func kindAttribute(kind string) metric.AddOption {
	return metric.WithAttributes(attribute.String("kind", kind))
}
