package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// The OffsetCommit versions that matter: no retention of its own any more (it had one from v2 on), an unknown group told as
// such; and the version of both offset APIs that names topics by id.
const (
	commitRetentionEnds = 5
	commitGroupNotFound = 9
	offsetsByTopicID    = 10

	brokerRetention = -1
)

// offsetCommit answers OffsetCommit (8). It blocks until the offsets are durable.
func (b *Broker) offsetCommit(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.OffsetCommitRequest) (kmsg.Response, error) {
	commit := &group.Commit{
		Group: req.Group, MemberID: req.MemberID, InstanceID: req.InstanceID, Generation: req.Generation, Version: h.Version,
		RetentionMillis: brokerRetention, UnknownGroup: kerr.GroupIDNotFound,
	}
	if h.Version < commitRetentionEnds {
		commit.RetentionMillis = req.RetentionTimeMillis
	}
	if h.Version < commitGroupNotFound {
		commit.UnknownGroup = kerr.IllegalGeneration
	}
	resp := kmsg.NewPtrOffsetCommitResponse()
	im := b.Meta.Image()
	var answers []*int16 // of the partitions that are asked of the coordinator, in its order
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		topic, unknown := findTopic(im, h.Version, t.Topic, t.TopicID)
		out := &resp.Topics[i]
		out.Topic, out.TopicID = t.Topic, t.TopicID
		out.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
		ask := group.CommitTopic{}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			out.Partitions[j].Partition = p.Partition
			switch {
			case topic == nil:
				out.Partitions[j].ErrorCode = unknown.Code
			case p.Partition < 0 || p.Partition >= topic.Partitions:
				out.Partitions[j].ErrorCode = kerr.UnknownTopicOrPartition.Code
			default:
				ask.Partitions = append(ask.Partitions, committed(p))
				answers = append(answers, &out.Partitions[j].ErrorCode)
			}
		}
		if len(ask.Partitions) > 0 {
			ask.Topic = topic.ID
			commit.Topics = append(commit.Topics, ask)
		}
	}
	if len(commit.Topics) == 0 {
		return resp, nil
	}
	// The coordinator bounds the wait by itself; a shutdown should not make a commit's outcome unknown that is milliseconds away.
	b.Groups.Commit(context.WithoutCancel(ctx), commit)
	for i := range commit.Topics {
		for j := range commit.Topics[i].Partitions {
			*answers[0] = groupCode(commit.Topics[i].Partitions[j].Err)
			answers = answers[1:]
		}
	}
	return resp, nil
}

func committed(p *kmsg.OffsetCommitRequestTopicPartition) group.CommitPartition {
	out := group.CommitPartition{
		Partition: p.Partition, Offset: metadata.Offset(p.Offset), LeaderEpoch: metadata.LeaderEpoch(p.LeaderEpoch),
	}
	if p.Metadata != nil {
		out.Metadata = *p.Metadata
	}
	return out
}

// findTopic finds a topic by its name, or from v10 of the offset APIs on by its id; else it tells the error to answer.
func findTopic(im *metadata.Image, version int16, name string, id [16]byte) (*metadata.Topic, *kerr.Error) {
	if version >= offsetsByTopicID {
		if topic, ok := im.TopicByID(id); ok {
			return topic, nil
		}
		return nil, kerr.UnknownTopicID
	}
	if topic, ok := im.Topic(name); ok {
		return topic, nil
	}
	return nil, kerr.UnknownTopicOrPartition
}
