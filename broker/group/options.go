package group

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tidemarkmq/tidemark/broker/group/consumer"
	"github.com/tidemarkmq/tidemark/metadata"
)

// States keeps the opaque state of each group; *metadata.Store is one. Errors are those of package metadata: ErrConflict for a
// lost swap, ErrFenced for a group that is no longer ours, ErrUnavailable for an unknown outcome, ErrNotFound.
type States interface {
	LoadGroups(ctx context.Context, fn func(group string, state []byte, rev metadata.Revision) error) error
	// LoadGroup returns ErrNotFound when nothing is stored.
	LoadGroup(ctx context.Context, group string) ([]byte, metadata.Revision, error)
	// SaveGroup swaps the state; expect 0 means that there must be none.
	SaveGroup(ctx context.Context, group string, state []byte, expect metadata.Revision) (metadata.Revision, error)
	// DeleteGroup removes the state, if its revision is the expected one, and all offsets of the group. Expect 0 means that there
	// is no state.
	DeleteGroup(ctx context.Context, group string, expect metadata.Revision) error
}

// Offsets keeps committed offsets; *metadata.Store is one. A *metadata.PartialError says which items failed.
type Offsets interface {
	LoadAllOffsets(ctx context.Context, fn func(metadata.GroupOffsets) error) error
	LoadOffsets(ctx context.Context, group string) ([]metadata.GroupOffsets, error)
	CommitOffsets(ctx context.Context, offsets []metadata.GroupOffsets) error
	DeleteOffsets(ctx context.Context, offsets []metadata.GroupPartitions) error
}

// newMemberJoinTimeout is Kafka's: how long a member without an id may wait in a rebalance before it has to retry.
const newMemberJoinTimeout = 5 * time.Minute

// maxStateBytes bounds a stored group state.
const maxStateBytes = metadata.MaxGroupStateBytes

// Options of a Coordinator. Zero fields take Kafka's defaults.
type Options struct {
	States  States
	Offsets Offsets
	// TopicName tells the present name of a topic; false when there is no such topic (any more).
	TopicName func(metadata.TopicID) (string, bool)
	// Topics are the topics at this moment, for consumer groups; nil: there are none.
	Topics func() consumer.Topics
	// Consumers is what holds for a consumer group now: Kafka's defaults when nil. It must not block.
	Consumers func(group string) consumer.Settings
	// Migration is group.consumer.migration.policy: "bidirectional" if empty.
	Migration string
	// Incarnation is of this run of the broker.
	Incarnation metadata.Incarnation

	MinSessionTimeout, MaxSessionTimeout time.Duration // group.min/max.session.timeout.ms: 6 s, 30 min
	// InitialRebalanceDelay is group.initial.rebalance.delay.ms: 3 s when nil.
	InitialRebalanceDelay *time.Duration
	MaxGroupSize          int           // group.max.size: no limit
	MetadataMaxChars      int           // offset.metadata.max.bytes: 4096, counted as Kafka does, in UTF-16 code units
	OffsetsRetention      time.Duration // offsets.retention.minutes: 7 days
	RetentionCheck        time.Duration // offsets.retention.check.interval.ms: 10 min
	WriteTimeout          time.Duration // offsets.commit.timeout.ms: 5 s, for every write to the store

	// Bounds that Kafka does not have.
	MaxGroups         int   // 100,000; a further group is refused with GROUP_MAX_SIZE_REACHED
	MaxGroupBytes     int64 // 16 MiB of ids, subscriptions and assignments in one group
	MaxPendingMembers int   // 10,000 member ids handed out in one group and not yet used
	MaxPendingBytes   int64 // 64 MiB of offset commits waiting for the store; beyond: COORDINATOR_LOAD_IN_PROGRESS
	Shards            int   // NumShards; partitions of the topic by which they are owned
	ParallelSaves     int   // 32 group states being written at once

	Logger *slog.Logger // nil = discard
	Meter  metric.Meter // nil = none
}

func (o *Options) setDefaults() {
	defaultTo(&o.MinSessionTimeout, 6*time.Second)
	defaultTo(&o.MaxSessionTimeout, 30*time.Minute)
	if o.InitialRebalanceDelay == nil {
		o.InitialRebalanceDelay = new(time.Duration)
		*o.InitialRebalanceDelay = 3 * time.Second
	}
	defaultTo(&o.MaxGroupSize, math.MaxInt32)
	defaultTo(&o.MetadataMaxChars, 4096)
	defaultTo(&o.OffsetsRetention, 7*24*time.Hour)
	defaultTo(&o.RetentionCheck, 10*time.Minute)
	defaultTo(&o.WriteTimeout, 5*time.Second)
	defaultTo(&o.MaxGroups, 100_000)
	defaultTo(&o.MaxGroupBytes, 16<<20)
	defaultTo(&o.MaxPendingMembers, 10_000)
	defaultTo(&o.MaxPendingBytes, 64<<20)
	defaultTo(&o.Shards, NumShards)
	defaultTo(&o.ParallelSaves, 32)
	defaultTo(&o.Migration, "bidirectional")
	if o.Topics == nil {
		o.Topics = func() consumer.Topics { return noTopics{} }
	}
	if o.Consumers == nil {
		o.Consumers = func(string) consumer.Settings { return defaultConsumers }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) validate() error {
	switch {
	case o.States == nil || o.Offsets == nil || o.TopicName == nil:
		return errors.New("States, Offsets and TopicName are required")
	case o.MinSessionTimeout > o.MaxSessionTimeout:
		return errors.New("the least session timeout is above the greatest")
	case *o.InitialRebalanceDelay < 0:
		return errors.New("the initial rebalance delay is negative")
	}
	return nil
}
