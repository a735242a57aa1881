package handler

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// What an unauthenticated client may do, as bits of Kafka's AclOperation: everything that the resource knows.
const (
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11 // read, write, create, delete, alter, describe, describe and alter configs
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12       // create, alter, describe, cluster action, describe and alter configs, idempotent write
)

const (
	noLeader          = -1
	autoCreateTimeout = 10 * time.Second
	maxAutoCreate     = 100 // topics that one Metadata request may create
)

// metadata answers Metadata (3).
func (b *Broker) metadata(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.MetadataRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrMetadataResponse()
	all := req.Topics == nil || h.Version == 0 && len(req.Topics) == 0
	if code := checkMetadataRequest(h.Version, all, req.Topics); code != 0 {
		return refuseMetadata(resp, code, req.Topics), nil
	}
	switch {
	case all:
		im := b.Meta.Image()
		for t := range im.Topics() {
			resp.Topics = append(resp.Topics, describeTopic(im, t))
		}
	default:
		resp.Topics = b.namedTopics(ctx, h, req)
	}
	im := b.Meta.Image()
	for _, broker := range im.Brokers() {
		entry := kmsg.NewMetadataResponseBroker()
		entry.NodeID, entry.Host, entry.Port = int32(broker.ID), broker.Host, broker.Port
		if broker.Rack != "" {
			entry.Rack = kmsg.StringPtr(broker.Rack)
		}
		resp.Brokers = append(resp.Brokers, entry)
	}
	resp.ClusterID = kmsg.StringPtr(im.ClusterID())
	resp.ControllerID = int32(im.Controller())
	if h.Version >= 8 && h.Version <= 10 && req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	if h.Version >= 8 && req.IncludeTopicAuthorizedOperations {
		for i := range resp.Topics {
			if resp.Topics[i].Topic != nil {
				resp.Topics[i].AuthorizedOperations = topicOperations
			}
		}
	}
	return resp, nil
}

// checkMetadataRequest finds names and ids that the version does not allow: topics are asked for by id from v12 on only.
func checkMetadataRequest(version int16, all bool, topics []kmsg.MetadataRequestTopic) int16 {
	if all || version >= 12 {
		return 0
	}
	for _, t := range topics {
		if t.Topic == nil || t.TopicID != [16]byte{} {
			return kerr.InvalidRequest.Code
		}
	}
	return 0
}

func refuseMetadata(resp *kmsg.MetadataResponse, code int16, topics []kmsg.MetadataRequestTopic) *kmsg.MetadataResponse {
	resp.ControllerID = -1
	resp.ErrorCode = code
	for _, t := range topics {
		entry := kmsg.NewMetadataResponseTopic()
		entry.ErrorCode, entry.TopicID, entry.Topic = code, t.TopicID, t.Topic
		if entry.Topic == nil {
			entry.Topic = kmsg.StringPtr("") // not nullable before v12
		}
		resp.Topics = append(resp.Topics, entry)
	}
	return resp
}

// namedTopics describes the topics that the request names: by id if any id is given, as Kafka does, else by name.
func (b *Broker) namedTopics(ctx context.Context, h wire.Header, req *kmsg.MetadataRequest) []kmsg.MetadataResponseTopic {
	topics := make([]kmsg.MetadataResponseTopic, 0, len(req.Topics))
	im := b.Meta.Image()
	byID := false
	seenIDs := make(map[[16]byte]bool)
	for _, t := range req.Topics {
		if t.TopicID == [16]byte{} || seenIDs[t.TopicID] {
			continue
		}
		byID, seenIDs[t.TopicID] = true, true
		if topic, ok := im.TopicByID(t.TopicID); ok {
			topics = append(topics, describeTopic(im, topic))
			continue
		}
		entry := kmsg.NewMetadataResponseTopic()
		entry.ErrorCode, entry.TopicID = kerr.UnknownTopicID.Code, t.TopicID
		topics = append(topics, entry)
	}
	if byID {
		return topics
	}

	create := h.Version < 4 || req.AllowAutoTopicCreation
	create = create && b.Configs.BrokerBool(b.layers(im), configs.AutoCreateTopics)
	created := 0
	seen := make(map[string]bool, len(req.Topics))
	for _, t := range req.Topics {
		if t.Topic == nil || seen[*t.Topic] {
			continue
		}
		name := *t.Topic
		seen[name] = true
		topic, ok := im.Topic(name)
		if !ok && create && created < maxAutoCreate && checkTopicName(name) == nil && !isInternal(name) && name != clusterMetadataTopic {
			created++
			if err := b.autoCreate(ctx, name); err != nil {
				topics = append(topics, missingTopic(name, err))
				continue
			}
			im = b.Meta.Image()
			topic, ok = im.Topic(name)
		}
		if !ok {
			topics = append(topics, missingTopic(name, unknownTopic(name)))
			continue
		}
		topics = append(topics, describeTopic(im, topic))
	}
	return topics
}

func missingTopic(name string, err error) kmsg.MetadataResponseTopic {
	entry := kmsg.NewMetadataResponseTopic()
	entry.Topic, entry.IsInternal = kmsg.StringPtr(name), isInternal(name)
	entry.ErrorCode, _, _ = verdict(err)
	return entry
}

// autoCreate makes a topic with the broker's defaults. Where Kafka answers UNKNOWN_TOPIC_OR_PARTITION and lets the client
// ask again, the topic is ready on return here; only a creation that takes too long is answered Kafka's way.
func (b *Broker) autoCreate(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, autoCreateTimeout)
	defer cancel()
	spec := kmsg.NewCreateTopicsRequestTopic()
	spec.Topic, spec.NumPartitions, spec.ReplicationFactor = name, -1, -1
	_, err := b.createTopic(ctx, &spec, false)
	code, _, known := verdict(err)
	switch {
	case code == 0 || code == kerr.TopicAlreadyExists.Code: // made by somebody else meanwhile
		return nil
	case code == kerr.InvalidTopicException.Code:
		return err
	case !known:
		b.logger.ErrorContext(ctx, "automatic topic creation failed", "topic", name, "error", err)
	default:
		b.logger.WarnContext(ctx, "automatic topic creation failed", "topic", name, "error", err)
	}
	return kerr.UnknownTopicOrPartition
}

func describeTopic(im *metadata.Image, t *metadata.Topic) kmsg.MetadataResponseTopic {
	entry := kmsg.NewMetadataResponseTopic()
	entry.Topic, entry.TopicID, entry.IsInternal = kmsg.StringPtr(t.Name), t.ID, isInternal(t.Name)
	entry.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, t.Partitions)
	for i := range t.Partitions {
		part := kmsg.NewMetadataResponseTopicPartition()
		place := placeOf(im, t.ID, i)
		part.ErrorCode, part.Partition, part.Leader, part.LeaderEpoch = place.code, i, place.leader, place.epoch
		part.Replicas, part.ISR, part.OfflineReplicas = place.replicas, place.inSync, place.offline
		entry.Partitions = append(entry.Partitions, part)
	}
	return entry
}

// place is where a partition is served.
type place struct {
	code          int16
	leader, epoch int32
	replicas      []int32 // the owner alone: other copies are in the object store
	inSync        []int32
	offline       []int32
}

// placeOf looks up a partition's owner. An owner that is not registered, or that runs with another incarnation than the
// one that took the partition, is no leader yet.
func placeOf(im *metadata.Image, topic metadata.TopicID, partition int32) place {
	p, ok := im.Partition(metadata.PartitionID{Topic: topic, Partition: partition})
	if !ok || p.Owner == metadata.NoBroker {
		return place{code: kerr.LeaderNotAvailable.Code, leader: noLeader, epoch: -1}
	}
	at := place{leader: int32(p.Owner), epoch: int32(p.LeaderEpoch), replicas: []int32{int32(p.Owner)}}
	if owner, live := im.Broker(p.Owner); !live || owner.Incarnation != p.OwnerIncarnation {
		at.code, at.leader, at.offline = kerr.LeaderNotAvailable.Code, noLeader, at.replicas
		return at
	}
	at.inSync = at.replicas
	return at
}
