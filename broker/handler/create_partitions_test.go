package handler

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func growth(name string, count int32, replicas ...[]int32) kmsg.CreatePartitionsRequestTopic {
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = name, count
	for _, r := range replicas {
		a := kmsg.NewCreatePartitionsRequestTopicAssignment()
		a.Replicas = r
		t.Assignment = append(t.Assignment, a)
	}
	return t
}

func TestCreatePartitions(t *testing.T) {
	versions(t, 37, func(t *testing.T, version int16) {
		f := newFixture(t, nil)
		f.create("a", 1)
		f.create("b", 2)
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Topics = []kmsg.CreatePartitionsRequestTopic{growth("a", 4), growth("b", 3, []int32{7})}
		req.ValidateOnly = true
		for _, r := range call[*kmsg.CreatePartitionsResponse](f, version, req).Topics {
			if r.ErrorCode != 0 {
				t.Errorf("validate only: %+v %s", r, str(r.ErrorMessage))
			}
		}
		if made, _ := f.Meta.Image().Topic("a"); made.Partitions != 1 {
			t.Fatal("validation added partitions")
		}
		req.ValidateOnly = false
		for _, r := range call[*kmsg.CreatePartitionsResponse](f, version, req).Topics {
			if r.ErrorCode != 0 || r.ErrorMessage != nil {
				t.Errorf("%+v %s", r, str(r.ErrorMessage))
			}
		}
		a, _ := f.Meta.Image().Topic("a")
		b, _ := f.Meta.Image().Topic("b")
		if a.Partitions != 4 || b.Partitions != 3 || len(f.Partitions.All()) != 7 {
			t.Errorf("a %d, b %d, open %d", a.Partitions, b.Partitions, len(f.Partitions.All()))
		}
	})
}

func TestCreatePartitionsRefusals(t *testing.T) {
	f := newFixture(t, nil)
	f.create("a", 2)
	for _, c := range []struct {
		topic kmsg.CreatePartitionsRequestTopic
		want  *kerr.Error
		text  string
	}{
		{growth("missing", 3), kerr.UnknownTopicOrPartition, ""},
		{growth("a", 2), kerr.InvalidPartitions, "Topic already has 2 partition(s)."},
		{growth("a", 1), kerr.InvalidPartitions, "The topic a currently has 2 partition(s); 1 would not be an increase."},
		{growth("a", -1), kerr.InvalidPartitions, "The topic a currently has 2 partition(s); -1 would not be an increase."},
		{growth("a", 2147483647), kerr.PolicyViolation, ""},
		{growth("a", 4, []int32{7}), kerr.InvalidReplicaAssignment, "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified."},
		{growth("a", 3, []int32{8}), kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker 8, but no such broker is registered."},
	} {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Topics = []kmsg.CreatePartitionsRequestTopic{c.topic}
		r := call[*kmsg.CreatePartitionsResponse](f, 3, req).Topics[0]
		if r.ErrorCode != c.want.Code || r.ErrorMessage == nil || c.text != "" && *r.ErrorMessage != c.text {
			t.Errorf("%s to %d: %d %q, want %s %q", c.topic.Topic, c.topic.Count, r.ErrorCode, str(r.ErrorMessage), c.want.Message, c.text)
		}
	}
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Topics = []kmsg.CreatePartitionsRequestTopic{growth("a", 3), growth("a", 4)}
	resp := call[*kmsg.CreatePartitionsResponse](f, 3, req)
	if len(resp.Topics) != 1 || str(resp.Topics[0].ErrorMessage) != "Duplicate topic name." {
		t.Errorf("twice: %+v", resp.Topics)
	}
	if a, _ := f.Meta.Image().Topic("a"); a.Partitions != 2 {
		t.Errorf("%d partitions", a.Partitions)
	}
}
