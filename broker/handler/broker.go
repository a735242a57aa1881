// Package handler answers Kafka requests: one file per API decodes what it needs, calls the part of the broker that
// knows, and encodes the answer. Errors become Kafka's codes in one place (errors.go); the list of what is served is
// wire's table, and dispatch.go finds the handler of each row.
package handler

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/metadata"
)

// Broker is everything that a handler may use. Package broker fills in the exported fields before the first request and
// leaves them alone afterwards; all of them are safe for concurrent use. It implements server.Handler.
type Broker struct {
	NodeID      metadata.BrokerID
	Incarnation func() metadata.Incarnation // of this run; the owner of the partitions of new topics

	Meta       *metadata.Store
	Partitions *partition.Set
	Groups     *group.Coordinator
	Configs    *configs.Registry
	Opener     Opener
	// FollowShards returns once this broker coordinates the groups that the metadata gives to it; nil: it coordinates what it coordinates.
	FollowShards func(context.Context) error

	// Confirm asks etcd whether the write-ahead log is still this run's own; metadata.ErrFenced: it is not. Nil: nobody else can have it.
	Confirm func(context.Context) error

	// TrustCompressed opens compressed batches of producers only when the topic's config needs their records.
	TrustCompressed bool

	// SlowReadBytes bounds what all connections together read from files and the object store, until it is written; 0: 256 MiB.
	SlowReadBytes int64

	// LogDir is the folder that DescribeLogDirs shows.
	LogDir string

	Logger *slog.Logger // nil = discard
	Meter  metric.Meter // nil = none

	once   sync.Once
	table  routes
	logger *slog.Logger
	log    logState

	configuring sync.Mutex // held while configs are handed to partitions; nothing blocks under it
}

// Opener makes this broker serve partitions, and stop serving them, after the metadata says so.
type Opener interface {
	// OpenPartition returns once requests for the partition are served. Opening an open partition does nothing.
	OpenPartition(ctx context.Context, topic *metadata.Topic, p *metadata.Partition) error
	// ClosePartitions ends the serving of every partition of a deleted topic.
	ClosePartitions(topic metadata.TopicID)
}

// Start prepares what is derived from the fields, metrics among it. The first request does so too.
func (b *Broker) Start() {
	b.start()
	b.startLog()
}

// Stop ends what outlives a request, and waits for it: reads of old records that connections wait for. The server must have shut down
// before, and the log be closed after.
func (b *Broker) Stop() {
	b.startLog()
	b.log.slow.stop()
}

// start prepares what the handlers of topics and configs derive from the fields.
func (b *Broker) start() {
	b.once.Do(func() {
		b.logger = b.Logger
		if b.logger == nil {
			b.logger = slog.New(slog.NewTextHandler(io.Discard, nil))
		}
		b.table = b.routes()
	})
}

// TopicConfig is the view of a topic's effective configs at this moment.
func (b *Broker) TopicConfig(t *metadata.Topic) configs.Topic {
	return b.Configs.Topic(b.layers(b.Meta.Image()), t.Configs)
}

// ConfigureAll hands the effective configs of every topic to its open partitions. Package broker calls it too when the
// metadata changes behind this broker's back.
func (b *Broker) ConfigureAll() {
	b.start()
	b.configuring.Lock()
	defer b.configuring.Unlock()
	im := b.Meta.Image()
	layers := b.layers(im)
	for t := range im.Topics() {
		b.configure(layers, t)
	}
}

// configureTopic does so for one topic. The image is read under the lock, so that the newest one is applied last.
func (b *Broker) configureTopic(id metadata.TopicID) {
	b.configuring.Lock()
	defer b.configuring.Unlock()
	im := b.Meta.Image()
	if t, ok := im.TopicByID(id); ok {
		b.configure(b.layers(im), t)
	}
}

func (b *Broker) configure(layers configs.Layers, t *metadata.Topic) {
	c, err := partition.ConfigOf(b.Configs.Topic(layers, t.Configs))
	if err != nil {
		b.logger.Error("topic configs were not applied", "topic", t.Name, "error", err)
		return
	}
	for i := range t.Partitions {
		if p, ok := b.Partitions.Get(metadata.PartitionID{Topic: t.ID, Partition: i}); ok {
			p.SetConfig(c)
		}
	}
}

// layers are the dynamic broker configs that hold on this broker.
func (b *Broker) layers(im *metadata.Image) configs.Layers {
	return configs.Layers{Broker: im.BrokerConfigs(b.NodeID), Cluster: im.BrokerConfigs(metadata.ClusterDefault)}
}
