package handler

import (
	"cmp"
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// The OffsetFetch versions from which a group's error has a place of its own, and several groups may be asked for.
const (
	offsetFetchErrorCode = 2
	offsetFetchGroups    = 8
)

// offsetFetch answers OffsetFetch (9): one group up to v7, several from v8 on.
func (b *Broker) offsetFetch(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.OffsetFetchRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrOffsetFetchResponse()
	if h.Version >= offsetFetchGroups {
		for i := range req.Groups {
			resp.Groups = append(resp.Groups, b.fetchOffsets(ctx, h.Version, &req.Groups[i], req.RequireStable))
		}
		return resp, nil
	}
	asked := kmsg.NewOffsetFetchRequestGroup()
	asked.Group = req.Group
	if req.Topics != nil {
		asked.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range req.Topics {
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic, topic.Partitions = t.Topic, t.Partitions
		asked.Topics = append(asked.Topics, topic)
	}
	return singleGroup(h.Version, &asked, b.fetchOffsets(ctx, h.Version, &asked, req.RequireStable), resp), nil
}

// singleGroup puts one group's answer into the form that versions before v8 have. v1 has no place for the group's error but in
// each partition.
func singleGroup(version int16, asked *kmsg.OffsetFetchRequestGroup, g kmsg.OffsetFetchResponseGroup, resp *kmsg.OffsetFetchResponse) *kmsg.OffsetFetchResponse {
	if g.ErrorCode != 0 && version < offsetFetchErrorCode {
		for _, t := range asked.Topics {
			g.Topics = append(g.Topics, allFailed(&t, g.ErrorCode))
		}
	}
	resp.ErrorCode = g.ErrorCode
	for _, t := range g.Topics {
		topic := kmsg.NewOffsetFetchResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			part := kmsg.NewOffsetFetchResponseTopicPartition()
			part.Partition, part.Offset, part.LeaderEpoch, part.Metadata, part.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			topic.Partitions = append(topic.Partitions, part)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

// fetchOffsets answers for one group. A topic name that is not known has no offsets, without an error; an unknown id is one.
func (b *Broker) fetchOffsets(ctx context.Context, version int16, req *kmsg.OffsetFetchRequestGroup, stable bool) kmsg.OffsetFetchResponseGroup {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = req.Group
	if err := b.Groups.CheckFetch(req.Group, req.MemberID, req.MemberEpoch); err != nil {
		resp.ErrorCode = groupCode(err)
		return resp
	}
	im := b.Meta.Image()
	if req.Topics == nil {
		offsets, err := b.Groups.FetchOffsets(ctx, req.Group, nil, stable)
		resp.ErrorCode = groupCode(err)
		resp.Topics = everyTopic(im, version, offsets)
		return resp
	}
	asked := make([]group.TopicPartitions, 0, len(req.Topics))
	for _, t := range req.Topics {
		ask := group.TopicPartitions{Partitions: t.Partitions} // the zero id of an unknown topic has no offsets
		if topic, _ := findTopic(im, version, t.Topic, t.TopicID); topic != nil {
			ask.Topic = topic.ID
		}
		asked = append(asked, ask)
	}
	offsets, err := b.Groups.FetchOffsets(ctx, req.Group, asked, stable)
	if err != nil {
		resp.ErrorCode = groupCode(err)
		return resp
	}
	for i := range offsets {
		t := &req.Topics[i]
		if version >= offsetsByTopicID && offsets[i].Topic == (metadata.TopicID{}) {
			resp.Topics = append(resp.Topics, allFailed(t, kerr.UnknownTopicID.Code))
			continue
		}
		out := kmsg.NewOffsetFetchResponseGroupTopic()
		out.Topic, out.TopicID, out.Partitions = t.Topic, t.TopicID, partitionOffsets(offsets[i].Partitions)
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

// everyTopic names topics as the version does, and sorts them.
func everyTopic(im *metadata.Image, version int16, offsets []group.TopicOffsets) []kmsg.OffsetFetchResponseGroupTopic {
	var all []kmsg.OffsetFetchResponseGroupTopic
	for i := range offsets {
		topic, ok := im.TopicByID(offsets[i].Topic)
		if !ok {
			continue
		}
		out := kmsg.NewOffsetFetchResponseGroupTopic()
		out.Topic, out.Partitions = topic.Name, partitionOffsets(offsets[i].Partitions)
		if version >= offsetsByTopicID {
			out.TopicID = topic.ID
		}
		all = append(all, out)
	}
	slices.SortFunc(all, func(a, b kmsg.OffsetFetchResponseGroupTopic) int { return cmp.Compare(a.Topic, b.Topic) })
	return all
}

func partitionOffsets(offsets []group.PartitionOffset) []kmsg.OffsetFetchResponseGroupTopicPartition {
	out := make([]kmsg.OffsetFetchResponseGroupTopicPartition, 0, len(offsets))
	for i := range offsets {
		o := &offsets[i]
		p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = o.Partition, int64(o.Offset), int32(o.LeaderEpoch)
		p.Metadata = &o.Metadata
		out = append(out, p)
	}
	return out
}

func allFailed(t *kmsg.OffsetFetchRequestGroupTopic, code int16) kmsg.OffsetFetchResponseGroupTopic {
	out := kmsg.NewOffsetFetchResponseGroupTopic()
	out.Topic, out.TopicID = t.Topic, t.TopicID
	for _, partition := range t.Partitions {
		p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.ErrorCode, p.Metadata = partition, -1, -1, code, kmsg.StringPtr("")
		out.Partitions = append(out.Partitions, p)
	}
	return out
}
