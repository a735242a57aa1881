package handler

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
)

func (f *logFixture) listOffset(version int16, topic string, index int32, ts int64, epoch int32) kmsg.ListOffsetsResponseTopicPartition {
	f.t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp, p.CurrentLeaderEpoch = index, ts, epoch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return call[*kmsg.ListOffsetsResponse](f.fixture, version, req).Topics[0].Partitions[0]
}

func TestListOffsets(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	send := func(ts ...int64) {
		var b batch.Builder
		for _, ms := range ts {
			b.Add(ms, []byte("k"), nil)
		}
		raw, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		f.send(topic, 0, raw)
	}
	send(100, 200)
	send(500, 300)
	send(400)
	versions(t, 2, func(t *testing.T, version int16) {
		for _, tt := range []struct {
			ts, offset, answerTs int64
			epoch                int32
			since                int16
		}{
			{ts: -1, offset: 5, answerTs: -1, since: 1},
			{ts: -2, offset: 0, answerTs: -1, since: 1},
			{ts: -3, offset: 2, answerTs: 500, since: 7},
			{ts: -4, offset: 0, answerTs: -1, since: 8},
			{ts: -5, offset: -1, answerTs: -1, epoch: -1, since: 9},
			{ts: -6, offset: 0, answerTs: -1, since: 11},
			{ts: -7, since: 99},
			{ts: 0, offset: 0, answerTs: 100, since: 1},
			{ts: 150, offset: 1, answerTs: 200, since: 1},
			{ts: 201, offset: 2, answerTs: 500, since: 1},
			{ts: 501, offset: -1, answerTs: -1, epoch: -1, since: 1},
		} {
			got := f.listOffset(version, "t", 0, tt.ts, -1)
			if version < tt.since {
				if got.ErrorCode != kerr.UnsupportedVersion.Code || got.Offset != -1 {
					t.Errorf("%d: %+v", tt.ts, got)
				}
				continue
			}
			epoch := tt.epoch
			if version < 4 {
				epoch = -1
			}
			if got.ErrorCode != 0 || got.Offset != tt.offset || got.Timestamp != tt.answerTs || got.LeaderEpoch != epoch {
				t.Errorf("%d: %+v", tt.ts, got)
			}
		}
		if got := f.listOffset(version, "t", 1, -3, -1); version >= 7 && (got.ErrorCode != 0 || got.Offset != -1) {
			t.Errorf("empty partition: %+v", got)
		}
		if got := f.listOffset(version, "t", 2, -1, -1); got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("unknown partition: %+v", got)
		}
		if got := f.listOffset(version, "x", 0, -1, -1); got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("unknown topic: %+v", got)
		}
		if got := f.listOffset(version, "t", 0, -1, 1); version >= 4 && got.ErrorCode != kerr.UnknownLeaderEpoch.Code {
			t.Errorf("epoch of the future: %+v", got)
		}
	})
	f.upload(topic, 0, 4)
	for ts, want := range map[int64]int64{-4: 4, -5: 3, -6: 4, -2: 0} {
		if got := f.listOffset(11, "t", 0, ts, -1); got.ErrorCode != 0 || got.Offset != want {
			t.Errorf("after the upload: %d: %+v, want %d", ts, got, want)
		}
	}
}

func TestListOffsetsTwice(t *testing.T) {
	f := newLogFixture(t, nil)
	f.create("t", 2)
	req := kmsg.NewPtrListOffsetsRequest()
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = "t"
	for _, index := range []int32{0, 1, 0} {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = index, -1
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = append(req.Topics, topic)
	got := call[*kmsg.ListOffsetsResponse](f.fixture, 5, req).Topics[0].Partitions
	if got[0].ErrorCode != kerr.InvalidRequest.Code || got[1].ErrorCode != 0 || got[2].ErrorCode != kerr.InvalidRequest.Code {
		t.Fatalf("%+v", got)
	}
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	f.send(topic, 0, records(t, 5, 1, nil))
	versions(t, 23, func(t *testing.T, version int16) {
		for _, tt := range []struct {
			topic               string
			index, current, ask int32
			code                int16
			epoch               int32
			end                 int64
		}{
			{topic: "t", current: -1, ask: 0, epoch: 0, end: 5},
			{topic: "t", current: 0, ask: 0, epoch: 0, end: 5},
			{topic: "t", current: -1, ask: 1, epoch: -1, end: -1},
			{topic: "t", current: -1, ask: -1, epoch: -1, end: -1},
			{topic: "t", current: 1, ask: 0, code: kerr.UnknownLeaderEpoch.Code, epoch: -1, end: -1},
			{topic: "t", index: 1, current: -1, code: kerr.UnknownTopicOrPartition.Code, epoch: -1, end: -1},
			{topic: "x", current: -1, code: kerr.UnknownTopicOrPartition.Code, epoch: -1, end: -1},
		} {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic = tt.topic
			p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = tt.index, tt.current, tt.ask
			rt.Partitions = append(rt.Partitions, p)
			req.Topics = append(req.Topics, rt)
			got := call[*kmsg.OffsetForLeaderEpochResponse](f.fixture, version, req).Topics[0].Partitions[0]
			if got.ErrorCode != tt.code || got.LeaderEpoch != tt.epoch || got.EndOffset != tt.end {
				t.Errorf("%+v: %+v", tt, got)
			}
		}
	})
}

func TestDeleteRecords(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	f.create("compacted", 1, "cleanup.policy", "compact")
	f.create("both", 1, "cleanup.policy", "compact,delete")
	one := func(version int16, topic string, index int32, to int64) kmsg.DeleteRecordsResponseTopicPartition {
		t.Helper()
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.TimeoutMillis = 5000
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = topic
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = index, to
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		return call[*kmsg.DeleteRecordsResponse](f.fixture, version, req).Topics[0].Partitions[0]
	}
	start := int64(0)
	versions(t, 21, func(t *testing.T, version int16) {
		f.send(topic, 0, records(t, 5, 1, nil))
		start += 5
		for _, tt := range []struct {
			topic string
			index int32
			to    int64
			code  int16
			low   int64
		}{
			{"t", 0, start - 2, 0, start - 2},
			{"t", 0, start - 3, 0, start - 2},
			{"t", 0, start + 1, kerr.OffsetOutOfRange.Code, -1},
			{"t", 0, -2, kerr.OffsetOutOfRange.Code, -1},
			{"t", 0, -1, 0, start},
			{"t", 1, -1, 0, 0},
			{"t", 2, -1, kerr.UnknownTopicOrPartition.Code, -1},
			{"x", 0, -1, kerr.UnknownTopicOrPartition.Code, -1},
			{"compacted", 0, -1, kerr.PolicyViolation.Code, -1},
			{"both", 0, -1, 0, 0},
		} {
			if got := one(version, tt.topic, tt.index, tt.to); got.ErrorCode != tt.code || got.LowWatermark != tt.low {
				t.Errorf("%+v: %+v", tt, got)
			}
		}
	})
	stored, ok := f.Meta.Image().Partition(metadata.PartitionID{Topic: topic.ID})
	if !ok || int64(stored.LogStart) != start {
		t.Fatalf("metadata says %+v", stored)
	}
}
