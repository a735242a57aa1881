package main

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	settleEvery = 10 * time.Millisecond
	settleWait  = 5 * time.Second
)

// await repeats until done says so. Kafka answers before all of its parts know what they answered; a difference that passes in
// milliseconds is none.
func await(done func() bool) {
	for until := time.Now().Add(settleWait); !done() && time.Now().Before(until); {
		time.Sleep(settleEvery)
	}
}

// awaitPartition waits until a partition that was made is served.
func (s *side) awaitPartition(short string, partition int32) {
	await(func() bool {
		req := kmsg.NewPtrListOffsetsRequest()
		req.Version, req.ReplicaID = 4, -1
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = s.full(short)
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = partition, -1, -1
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		resp, err := s.ask(req)
		if err != nil {
			return false
		}
		r := resp.(*kmsg.ListOffsetsResponse)
		return len(r.Topics) == 1 && len(r.Topics[0].Partitions) == 1 && r.Topics[0].Partitions[0].ErrorCode == 0
	})
}

// awaitGone waits until a deleted topic is unknown.
func (s *side) awaitGone(short string) {
	await(func() bool {
		req := kmsg.NewPtrMetadataRequest()
		req.Version = 9
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(s.full(short))
		req.Topics = append(req.Topics, t)
		resp, err := s.ask(req)
		return err == nil && len(resp.(*kmsg.MetadataResponse).Topics) == 1 && resp.(*kmsg.MetadataResponse).Topics[0].ErrorCode == kerr.UnknownTopicOrPartition.Code
	})
}

// warm waits until a side gives producer ids and coordinates groups, for which Kafka makes topics when it is first asked.
func (s *side) warm() error {
	s.begin("warm-")
	ready := false
	for began := time.Now(); !ready; {
		if time.Since(began) > time.Minute {
			return errors.New(s.name + " does not coordinate")
		}
		id := kmsg.NewPtrInitProducerIDRequest()
		id.TransactionTimeoutMillis = 60000
		a, err := s.ask(id)
		if err != nil {
			return err
		}
		commit := kmsg.NewPtrOffsetFetchRequest()
		commit.Version, commit.Group = 5, "warm"
		b, err := s.ask(commit)
		if err != nil {
			return err
		}
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorKey = 2, "warm"
		if _, err := s.ask(find); err != nil {
			return err
		}
		ready = a.(*kmsg.InitProducerIDResponse).ErrorCode == 0 && b.(*kmsg.OffsetFetchResponse).ErrorCode == 0
		time.Sleep(settleEvery)
	}
	return nil
}
