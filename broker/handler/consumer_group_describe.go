package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group/consumer"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// Types of members in ConsumerGroupDescribe, from v1.
const (
	classicMember  int8 = 0
	consumerMember int8 = 1
)

// consumerGroupDescribe answers ConsumerGroupDescribe (69, KIP-848).
func (b *Broker) consumerGroupDescribe(_ context.Context, _ *server.Conn, _ wire.Header, req *kmsg.ConsumerGroupDescribeRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	im := b.Meta.Image()
	for _, id := range req.Groups {
		out := b.describeConsumers(im, id)
		if req.IncludeAuthorizedOperations && out.ErrorCode == 0 {
			out.AuthorizedOperations = groupOperations
		}
		resp.Groups = append(resp.Groups, out)
	}
	return resp, nil
}

func (b *Broker) describeConsumers(im *metadata.Image, id string) kmsg.ConsumerGroupDescribeResponseGroup {
	out := kmsg.NewConsumerGroupDescribeResponseGroup()
	out.Group = id
	d, why := b.Groups.DescribeConsumers(id)
	if why.Err != nil {
		out.ErrorCode, out.ErrorMessage = why.Err.Code, refusalText(&why)
		return out
	}
	out.State, out.Epoch, out.AssignmentEpoch, out.AssignorName = d.State.String(), d.Epoch, d.AssignmentEpoch, d.Assignor
	for i := range d.Members {
		m := &d.Members[i]
		member := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		member.MemberID, member.InstanceID, member.RackID, member.MemberEpoch = m.MemberID, m.InstanceID, m.RackID, m.Epoch
		member.ClientID, member.ClientHost, member.SubscribedTopics = m.ClientID, m.ClientHost, m.Names
		if m.Regex != "" {
			member.SubscribedTopicRegex = &m.Regex
		}
		member.Assignment, member.TargetAssignment = describeAssignment(im, m.Assigned), describeAssignment(im, m.Target)
		if member.MemberType = consumerMember; m.Classic {
			member.MemberType = classicMember
		}
		out.Members = append(out.Members, member)
	}
	return out
}

// describeAssignment names the topics; those that are gone are left out.
func describeAssignment(im *metadata.Image, a consumer.Assignment) kmsg.Assignment {
	out := kmsg.NewAssignment()
	for _, id := range a.Topics() {
		topic, ok := im.TopicByID(metadata.TopicID(id))
		if !ok {
			continue
		}
		out.TopicPartitions = append(out.TopicPartitions, kmsg.AssignmentTopicPartition{TopicID: id, Topic: topic.Name, Partitions: a[id]})
	}
	return out
}
