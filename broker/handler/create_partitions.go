package handler

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// createPartitions answers CreatePartitions (37).
func (b *Broker) createPartitions(ctx context.Context, _ *server.Conn, _ wire.Header, req *kmsg.CreatePartitionsRequest) (kmsg.Response, error) {
	ctx, cancel := adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrCreatePartitionsResponse()
	times := make(map[string]int, len(req.Topics))
	for _, t := range req.Topics {
		times[t.Topic]++
	}
	added := int64(0)
	for i := range req.Topics {
		t := &req.Topics[i]
		n := times[t.Topic]
		times[t.Topic] = 0
		if n == 0 {
			continue
		}
		err := error(nil)
		if n > 1 {
			err = invalidRequest("Duplicate topic name.")
		} else {
			err = b.addPartitions(ctx, t, &added, req.ValidateOnly)
		}
		result := kmsg.NewCreatePartitionsResponseTopic()
		result.Topic = t.Topic
		result.ErrorCode, result.ErrorMessage = b.answer(ctx, "CreatePartitions", err)
		resp.Topics = append(resp.Topics, result)
	}
	return resp, nil
}

// addPartitions checks one topic in Kafka's order (ReplicationControlManager.createPartitions), and unless validateOnly
// adds the partitions and opens them. added counts over the request.
func (b *Broker) addPartitions(ctx context.Context, t *kmsg.CreatePartitionsRequestTopic, added *int64, validateOnly bool) error {
	im := b.Meta.Image()
	topic, ok := im.Topic(t.Topic)
	if !ok {
		return kerr.UnknownTopicOrPartition
	}
	more := int64(t.Count) - int64(topic.Partitions)
	switch {
	case more == 0:
		return refuse(kerr.InvalidPartitions, "Topic already has %d partition(s).", topic.Partitions)
	case more < 0:
		return refuse(kerr.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", t.Topic, topic.Partitions, t.Count)
	case *added+more > maxPartitionsPerRequest:
		return refuse(kerr.PolicyViolation, "Excessively large number of partitions per request: at most %d are allowed.", maxPartitionsPerRequest)
	case t.Count > metadata.MaxTopicPartitions:
		return refuse(kerr.InvalidPartitions, "Number of partitions is %d; a topic may have %d at most.", t.Count, metadata.MaxTopicPartitions)
	}
	if t.Assignment != nil {
		if int64(len(t.Assignment)) != more {
			return refuse(kerr.InvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", more, len(t.Assignment))
		}
		for _, a := range t.Assignment {
			// Clients see one replica per partition, the owner, so that is what they assign.
			if err := checkReplicas(im, a.Replicas, 1); err != nil {
				return err
			}
		}
	}
	*added += more
	place := b.spread(im, topic.Partitions, int32(more))
	if t.Assignment != nil {
		leaders := make([]metadata.BrokerID, more)
		for i, a := range t.Assignment {
			leaders[i] = metadata.BrokerID(a.Replicas[0])
		}
		place = leadBy(im, topic.Partitions, leaders)
	}
	if validateOnly {
		return nil
	}
	before := topic.Partitions
	if err := b.Meta.AddPartitions(ctx, topic.ID, t.Count, b.NodeID, b.Incarnation(), place); err != nil {
		if errors.Is(err, metadata.ErrExists) {
			return refuse(kerr.InvalidPartitions, "Topic already has %d partition(s).", t.Count)
		}
		return err
	}
	topic, ok = b.Meta.Image().TopicByID(topic.ID)
	if !ok {
		return kerr.UnknownTopicOrPartition
	}
	b.logger.InfoContext(ctx, "partitions added", "topic", topic.Name, "from", before, "to", topic.Partitions)
	return b.openPartitions(context.WithoutCancel(ctx), topic, before)
}
