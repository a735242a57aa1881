package handler

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestDescribeCluster(t *testing.T) {
	f := newFixture(t, nil)
	versions(t, 60, func(t *testing.T, version int16) {
		req := kmsg.NewPtrDescribeClusterRequest()
		resp := call[*kmsg.DescribeClusterResponse](f, version, req)
		if resp.ErrorCode != 0 || resp.ClusterID != f.Meta.Image().ClusterID() || resp.ControllerID != 7 || len(resp.Brokers) != 1 || resp.Brokers[0].Host != "broker.test" {
			t.Errorf("%+v", resp)
		}
		if resp.ClusterAuthorizedOperations != -2147483648 {
			t.Errorf("operations that nobody asked for: %d", resp.ClusterAuthorizedOperations)
		}
		req.IncludeClusterAuthorizedOperations = true
		if resp := call[*kmsg.DescribeClusterResponse](f, version, req); resp.ClusterAuthorizedOperations != 8096 {
			t.Errorf("operations %d", resp.ClusterAuthorizedOperations)
		}
		if version == 0 {
			return
		}
		for kind, want := range map[int8]int16{2: kerr.MismatchedEndpointType.Code, 9: kerr.UnsupportedEndpointType.Code} {
			req.EndpointType = kind
			if resp := call[*kmsg.DescribeClusterResponse](f, version, req); resp.ErrorCode != want || resp.ErrorMessage == nil {
				t.Errorf("endpoint type %d: %+v", kind, resp)
			}
		}
	})
}

func TestDescribeTopicPartitions(t *testing.T) {
	f := newFixture(t, map[string]string{"max.request.partition.size.limit": "3"})
	a := f.create("a", 2)
	f.create("b", 4)
	ask := func(limit int32, cursorTopic string, cursorPartition int32, names ...string) *kmsg.DescribeTopicPartitionsResponse {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit = limit
		for _, name := range names {
			topic := kmsg.NewDescribeTopicPartitionsRequestTopic()
			topic.Topic = name
			req.Topics = append(req.Topics, topic)
		}
		if cursorTopic != "" {
			req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: cursorTopic, Partition: cursorPartition}
		}
		return call[*kmsg.DescribeTopicPartitionsResponse](f, 0, req)
	}
	shape := func(resp *kmsg.DescribeTopicPartitionsResponse) string {
		s := ""
		for _, topic := range resp.Topics {
			s += str(topic.Topic)
			if topic.ErrorCode != 0 {
				s += "!"
			}
			for _, p := range topic.Partitions {
				s += fmt.Sprint(p.Partition)
			}
			s += " "
		}
		if c := resp.NextCursor; c != nil {
			s += "> " + c.Topic + fmt.Sprint(c.Partition)
		}
		return s
	}
	for _, c := range []struct {
		got  *kmsg.DescribeTopicPartitionsResponse
		want string
	}{
		{ask(2000, "", 0), "a01 b0 > b1"},
		{ask(2000, "b", 1), "b123 "},
		{ask(2, "", 0), "a01 > b0"},
		{ask(0, "", 0), "a0 > a1"},
		{ask(2000, "", 0, "b", "a", "b"), "a01 b0 > b1"},
		{ask(2000, "", 0, "missing", "a"), "a01 missing! "},
		{ask(2000, "b", 9, "b"), "b "},
		{ask(2000, "c", 0, "b"), "b! "},
		{ask(2000, "b", -1, "b"), "b! "},
		{ask(2000, "b", -1), "b! "},
		{ask(2000, "b", 2147483647), "b "},
	} {
		if got := shape(c.got); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	topic := ask(2000, "", 0, "a").Topics[0]
	if topic.TopicID != a.ID || topic.AuthorizedOperations != 3576 || topic.Partitions[1].LeaderID != 7 || len(topic.Partitions[1].ISR) != 1 {
		t.Errorf("%+v", topic)
	}
	if code := ask(2000, "", 0, "a/b").Topics[0].ErrorCode; code != kerr.InvalidTopicException.Code {
		t.Errorf("bad name: %d", code)
	}
}

func TestDescribeLogDirs(t *testing.T) {
	f := newFixture(t, nil)
	f.create("b", 2)
	f.create("a", 1)
	versions(t, 35, func(t *testing.T, version int16) {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		resp := call[*kmsg.DescribeLogDirsResponse](f, version, req)
		if len(resp.Dirs) != 1 || resp.Dirs[0].Dir != "/data/wal" || len(resp.Dirs[0].Topics) != 2 || resp.Dirs[0].Topics[0].Topic != "a" || len(resp.Dirs[0].Topics[1].Partitions) != 2 {
			t.Fatalf("%+v", resp)
		}
		if version >= 4 && (resp.Dirs[0].TotalBytes != -1 || resp.Dirs[0].UsableBytes != -1) {
			t.Errorf("%+v", resp.Dirs[0])
		}
		topic := kmsg.NewDescribeLogDirsRequestTopic()
		topic.Topic, topic.Partitions = "b", []int32{1, 5}
		req.Topics = append(req.Topics, topic)
		resp = call[*kmsg.DescribeLogDirsResponse](f, version, req)
		if len(resp.Dirs[0].Topics) != 1 || len(resp.Dirs[0].Topics[0].Partitions) != 1 || resp.Dirs[0].Topics[0].Partitions[0].Partition != 1 {
			t.Errorf("%+v", resp.Dirs[0].Topics)
		}
		req.Topics = []kmsg.DescribeLogDirsRequestTopic{}
		if resp = call[*kmsg.DescribeLogDirsResponse](f, version, req); len(resp.Dirs[0].Topics) != 0 {
			t.Errorf("an empty list: %+v", resp.Dirs[0].Topics)
		}
	})
}

func TestSaslHandshakeIsRefused(t *testing.T) {
	f := newFixture(t, nil)
	versions(t, 17, func(t *testing.T, version int16) {
		req := kmsg.NewPtrSASLHandshakeRequest()
		req.Mechanism = "PLAIN"
		if resp := call[*kmsg.SASLHandshakeResponse](f, version, req); resp.ErrorCode != kerr.IllegalSaslState.Code || len(resp.SupportedMechanisms) != 0 {
			t.Errorf("%+v", resp)
		}
	})
}

func TestListPartitionReassignments(t *testing.T) {
	f := newFixture(t, nil)
	f.create("a", 1)
	resp := call[*kmsg.ListPartitionReassignmentsResponse](f, 0, kmsg.NewPtrListPartitionReassignmentsRequest())
	if resp.ErrorCode != 0 || len(resp.Topics) != 0 {
		t.Errorf("%+v", resp)
	}
}
