package broker

import (
	"iter"
	"sync"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/group/consumer"
	"github.com/tidemarkmq/tidemark/metadata"
)

// groupTopics are the topics of one metadata image, as consumer groups see them.
type groupTopics struct {
	im         *metadata.Image
	generation int64
}

// Topic implements consumer.Topics.
func (t groupTopics) Topic(name string) (consumer.Topic, bool) {
	topic, ok := t.im.Topic(name)
	if !ok {
		return consumer.Topic{}, false
	}
	return consumer.Topic{ID: consumer.TopicID(topic.ID), Partitions: topic.Partitions}, true
}

// Name implements consumer.Topics.
func (t groupTopics) Name(id consumer.TopicID) (string, bool) {
	topic, ok := t.im.TopicByID(metadata.TopicID(id))
	if !ok {
		return "", false
	}
	return topic.Name, true
}

// Names implements consumer.Topics.
func (t groupTopics) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for topic := range t.im.Topics() {
			if !yield(topic.Name) {
				return
			}
		}
	}
}

// Revision implements consumer.Topics.
func (t groupTopics) Revision() int64 { return int64(t.im.Revision()) }

// Generation implements consumer.Topics.
func (t groupTopics) Generation() int64 { return t.generation }

// topicsForGroups tells the topics now. The generation grows with the numbers of topics and partitions: a topic that takes the place of
// another between two looks is found when regular expressions are matched anew at the latest.
func (b *Broker) topicsForGroups() func() consumer.Topics {
	var mu sync.Mutex
	var generation int64
	var topics, partitions int
	return func() consumer.Topics {
		im := b.meta.Image()
		mu.Lock()
		defer mu.Unlock()
		if im.NumTopics() != topics || im.NumPartitions() != partitions {
			topics, partitions = im.NumTopics(), im.NumPartitions()
			generation++
		}
		return groupTopics{im: im, generation: generation}
	}
}

// consumerSettings is what holds for a consumer group now.
func (s *serving) consumerSettings(string) consumer.Settings {
	im := s.broker.meta.Image()
	layers := configs.Layers{Broker: im.BrokerConfigs(s.broker.nodeID), Cluster: im.BrokerConfigs(metadata.ClusterDefault)}
	number := func(name string) int64 { return s.broker.configs.BrokerInt(layers, "group.consumer."+name) }
	return consumer.Settings{
		SessionTimeoutMillis:    int32(number("session.timeout.ms")),
		HeartbeatIntervalMillis: int32(number("heartbeat.interval.ms")),
		MaxMembers:              int(number("max.size")),
		RegexRefreshMillis:      number("regex.refresh.interval.ms"),
		Assignors:               s.broker.configs.BrokerList(layers, "group.consumer.assignors"),
	}
}

// brokerString is a broker config of type string as it stands now.
func (s *serving) brokerString(name string) string {
	im := s.broker.meta.Image()
	layers := configs.Layers{Broker: im.BrokerConfigs(s.broker.nodeID), Cluster: im.BrokerConfigs(metadata.ClusterDefault)}
	return s.broker.configs.BrokerString(layers, name)
}
