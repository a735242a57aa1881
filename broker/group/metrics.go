package group

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/group/consumer"
	"github.com/tidemarkmq/tidemark/metadata"
)

// metrics are the instruments tidemark.group.*.
type metrics struct {
	rebalances   metric.Int64Counter
	commits      metric.Int64Counter
	batchCommits metric.Int64Histogram
	batchSeconds metric.Float64Histogram
	deleted      metric.Int64Counter
	saveSeconds  metric.Float64Histogram
	registration metric.Registration
}

func newMetrics(m metric.Meter, c *Coordinator) (*metrics, error) {
	var ms metrics
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	var err error
	ms.rebalances, err = m.Int64Counter("tidemark.group.rebalances", metric.WithUnit("{rebalance}"),
		metric.WithDescription("Rebalances of groups, by phase: started, completed (an assignment became durable)"))
	note(err)
	ms.commits, err = m.Int64Counter("tidemark.group.commits", metric.WithUnit("{offset}"),
		metric.WithDescription("Offsets committed, by outcome: ok, error"))
	note(err)
	ms.batchCommits, err = m.Int64Histogram("tidemark.group.commit.batch", metric.WithUnit("{commit}"),
		metric.WithDescription("OffsetCommit requests written by one call to the metadata store"),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096))
	note(err)
	ms.batchSeconds, err = m.Float64Histogram("tidemark.group.commit.duration", metric.WithUnit("s"),
		metric.WithDescription("Time of one call that writes offsets to the metadata store"),
		metric.WithExplicitBucketBoundaries(.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5))
	note(err)
	ms.deleted, err = m.Int64Counter("tidemark.group.offsets.deleted", metric.WithUnit("{offset}"),
		metric.WithDescription("Offsets deleted, by cause: request, expired, topic"))
	note(err)
	ms.saveSeconds, err = m.Float64Histogram("tidemark.group.save.duration", metric.WithUnit("s"),
		metric.WithDescription("Time until a group's state was stored, or given up, by outcome: ok, error"),
		metric.WithExplicitBucketBoundaries(.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5))
	note(err)
	groups, err := m.Int64ObservableGauge("tidemark.group.groups", metric.WithUnit("{group}"),
		metric.WithDescription("Groups on this broker, by type and state"))
	note(err)
	members, err := m.Int64ObservableGauge("tidemark.group.members", metric.WithUnit("{member}"),
		metric.WithDescription("Members of the groups on this broker"))
	note(err)
	offsets, err := m.Int64ObservableGauge("tidemark.group.offsets", metric.WithUnit("{offset}"),
		metric.WithDescription("Committed offsets of the groups on this broker"))
	note(err)
	pending, err := m.Int64ObservableGauge("tidemark.group.commit.pending", metric.WithUnit("By"),
		metric.WithDescription("Memory of offset commits that wait for the metadata store"))
	note(err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	ms.registration, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		t := c.tally()
		for of, n := range t.groups {
			o.ObserveInt64(groups, n, metric.WithAttributes(attribute.String("type", of.kind), attribute.String("state", of.state)))
		}
		o.ObserveInt64(members, t.members)
		o.ObserveInt64(offsets, t.offsets)
		o.ObserveInt64(pending, c.queue.pendingBytes())
		return nil
	}, groups, members, offsets, pending)
	return &ms, err
}

// kindState is what groups are counted by.
type kindState struct{ kind, state string }

// tally counts what is there.
type tally struct {
	groups           map[kindState]int64
	members, offsets int64
}

func (c *Coordinator) tally() tally {
	t := tally{groups: map[kindState]int64{}}
	for _, state := range classic.States() {
		t.groups[kindState{ClassicType, state.String()}] = 0
	}
	for _, state := range consumer.States() {
		t.groups[kindState{ConsumerType, state.String()}] = 0
	}
	c.each(func(e *entry) {
		t.groups[kindState{e.core.Type(), e.core.State()}]++
		t.members += int64(e.core.Members())
		for _, of := range e.offsets {
			t.offsets += int64(len(of))
		}
	})
	return t
}

func (m *metrics) close() { _ = m.registration.Unregister() }

func (m *metrics) rebalanced(started, completed int) {
	if started > 0 {
		m.rebalances.Add(context.Background(), int64(started), phaseStarted)
	}
	if completed > 0 {
		m.rebalances.Add(context.Background(), int64(completed), phaseCompleted)
	}
}

var (
	phaseStarted   = metric.WithAttributeSet(attribute.NewSet(attribute.String("phase", "started")))
	phaseCompleted = metric.WithAttributeSet(attribute.NewSet(attribute.String("phase", "completed")))
	outcomeOK      = metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", "ok")))
	outcomeError   = metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", "error")))
)

func (m *metrics) committed(batch []*op, took time.Duration) {
	var ok, failed int64
	for _, o := range batch {
		for i := range o.commits {
			if n := int64(len(o.commits[i].Partitions)); o.failed(i) == nil {
				ok += n
			} else {
				failed += n
			}
		}
	}
	ctx := context.Background()
	m.batchCommits.Record(ctx, int64(len(batch)))
	m.batchSeconds.Record(ctx, took.Seconds())
	if ok > 0 {
		m.commits.Add(ctx, ok, outcomeOK)
	}
	if failed > 0 {
		m.commits.Add(ctx, failed, outcomeError)
	}
}

func (m *metrics) offsetsDeleted(cause string, deletes []metadata.GroupPartitions) {
	var n int64
	for i := range deletes {
		n += int64(len(deletes[i].Partitions))
	}
	m.deleted.Add(context.Background(), n, metric.WithAttributes(attribute.String("cause", cause)))
}

func (m *metrics) stateWritten(took time.Duration, err error) {
	outcome := outcomeOK
	if err != nil {
		outcome = outcomeError
	}
	m.saveSeconds.Record(context.Background(), took.Seconds(), outcome)
}
