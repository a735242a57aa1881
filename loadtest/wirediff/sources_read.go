package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func readSources() []source {
	return []source{
		{"Fetch", 20, drawFetch},
		{"Fetch", 10, drawFetchSession},
		{"ListOffsets", 10, drawListOffsets},
		{"OffsetForLeaderEpoch", 4, drawOffsetForLeaderEpoch},
		{"DeleteRecords", 4, drawDeleteRecords},
	}
}

// read is what one partition of a fetch asks for.
type read struct {
	topic            *topicPlan
	partition        int32
	offset           int64
	maxBytes         int32
	epoch, lastEpoch int32
}

func (p *plan) read() read {
	t := p.topic()
	r := read{topic: t, partition: p.partition(t), maxBytes: pick(p, int32(1<<20), 1<<20, 1<<20, 1, 200), epoch: -1, lastEpoch: -1}
	r.offset = p.offset(t, r.partition)
	if p.chance(6) {
		r.epoch = pick(p, int32(0), 0, 1, 5)
	}
	if p.chance(10) {
		r.lastEpoch = pick(p, int32(0), 0, 1)
	}
	return r
}

func (r read) add(s *side, req *kmsg.FetchRequest) {
	one := kmsg.NewFetchRequestTopic()
	one.Topic = s.full(r.topic.name)
	if req.Version >= 13 {
		one.TopicID = s.topicID(r.topic.name)
	}
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch, p.LastFetchedEpoch = r.partition, r.offset, r.maxBytes, r.epoch, r.lastEpoch
	one.Partitions = append(one.Partitions, p)
	req.Topics = append(req.Topics, one)
}

// apart keeps of several reads those of different topics: a fetch names each partition once.
func apart(reads []read) (out []read) {
	seen := map[string]bool{}
	for _, r := range reads {
		if !seen[r.topic.name] {
			out = append(out, r)
		}
		seen[r.topic.name] = true
	}
	return out
}

func fetchRequest(v int16) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MinBytes, req.MaxWaitMillis, req.SessionEpoch = v, 1<<20, 0, 20, -1
	return req
}

func drawFetch(p *plan) step {
	v, isolation, maxBytes := p.version(1), int8(p.IntN(2)), pick(p, int32(1<<20), 1<<20, 1, 300)
	reads := []read{p.read()}
	if maxBytes == 1<<20 { // with less, the order in which brokers go through topics shows
		reads = apart(append(reads, p.read()))
	}
	return one("Fetch", func(s *side) kmsg.Request {
		req := fetchRequest(v)
		req.IsolationLevel, req.MaxBytes = isolation, maxBytes
		for _, r := range reads {
			r.add(s, req)
		}
		return req
	}, nil)
}

// drawFetchSession makes a session with two partitions and asks in it three more times: with nothing new, with another partition or
// one that is forgotten, and with an epoch that is right or not.
func drawFetchSession(p *plan) step {
	v := p.since(1, 7)
	name := fmt.Sprintf("session %d", p.sessions)
	p.sessions++
	reads := apart([]read{p.read(), p.read()})
	third, forgotten := p.read(), reads[0]
	kind := p.IntN(6)
	session := func(s *side, resp kmsg.Response) {
		if r := resp.(*kmsg.FetchResponse); r.SessionID != 0 {
			s.sessions[name] = r.SessionID
		}
	}
	build := func(epoch int32) func(s *side) kmsg.Request {
		return func(s *side) kmsg.Request {
			req := fetchRequest(v)
			req.SessionEpoch = epoch
			if epoch != 0 {
				req.SessionID = s.sessions[name]
			}
			switch {
			case epoch == 0:
				for _, r := range reads {
					r.add(s, req)
				}
			case epoch == 2 && kind < 2:
				third.add(s, req)
			case epoch == 2 && kind == 2:
				f := kmsg.NewFetchRequestForgottenTopic()
				f.Topic, f.Partitions = s.full(forgotten.topic.name), []int32{forgotten.partition}
				if v >= 13 {
					f.TopicID = s.topicID(forgotten.topic.name)
				}
				req.ForgottenTopics = append(req.ForgottenTopics, f)
			case epoch == 3 && kind == 3:
				req.SessionEpoch = 7
			case epoch == 3 && kind == 4:
				req.SessionID += 12345
			case epoch == 3 && kind == 5:
				req.SessionEpoch = -1
			}
			return req
		}
	}
	st := step{label: "Fetch session", oneByOne: true}
	for epoch := range int32(4) {
		st.calls = append(st.calls, call{make: build(epoch), learn: session})
	}
	return st
}

func drawListOffsets(p *plan) step {
	v, t, isolation := p.version(2), p.topic(), int8(p.IntN(2))
	part := p.partition(t)
	at := pick(p, int64(-1), -1, -2, -2, -3, -4, -5, -6, -7, p.now, p.now+10, p.now-100, p.now+1000000, 0, p.now-7200_000)
	epoch := int32(-1)
	if p.chance(6) {
		epoch = pick(p, int32(0), 0, 1, 5)
	}
	return one(fmt.Sprintf("ListOffsets %d", max(-10, min(at, 0))), func(s *side) kmsg.Request {
		req := kmsg.NewPtrListOffsetsRequest()
		req.Version, req.ReplicaID, req.IsolationLevel, req.TimeoutMillis = v, -1, isolation, 5000
		one := kmsg.NewListOffsetsRequestTopic()
		one.Topic = s.full(t.name)
		pt := kmsg.NewListOffsetsRequestTopicPartition()
		pt.Partition, pt.Timestamp, pt.CurrentLeaderEpoch = part, at, epoch
		one.Partitions = append(one.Partitions, pt)
		req.Topics = append(req.Topics, one)
		return req
	}, nil)
}

func drawOffsetForLeaderEpoch(p *plan) step {
	v, t := p.version(23), p.topic()
	part, epoch, current := p.partition(t), pick(p, int32(0), 0, 0, 1, -1, 9), pick(p, int32(-1), -1, 0, 1)
	return one("OffsetForLeaderEpoch", func(s *side) kmsg.Request {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.Version, req.ReplicaID = v, -1
		one := kmsg.NewOffsetForLeaderEpochRequestTopic()
		one.Topic = s.full(t.name)
		pt := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		pt.Partition, pt.LeaderEpoch, pt.CurrentLeaderEpoch = part, epoch, current
		one.Partitions = append(one.Partitions, pt)
		req.Topics = append(req.Topics, one)
		return req
	}, nil)
}

func drawDeleteRecords(p *plan) step {
	v, t := p.version(21), p.topic()
	part := p.partition(t)
	at := pick(p, p.offset(t, part), p.offset(t, part)/2, -1)
	return one("DeleteRecords", func(s *side) kmsg.Request {
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Version, req.TimeoutMillis = v, 5000
		one := kmsg.NewDeleteRecordsRequestTopic()
		one.Topic = s.full(t.name)
		pt := kmsg.NewDeleteRecordsRequestTopicPartition()
		pt.Partition, pt.Offset = part, at
		one.Partitions = append(one.Partitions, pt)
		req.Topics = append(req.Topics, one)
		return req
	}, nil)
}
