package handler

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// deleteRecordsParallel is how many partitions' log starts are moved at the same time.
const deleteRecordsParallel = 16

// deleteRecords answers DeleteRecords (21): the log start moves in the metadata and then on this broker; objects that
// nobody can read any more are deleted later.
func (b *Broker) deleteRecords(ctx context.Context, _ *server.Conn, _ wire.Header, req *kmsg.DeleteRecordsRequest) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(req.TimeoutMillis)*time.Millisecond, time.Second))
	defer cancel()
	resp := kmsg.NewPtrDeleteRecordsResponse()
	im := b.Meta.Image()
	resp.Topics = make([]kmsg.DeleteRecordsResponseTopic, len(req.Topics))
	var g errgroup.Group
	g.SetLimit(deleteRecordsParallel)
	for i := range req.Topics {
		t, _ := im.Topic(req.Topics[i].Topic)
		out := &resp.Topics[i]
		out.Topic = req.Topics[i].Topic
		out.Partitions = make([]kmsg.DeleteRecordsResponseTopicPartition, len(req.Topics[i].Partitions))
		for j := range req.Topics[i].Partitions {
			ask, part := &req.Topics[i].Partitions[j], &out.Partitions[j]
			g.Go(func() error {
				*part = b.deleteBefore(ctx, t, ask.Partition, metadata.Offset(ask.Offset))
				return nil
			})
		}
	}
	return resp, g.Wait()
}

func (b *Broker) deleteBefore(ctx context.Context, t *metadata.Topic, index int32, to metadata.Offset) kmsg.DeleteRecordsResponseTopicPartition {
	part := kmsg.NewDeleteRecordsResponseTopicPartition()
	part.Partition, part.LowWatermark = index, -1
	if t != nil && t.Internal {
		part.ErrorCode = kerr.InvalidTopicException.Code
		return part
	}
	p, code := b.partitionOf(t, index)
	if code != 0 {
		part.ErrorCode = code
		return part
	}
	if c := p.Config(); c.Compact && !c.Delete {
		part.ErrorCode = kerr.PolicyViolation.Code
		return part
	}
	start, err := p.AdvanceLogStart(ctx, to)
	if err != nil {
		var known bool
		if part.ErrorCode, known = logCode(err); !known {
			b.logger.Error("delete records failed", "topic", t.Name, "partition", index, "error", err)
		}
		return part
	}
	part.LowWatermark = int64(start)
	return part
}
