package handler

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// describeTopicPartitions answers DescribeTopicPartitions (75, KIP-966): topics by name, a page of partitions at a time.
// A cursor that the request's own list does not allow is answered with INVALID_REQUEST for each topic: the response has no
// other place for it.
func (b *Broker) describeTopicPartitions(_ context.Context, _ *server.Conn, _ wire.Header, req *kmsg.DescribeTopicPartitionsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	im := b.Meta.Image()
	names, err := pageTopics(im, req)
	if err != nil {
		for _, t := range req.Topics {
			resp.Topics = append(resp.Topics, undescribed(t.Topic, err))
		}
		if len(req.Topics) == 0 {
			resp.Topics = append(resp.Topics, undescribed(req.Cursor.Topic, err))
		}
		return resp, nil
	}
	remaining := int32(b.Configs.BrokerInt(b.layers(im), configs.MaxRequestPartitions))
	remaining = max(min(remaining, req.ResponsePartitionLimit), 1)
	for _, name := range names {
		first := int32(0)
		if req.Cursor != nil && req.Cursor.Topic == name {
			first = req.Cursor.Partition
		}
		if remaining == 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: 0}
			break
		}
		topic, ok := im.Topic(name)
		if !ok {
			resp.Topics = append(resp.Topics, undescribed(name, unknownTopic(name)))
			continue
		}
		last := min(int64(topic.Partitions), int64(first)+int64(remaining))
		entry := describePartitions(im, topic, first, int32(last))
		resp.Topics = append(resp.Topics, entry)
		if int32(last) < topic.Partitions {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: int32(last)}
			break
		}
		remaining -= int32(len(entry.Partitions))
	}
	return resp, nil
}

// pageTopics lists the names to describe, sorted, from the cursor's on.
func pageTopics(im *metadata.Image, req *kmsg.DescribeTopicPartitionsRequest) ([]string, error) {
	from := ""
	if req.Cursor != nil {
		from = req.Cursor.Topic
	}
	var names []string
	if len(req.Topics) == 0 {
		for t := range im.Topics() {
			if t.Name >= from {
				names = append(names, t.Name)
			}
		}
	} else {
		for _, t := range req.Topics {
			if t.Topic >= from {
				names = append(names, t.Topic)
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
		if req.Cursor != nil && !slices.Contains(names, from) {
			return nil, invalidRequest("DescribeTopicPartitionsRequest topic list should contain the cursor topic: %s", from)
		}
	}
	if req.Cursor != nil && req.Cursor.Partition < 0 {
		return nil, invalidRequest("DescribeTopicPartitionsRequest cursor partition must be valid: %d", req.Cursor.Partition)
	}
	return names, nil
}

func undescribed(name string, err error) kmsg.DescribeTopicPartitionsResponseTopic {
	entry := kmsg.NewDescribeTopicPartitionsResponseTopic()
	entry.Topic, entry.IsInternal, entry.AuthorizedOperations = kmsg.StringPtr(name), isInternal(name), topicOperations
	entry.ErrorCode, _, _ = verdict(err)
	return entry
}

// describePartitions describes the partitions [first, last) of a topic.
func describePartitions(im *metadata.Image, topic *metadata.Topic, first, last int32) kmsg.DescribeTopicPartitionsResponseTopic {
	entry := kmsg.NewDescribeTopicPartitionsResponseTopic()
	entry.Topic, entry.TopicID, entry.IsInternal = kmsg.StringPtr(topic.Name), topic.ID, isInternal(topic.Name)
	entry.AuthorizedOperations = topicOperations
	for i := first; i < last; i++ {
		at := placeOf(im, topic.ID, i)
		part := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		part.Partition, part.LeaderID, part.LeaderEpoch = i, at.leader, at.epoch
		part.Replicas, part.ISR, part.OfflineReplicas = at.replicas, at.inSync, at.offline
		part.EligibleLeaderReplicas, part.LastKnownELR = []int32{}, []int32{}
		entry.Partitions = append(entry.Partitions, part)
	}
	return entry
}
