package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group/consumer"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// consumerGroupHeartbeat answers ConsumerGroupHeartbeat (68, KIP-848). It blocks until what it tells is durable.
func (b *Broker) consumerGroupHeartbeat(ctx context.Context, c *server.Conn, h wire.Header, req *kmsg.ConsumerGroupHeartbeatRequest) (kmsg.Response, error) {
	r := consumer.HeartbeatRequest{
		Version: h.Version, MemberID: req.MemberID, Epoch: req.MemberEpoch, InstanceID: req.InstanceID, RackID: req.RackID,
		ClientID: h.ClientID, ClientHost: clientHost(c), RebalanceTimeoutMillis: req.RebalanceTimeoutMillis,
		Names: req.SubscribedTopicNames, Regex: req.SubscribedTopicRegex, Assignor: req.ServerAssignor,
		OwnedKnown: req.Topics != nil, Owned: make(consumer.Assignment, len(req.Topics)),
	}
	for _, t := range req.Topics {
		r.Owned[t.TopicID] = append(r.Owned[t.TopicID], t.Partitions...)
	}
	reply := b.Groups.ConsumerHeartbeat(ctx, req.Group, r)
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	if reply.Err != nil {
		resp.ErrorCode = reply.Err.Code
		resp.ErrorMessage = refusalText(&reply.Refusal)
		return resp, nil
	}
	resp.MemberID, resp.MemberEpoch, resp.HeartbeatIntervalMillis = &reply.MemberID, reply.Epoch, reply.HeartbeatIntervalMillis
	if reply.Assignment != nil {
		resp.Assignment = &kmsg.ConsumerGroupHeartbeatResponseAssignment{Topics: []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{}}
		for _, id := range reply.Assignment.Topics() {
			resp.Assignment.Topics = append(resp.Assignment.Topics, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{
				TopicID: id, Partitions: reply.Assignment[id],
			})
		}
	}
	return resp, nil
}

// refusalText is the text that goes with a refusal's error; nil when there is none but the error's own.
func refusalText(r *consumer.Refusal) *string {
	if r.Message == "" {
		return &r.Err.Description
	}
	return &r.Message
}
