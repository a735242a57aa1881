package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// offsetForLeaderEpoch answers OffsetForLeaderEpoch (23).
func (b *Broker) offsetForLeaderEpoch(_ context.Context, _ *server.Conn, _ wire.Header, req *kmsg.OffsetForLeaderEpochRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	im := b.Meta.Image()
	for i := range req.Topics {
		t, _ := im.Topic(req.Topics[i].Topic)
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = req.Topics[i].Topic
		for j := range req.Topics[i].Partitions {
			out.Partitions = append(out.Partitions, b.epochEnd(t, &req.Topics[i].Partitions[j]))
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

func (b *Broker) epochEnd(t *metadata.Topic, ask *kmsg.OffsetForLeaderEpochRequestTopicPartition) kmsg.OffsetForLeaderEpochResponseTopicPartition {
	part := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
	part.Partition, part.LeaderEpoch, part.EndOffset = ask.Partition, -1, -1
	p, code := b.partitionOf(t, ask.Partition)
	if code != 0 {
		part.ErrorCode = code
		return part
	}
	if err := p.CheckEpoch(ask.CurrentLeaderEpoch); err != nil {
		part.ErrorCode, _ = logCode(err)
		return part
	}
	end := p.EpochEnd(metadata.LeaderEpoch(ask.LeaderEpoch))
	part.LeaderEpoch, part.EndOffset = int32(end.Epoch), int64(end.End)
	return part
}
