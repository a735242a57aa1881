package handler

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// The timestamps with a meaning of their own.
const (
	tsLatest                = -1
	tsEarliest              = -2
	tsMaxTimestamp          = -3 // KIP-734
	tsEarliestLocal         = -4 // KIP-405
	tsLatestTiered          = -5 // KIP-1005
	tsEarliestPendingUpload = -6 // KIP-1023
)

// timestampSince is the first version of ListOffsets that knows each special timestamp; other negative ones are unknown.
var timestampSince = map[int64]int16{
	tsLatest: 1, tsEarliest: 1, tsMaxTimestamp: 7, tsEarliestLocal: 8, tsLatestTiered: 9, tsEarliestPendingUpload: 11,
}

// notFound is the answer of a lookup without result.
var notFound = partition.Found{Offset: -1, TimestampMs: -1, LeaderEpoch: -1}

// listOffsets answers ListOffsets (2).
func (b *Broker) listOffsets(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.ListOffsetsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrListOffsetsResponse()
	im := b.Meta.Image()
	seen := make(map[string]map[int32]int)
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			if seen[req.Topics[i].Topic] == nil {
				seen[req.Topics[i].Topic] = make(map[int32]int)
			}
			seen[req.Topics[i].Topic][p.Partition]++
		}
	}
	for i := range req.Topics {
		t, _ := im.Topic(req.Topics[i].Topic)
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = req.Topics[i].Topic
		for j := range req.Topics[i].Partitions {
			ask := &req.Topics[i].Partitions[j]
			found, code := notFound, kerr.InvalidRequest.Code
			if seen[out.Topic][ask.Partition] == 1 {
				found, code = b.listOffset(ctx, t, h.Version, req.IsolationLevel, ask)
			}
			part := kmsg.NewListOffsetsResponseTopicPartition()
			part.Partition, part.ErrorCode = ask.Partition, code
			part.Offset, part.Timestamp, part.LeaderEpoch = int64(found.Offset), found.TimestampMs, int32(found.LeaderEpoch)
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// listOffset answers for one partition.
func (b *Broker) listOffset(ctx context.Context, t *metadata.Topic, version int16, isolation int8, ask *kmsg.ListOffsetsRequestTopicPartition) (partition.Found, int16) {
	if since, ok := timestampSince[ask.Timestamp]; ask.Timestamp < 0 && (!ok || version < since) {
		return notFound, kerr.UnsupportedVersion.Code
	}
	p, code := b.partitionOf(t, ask.Partition)
	if code != 0 {
		return notFound, code
	}
	epoch := int32(-1)
	if version >= 4 {
		epoch = ask.CurrentLeaderEpoch
	}
	if err := p.CheckEpoch(epoch); err != nil {
		code, _ = logCode(err)
		return notFound, code
	}
	found, err := lookup(ctx, p, ask.Timestamp, isolation)
	if err != nil {
		code, known := logCode(err)
		if !known {
			b.logger.Error("offset lookup failed", "topic", p.Topic(), "partition", ask.Partition, "timestamp", ask.Timestamp, "error", err)
		}
		return notFound, code
	}
	if version < 4 {
		found.LeaderEpoch = -1
	}
	return found, 0
}

// lookup finds the offset for a timestamp. Offsets that name a place rather than a record come without timestamp, as in Kafka.
func lookup(ctx context.Context, p *partition.Partition, ts int64, isolation int8) (partition.Found, error) {
	last := p.HighWatermark()
	if isolation == 1 {
		last = p.LastStable()
	}
	place := func(offset metadata.Offset) (partition.Found, error) {
		return partition.Found{Offset: offset, TimestampMs: -1, LeaderEpoch: p.EpochAt(offset)}, nil
	}
	var found partition.Found
	var ok bool
	var err error
	switch ts {
	case tsLatest:
		return partition.Found{Offset: last, TimestampMs: -1, LeaderEpoch: p.LeaderEpoch()}, nil
	case tsEarliest:
		return place(p.LogStart())
	case tsEarliestLocal:
		return place(max(p.LogStart(), p.TailStart()))
	case tsLatestTiered:
		if end := p.Uploaded(); end > p.LogStart() {
			return place(end - 1)
		}
		return notFound, nil
	case tsEarliestPendingUpload:
		return place(max(p.LogStart(), p.Uploaded()))
	case tsMaxTimestamp:
		found, ok, err = p.MaxTimestamp(ctx)
	default:
		found, ok, err = p.FindTimestamp(ctx, ts)
	}
	if err != nil || !ok || found.Offset >= last {
		return notFound, err
	}
	return found, nil
}
