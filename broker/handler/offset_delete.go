package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// offsetDelete answers OffsetDelete (47). Topics and partitions that are not there are refused one by one; the group is looked
// at even if none is left.
func (b *Broker) offsetDelete(ctx context.Context, _ *server.Conn, _ wire.Header, req *kmsg.OffsetDeleteRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	im := b.Meta.Image()
	topics := make([]kmsg.OffsetDeleteResponseTopic, len(req.Topics))
	var asked []group.TopicPartitions
	var answers [][]*int16 // of the partitions of each topic that is asked for
	for i, t := range req.Topics {
		out := &topics[i]
		out.Topic = t.Topic
		out.Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(t.Partitions))
		topic, known := im.Topic(t.Topic)
		var ask group.TopicPartitions
		var codes []*int16
		for j, p := range t.Partitions {
			out.Partitions[j].Partition = p.Partition
			code := &out.Partitions[j].ErrorCode
			if !known || p.Partition < 0 || p.Partition >= topic.Partitions {
				*code = kerr.UnknownTopicOrPartition.Code
				continue
			}
			ask.Topic, ask.Partitions = topic.ID, append(ask.Partitions, p.Partition)
			codes = append(codes, code)
		}
		if len(codes) > 0 {
			asked, answers = append(asked, ask), append(answers, codes)
		}
	}
	errs, err := b.Groups.DeleteOffsets(ctx, req.Group, asked)
	if err != nil {
		resp.ErrorCode = groupCode(err)
		return resp, nil
	}
	for i, codes := range answers {
		for _, code := range codes {
			*code = groupCode(errs[i])
		}
	}
	resp.Topics = topics
	return resp, nil
}
