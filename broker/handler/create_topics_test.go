package handler

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func createRequest(topics ...kmsg.CreateTopicsRequestTopic) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = topics
	req.TimeoutMillis = 5000
	return req
}

func newTopic(name string, partitions int32, factor int16, with ...string) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, factor
	for i := 0; i+1 < len(with); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = with[i], &with[i+1]
		t.Configs = append(t.Configs, c)
	}
	return t
}

func assigned(name string, replicas ...[]int32) kmsg.CreateTopicsRequestTopic {
	t := newTopic(name, -1, -1)
	for i, r := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(i), r
		t.ReplicaAssignment = append(t.ReplicaAssignment, a)
	}
	return t
}

func TestCreateTopics(t *testing.T) {
	versions(t, 19, func(t *testing.T, version int16) {
		f := newFixture(t, map[string]string{"num.partitions": "3", "default.replication.factor": "2"})
		req := createRequest(newTopic("plain", 2, 1), newTopic("defaults", -1, -1), newTopic("rf3", 1, 3),
			newTopic("compacted", 1, 1, "cleanup.policy", "compact"), assigned("by-hand", []int32{7}, []int32{7}))
		req.ValidateOnly = true
		for _, r := range call[*kmsg.CreateTopicsResponse](f, version, req).Topics {
			if r.ErrorCode != 0 || r.TopicID != [16]byte{} {
				t.Errorf("validate only: %+v", r)
			}
		}
		for range f.Meta.Image().Topics() {
			t.Fatal("validation created a topic")
		}
		req.ValidateOnly = false
		resp := call[*kmsg.CreateTopicsResponse](f, version, req)
		for i, want := range []struct {
			partitions int32
			factor     int16
		}{{2, 1}, {3, 2}, {1, 3}, {1, 1}, {2, 1}} {
			r := resp.Topics[i]
			if r.ErrorCode != 0 || r.ErrorMessage != nil {
				t.Fatalf("%s: %d %s", r.Topic, r.ErrorCode, str(r.ErrorMessage))
			}
			made, ok := f.Meta.Image().Topic(r.Topic)
			if !ok || made.Partitions != want.partitions || made.ReplicationFactor != want.factor {
				t.Errorf("%s: %+v", r.Topic, made)
			}
			if version >= 5 && (r.NumPartitions != want.partitions || r.ReplicationFactor != want.factor || len(r.Configs) < 30) {
				t.Errorf("%s: answered %d partitions, factor %d, %d configs", r.Topic, r.NumPartitions, r.ReplicationFactor, len(r.Configs))
			}
			if version >= 7 && r.TopicID != made.ID {
				t.Errorf("%s: id %x, want %x", r.Topic, r.TopicID, made.ID)
			}
		}
		if version >= 5 {
			for _, c := range resp.Topics[3].Configs {
				if c.Name == "cleanup.policy" && (str(c.Value) != "compact" || c.Source != 1) {
					t.Errorf("answered config %+v", c)
				}
			}
		}
		if n := len(f.opener.opened); n != 9 || len(f.Partitions.All()) != 9 {
			t.Errorf("%d partitions were opened, %d are open", n, len(f.Partitions.All()))
		}
	})
}

func TestCreateTopicsRefusals(t *testing.T) {
	f := newFixture(t, nil)
	f.create("taken", 1)
	f.create("with.dot", 1)
	null := newTopic("nulls", 1, 1, "retention.ms", "1", "segment.ms", "2")
	null.Configs[0].Value, null.Configs[1].Value = nil, nil
	gap, twice := assigned("gap", []int32{7}, []int32{7}), assigned("twice", []int32{7}, []int32{7})
	gap.ReplicaAssignment[1].Partition, twice.ReplicaAssignment[1].Partition = 2, 0
	counted, replicated := assigned("counted", []int32{7}), assigned("replicated", []int32{7})
	counted.NumPartitions, replicated.ReplicationFactor = 1, 1
	long := strings.Repeat("a", 250)
	for _, c := range []struct {
		topic kmsg.CreateTopicsRequestTopic
		want  *kerr.Error
		text  string
	}{
		{newTopic("", 1, 1), kerr.InvalidTopicException, "Topic name is invalid: the empty string is not allowed"},
		{newTopic(".", 1, 1), kerr.InvalidTopicException, "Topic name is invalid: '.' is not allowed"},
		{newTopic("..", 1, 1), kerr.InvalidTopicException, "Topic name is invalid: '..' is not allowed"},
		{newTopic(long, 1, 1), kerr.InvalidTopicException, "Topic name is invalid: the length of '" + long + "' is longer than the max allowed length 249"},
		{newTopic("a/b", 1, 1), kerr.InvalidTopicException, "Topic name is invalid: 'a/b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"},
		{newTopic("ä", 0, 0), kerr.InvalidTopicException, "Topic name is invalid: 'ä' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"},
		{newTopic("with_dot", 1, 1), kerr.InvalidTopicException, "Topic 'with_dot' collides with existing topic: with.dot"},
		{newTopic("with.dot", 1, 1), kerr.TopicAlreadyExists, "Topic 'with.dot' already exists."},
		{newTopic("taken", 0, 0, "no.such", "1"), kerr.TopicAlreadyExists, "Topic 'taken' already exists."},
		{newTopic("__cluster_metadata", 1, 1), kerr.InvalidRequest, "Creation of internal topic __cluster_metadata is prohibited."},
		{null, kerr.InvalidConfig, "Null value not supported for topic configs: retention.ms,segment.ms"},
		{newTopic("c", 0, 0, "no.such", "1"), kerr.InvalidConfig, "Unknown topic config name: no.such"},
		{newTopic("c", 1, 1, "max.message.bytes", "8388608"), kerr.InvalidConfig, "Invalid value 8388608 for configuration max.message.bytes: Value must be no more than 8323072, the largest batch that this broker's write-ahead log takes"},
		{newTopic("c", 1, 1, "tidemark.durability", "object"), kerr.InvalidConfig, ""},
		{newTopic("f", 1, 0), kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value."},
		{newTopic("f", 0, -2), kerr.InvalidReplicationFactor, ""},
		{newTopic("f", 1, 4), kerr.InvalidReplicationFactor, "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached because only 1 broker(s) are registered."},
		{newTopic("p", 0, 1), kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value."},
		{newTopic("p", -2, 1), kerr.InvalidPartitions, ""},
		{newTopic("p", 10_001, 1), kerr.PolicyViolation, "Excessively large number of partitions per request: 10001, at most 10000 are allowed."},
		{counted, kerr.InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1."},
		{replicated, kerr.InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1."},
		{gap, kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence"},
		{twice, kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition 0"},
		{assigned("a", []int32{}), kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list."},
		{assigned("a", []int32{8}), kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker 8, but no such broker is registered."},
		{assigned("a", []int32{7, 7}), kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker 7 more than once."},
	} {
		for _, validateOnly := range []bool{true, false} {
			req := createRequest(c.topic)
			req.ValidateOnly = validateOnly
			r := call[*kmsg.CreateTopicsResponse](f, 7, req).Topics[0]
			if r.ErrorCode != c.want.Code || r.Topic != c.topic.Topic || r.ErrorMessage == nil || c.text != "" && *r.ErrorMessage != c.text {
				t.Errorf("%q: code %d %q, want %s %q", c.topic.Topic, r.ErrorCode, str(r.ErrorMessage), c.want.Message, c.text)
			}
		}
	}
}

func TestCreateTopicsDuplicates(t *testing.T) {
	f := newFixture(t, nil)
	resp := call[*kmsg.CreateTopicsResponse](f, 7, createRequest(newTopic("a", 1, 1), newTopic("b", 1, 1), newTopic("a", 2, 1), newTopic("a", 2, 1)))
	if len(resp.Topics) != 2 || resp.Topics[0].Topic != "a" || resp.Topics[0].ErrorCode != kerr.InvalidRequest.Code || str(resp.Topics[0].ErrorMessage) != "Duplicate topic name." {
		t.Fatalf("%+v", resp.Topics)
	}
	if resp.Topics[1].ErrorCode != 0 {
		t.Errorf("%+v", resp.Topics[1])
	}
	if _, ok := f.Meta.Image().Topic("a"); ok {
		t.Error("a duplicate was created")
	}
}

func TestCreateTopicsTooManyTogether(t *testing.T) {
	f := newFixture(t, nil)
	resp := call[*kmsg.CreateTopicsResponse](f, 7, createRequest(newTopic("a", 9_999, 1), newTopic("b", 2, 1)))
	for _, r := range resp.Topics {
		if r.ErrorCode != kerr.PolicyViolation.Code {
			t.Errorf("%+v", r)
		}
	}
}

func TestCreateTopicsOpeningFails(t *testing.T) {
	f := newFixture(t, nil)
	f.opener.fail = errBoom
	r := call[*kmsg.CreateTopicsResponse](f, 7, createRequest(newTopic("a", 1, 1))).Topics[0]
	if r.ErrorCode != kerr.UnknownServerError.Code || strings.Contains(str(r.ErrorMessage), "boom") {
		t.Errorf("%d %q", r.ErrorCode, str(r.ErrorMessage))
	}
}
