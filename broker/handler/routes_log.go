package handler

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/producers"
	"github.com/tidemarkmq/tidemark/wal"
)

// logRoutes are the routes of the log beside Produce and Fetch, which the server calls directly.
func (b *Broker) logRoutes() map[int16]route {
	return map[int16]route{
		2:  on(b.listOffsets),
		21: on(b.deleteRecords),
		22: on(b.initProducerID),
		23: on(b.offsetForLeaderEpoch),
	}
}

// logState is what the log's handlers keep across requests. Its zero value is ready.
type logState struct {
	once      sync.Once
	deadlines deadlines
	sessions  *sessionCache
	slow      *slowReads
	producers producerIDs
	openers   openers
	stats     logStats
}

// logStats are totals since the start.
type logStats struct {
	refused, timedOut, fetches, fetchedBytes, slowReads atomic.Int64
}

// startLog prepares the log's handlers at their first request.
func (b *Broker) startLog() {
	b.log.once.Do(func() {
		b.log.sessions = newSessionCache(defaultSessionSlots)
		b.log.slow = newSlowReads(cmp.Or(b.SlowReadBytes, slowBudgetBytes))
		b.log.openers = newOpeners()
		b.log.producers.refill = make(chan struct{}, 1)
		if b.Meter == nil {
			return
		}
		if err := b.log.registerMetrics(b.Meter); err != nil {
			b.logger.Error("metrics of the log's handlers", "error", err)
		}
	})
}

func (l *logState) registerMetrics(m metric.Meter) error {
	counters := []struct {
		name, unit, help string
		value            *atomic.Int64
	}{
		{"tidemark.produce.refused", "{batch}", "Record batches that were refused or failed.", &l.stats.refused},
		{"tidemark.produce.timeouts", "{request}", "Produce requests whose timeout passed before their batches were durable.", &l.stats.timedOut},
		{"tidemark.fetch.requests", "{request}", "Fetch requests answered.", &l.stats.fetches},
		{"tidemark.fetch.bytes", "By", "Bytes of record batches in answers to Fetch.", &l.stats.fetchedBytes},
		{"tidemark.fetch.slow.reads", "{read}", "Reads that Fetch made from WAL files or the object store.", &l.stats.slowReads},
	}
	for _, c := range counters {
		_, err := m.Int64ObservableCounter(c.name, metric.WithUnit(c.unit), metric.WithDescription(c.help),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(c.value.Load())
				return nil
			}))
		if err != nil {
			return err
		}
	}
	gauges := []struct {
		name, unit, help string
		value            func() int64
	}{
		{"tidemark.fetch.sessions", "{session}", "Fetch sessions in the cache.", func() int64 { n, _, _ := l.sessions.totals(); return n }},
		{"tidemark.fetch.session.partitions", "{partition}", "Partitions in all fetch sessions.", func() int64 { _, n, _ := l.sessions.totals(); return n }},
		{"tidemark.fetch.session.evictions", "{session}", "Fetch sessions evicted for want of room since the start.", func() int64 { _, _, n := l.sessions.totals(); return n }},
	}
	for _, g := range gauges {
		_, err := m.Int64ObservableGauge(g.name, metric.WithUnit(g.unit), metric.WithDescription(g.help),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(g.value())
				return nil
			}))
		if err != nil {
			return err
		}
	}
	return nil
}

// adminClientID is the client that Kafka lets write to internal topics.
const adminClientID = "__admin_client"

// logErrors maps the refusals of the log, the first match wins; verdict knows the rest.
var logErrors = []struct {
	is   error
	kind *kerr.Error
}{
	{batch.ErrMagic, kerr.InvalidRecord}, // as Kafka's ProduceRequest says since message conversion is gone
	{batch.ErrCodec, kerr.UnsupportedCompressionType},
	{batch.ErrTooLarge, kerr.MessageTooLarge},
	{batch.ErrTimestamp, kerr.InvalidTimestamp},
	{batch.ErrInvalid, kerr.InvalidRecord},
	{batch.ErrCorrupt, kerr.CorruptMessage},
	{producers.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{producers.ErrInvalidEpoch, kerr.InvalidProducerEpoch},
	{producers.ErrTransactionState, kerr.InvalidTxnState},
	{partition.ErrFencedEpoch, kerr.FencedLeaderEpoch},
	{partition.ErrUnknownEpoch, kerr.UnknownLeaderEpoch},
	{partition.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
	{partition.ErrClosed, kerr.NotLeaderForPartition},
	{metadata.ErrFenced, kerr.NotLeaderForPartition},
	{metadata.ErrNotFound, kerr.UnknownTopicOrPartition},
	{tiering.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
	{partition.ErrFailed, kerr.KafkaStorageError},
	{wal.ErrTooLarge, kerr.MessageTooLarge},
	{wal.ErrClosed, kerr.NotLeaderForPartition}, // shutting down: the client looks for the new owner
	{wal.ErrFailed, kerr.KafkaStorageError},
	{wal.ErrFull, kerr.KafkaStorageError},
}

// logCode is the code of an error of the log. known is false when the caller should log it: the client gets a code that
// makes it try again.
func logCode(err error) (code int16, known bool) {
	for _, e := range logErrors {
		if errors.Is(err, e.is) {
			return e.kind.Code, true
		}
	}
	if code, _, known = verdict(err); known {
		return code, true
	}
	return kerr.KafkaStorageError.Code, false
}

// partitionOf finds the open partition of a topic that the image knows.
func (b *Broker) partitionOf(t *metadata.Topic, index int32) (*partition.Partition, int16) {
	if t == nil || index < 0 || index >= t.Partitions {
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	p, ok := b.Partitions.Get(metadata.PartitionID{Topic: t.ID, Partition: index})
	if !ok {
		return nil, kerr.NotLeaderForPartition.Code
	}
	return p, 0
}
