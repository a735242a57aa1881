package handler

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func metadataFor(names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = ptr(name)
		req.Topics = append(req.Topics, t)
	}
	return req
}

func TestMetadata(t *testing.T) {
	f := newFixture(t, nil)
	made := f.create("orders", 3)
	f.create("returns", 1)
	versions(t, 3, func(t *testing.T, version int16) {
		resp := call[*kmsg.MetadataResponse](f, version, metadataFor("orders"))
		if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 || len(resp.Topics[0].Partitions) != 3 {
			t.Fatalf("%+v", resp.Topics)
		}
		topic := resp.Topics[0]
		if version >= 10 && topic.TopicID != made.ID {
			t.Errorf("id %x", topic.TopicID)
		}
		for i, p := range topic.Partitions {
			if p.ErrorCode != 0 || p.Partition != int32(i) || p.Leader != 7 || !slices.Equal(p.Replicas, []int32{7}) || !slices.Equal(p.ISR, []int32{7}) || len(p.OfflineReplicas) != 0 {
				t.Errorf("partition %+v", p)
			}
		}
		if len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != 7 || resp.Brokers[0].Host != "broker.test" || resp.Brokers[0].Port != 9092 {
			t.Errorf("brokers %+v", resp.Brokers)
		}
		if version >= 1 && (resp.ControllerID != 7 || str(resp.Brokers[0].Rack) != "r1") {
			t.Errorf("controller %d, rack %q", resp.ControllerID, str(resp.Brokers[0].Rack))
		}
		if version >= 2 && str(resp.ClusterID) != f.Meta.Image().ClusterID() {
			t.Errorf("cluster %q", str(resp.ClusterID))
		}
	})
}

func TestMetadataWhichTopics(t *testing.T) {
	f := newFixture(t, nil)
	f.create("orders", 1)
	f.create("returns", 1)
	versions(t, 3, func(t *testing.T, version int16) {
		empty := call[*kmsg.MetadataResponse](f, version, metadataFor())
		if want := map[bool]int{true: 2, false: 0}[version == 0]; len(empty.Topics) != want {
			t.Errorf("an empty list answers %d topics, want %d", len(empty.Topics), want)
		}
		if version == 0 {
			return
		}
		all := metadataFor()
		all.Topics = nil
		if resp := call[*kmsg.MetadataResponse](f, version, all); len(resp.Topics) != 2 || str(resp.Topics[0].Topic) != "orders" {
			t.Errorf("null answers %+v", resp.Topics)
		}
		if resp := call[*kmsg.MetadataResponse](f, version, metadataFor("orders", "orders")); len(resp.Topics) != 1 {
			t.Errorf("a name given twice answers %d topics", len(resp.Topics))
		}
	})
}

func TestMetadataByID(t *testing.T) {
	f := newFixture(t, nil)
	made := f.create("orders", 1)
	for version := int16(10); version <= 13; version++ {
		req := metadataFor("returns")
		req.AllowAutoTopicCreation = true
		known, unknown := kmsg.NewMetadataRequestTopic(), kmsg.NewMetadataRequestTopic()
		known.TopicID, unknown.TopicID = made.ID, [16]byte{1}
		if version < 12 {
			known.Topic = ptr("orders") // not by id alone
			req.Topics = append(req.Topics, known)
			resp := call[*kmsg.MetadataResponse](f, version, req)
			if len(resp.Topics) != 2 || resp.Topics[1].ErrorCode != kerr.InvalidRequest.Code {
				t.Errorf("v%d: %+v", version, resp.Topics)
			}
			continue
		}
		req.Topics = append(req.Topics, known, unknown)
		resp := call[*kmsg.MetadataResponse](f, version, req)
		if len(resp.Topics) != 2 {
			t.Fatalf("v%d: %+v", version, resp.Topics)
		}
		if got := resp.Topics[0]; got.ErrorCode != 0 || str(got.Topic) != "orders" {
			t.Errorf("v%d: %+v", version, got)
		}
		if got := resp.Topics[1]; got.ErrorCode != kerr.UnknownTopicID.Code || got.Topic != nil || got.TopicID != unknown.TopicID {
			t.Errorf("v%d: %+v", version, got)
		}
	}
	if _, ok := f.Meta.Image().Topic("returns"); ok {
		t.Error("a name beside ids was created")
	}
}

func TestMetadataAutoCreation(t *testing.T) {
	versions(t, 3, func(t *testing.T, version int16) {
		f := newFixture(t, map[string]string{"num.partitions": "2"})
		req := metadataFor("fresh", "bad name", "__consumer_offsets")
		if version >= 4 {
			if resp := call[*kmsg.MetadataResponse](f, version, req); resp.Topics[0].ErrorCode != kerr.UnknownTopicOrPartition.Code {
				t.Fatalf("without leave: %+v", resp.Topics[0])
			}
		}
		req.AllowAutoTopicCreation = true
		resp := call[*kmsg.MetadataResponse](f, version, req)
		if got := resp.Topics[0]; got.ErrorCode != 0 || len(got.Partitions) != 2 {
			t.Errorf("created: %+v", got)
		}
		if got := resp.Topics[1].ErrorCode; got != kerr.InvalidTopicException.Code {
			t.Errorf("bad name: %d", got)
		}
		if got := resp.Topics[2]; got.ErrorCode != kerr.UnknownTopicOrPartition.Code || version >= 1 && !got.IsInternal {
			t.Errorf("internal topic: %+v", got)
		}
		if len(f.opener.opened) != 2 {
			t.Errorf("opened %v", f.opener.opened)
		}

		off := newFixture(t, map[string]string{"auto.create.topics.enable": "false"})
		if resp := call[*kmsg.MetadataResponse](off, version, req); resp.Topics[0].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("switched off: %+v", resp.Topics[0])
		}
	})
}

func TestMetadataAutoCreationCollision(t *testing.T) {
	f := newFixture(t, nil)
	f.create("a.b", 1)
	req := metadataFor("a_b")
	req.AllowAutoTopicCreation = true
	if resp := call[*kmsg.MetadataResponse](f, 12, req); resp.Topics[0].ErrorCode != kerr.InvalidTopicException.Code {
		t.Errorf("%+v", resp.Topics[0])
	}
}

func TestMetadataAuthorizedOperations(t *testing.T) {
	f := newFixture(t, nil)
	f.create("orders", 1)
	for version := int16(8); version <= 13; version++ {
		req := metadataFor("orders")
		if resp := call[*kmsg.MetadataResponse](f, version, req); resp.Topics[0].AuthorizedOperations != -2147483648 {
			t.Errorf("v%d, not asked: %d", version, resp.Topics[0].AuthorizedOperations)
		}
		req.IncludeTopicAuthorizedOperations, req.IncludeClusterAuthorizedOperations = true, true
		resp := call[*kmsg.MetadataResponse](f, version, req)
		if resp.Topics[0].AuthorizedOperations != 3576 {
			t.Errorf("v%d: topic %d", version, resp.Topics[0].AuthorizedOperations)
		}
		if version <= 10 && resp.AuthorizedOperations != 8096 {
			t.Errorf("v%d: cluster %d", version, resp.AuthorizedOperations)
		}
	}
}
