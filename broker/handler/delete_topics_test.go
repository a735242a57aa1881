package handler

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/metadata"
)

func deleteRequest(version int16, names ...string) *kmsg.DeleteTopicsRequest {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 5000
	for _, name := range names {
		if version < 6 {
			req.TopicNames = append(req.TopicNames, name)
			continue
		}
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = ptr(name)
		req.Topics = append(req.Topics, t)
	}
	return req
}

func TestDeleteTopics(t *testing.T) {
	versions(t, 20, func(t *testing.T, version int16) {
		f := newFixture(t, nil)
		made := f.create("gone", 3)
		f.create("stays", 1)
		f.create("twice", 1)
		resp := call[*kmsg.DeleteTopicsResponse](f, version, deleteRequest(version, "gone", "missing", "twice", "twice"))
		if len(resp.Topics) != 3 {
			t.Fatalf("%+v", resp.Topics)
		}
		for i, want := range []struct {
			name string
			code int16
		}{{"gone", 0}, {"missing", kerr.UnknownTopicOrPartition.Code}, {"twice", kerr.InvalidRequest.Code}} {
			if r := resp.Topics[i]; str(r.Topic) != want.name || r.ErrorCode != want.code || version >= 5 && (want.code == 0) != (r.ErrorMessage == nil) {
				t.Errorf("%s: %+v %q", want.name, r, str(r.ErrorMessage))
			}
		}
		if version >= 6 && resp.Topics[0].TopicID != made.ID {
			t.Errorf("id %x", resp.Topics[0].TopicID)
		}
		im := f.Meta.Image()
		if _, ok := im.Topic("gone"); ok {
			t.Error("the topic is still there")
		}
		if _, ok := im.Topic("twice"); !ok {
			t.Error("a duplicate was deleted")
		}
		if n := len(f.Partitions.All()); n != 2 {
			t.Errorf("%d partitions are open", n)
		}
		if again := f.create("gone", 1); again.ID == made.ID {
			t.Error("a re-created topic has its old id")
		}
	})
}

func TestDeleteTopicsByID(t *testing.T) {
	f := newFixture(t, nil)
	a, b, c, d := f.create("a", 1), f.create("b", 1), f.create("c", 1), f.create("d", 1)
	topic := func(name *string, id metadata.TopicID) kmsg.DeleteTopicsRequestTopic {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic, t.TopicID = name, id
		return t
	}
	req := kmsg.NewPtrDeleteTopicsRequest()
	none := metadata.TopicID{}
	req.Topics = []kmsg.DeleteTopicsRequestTopic{
		topic(nil, a.ID), topic(nil, none), topic(ptr("b"), b.ID), topic(nil, metadata.TopicID{1}),
		topic(nil, b.ID), topic(ptr("b"), none), // the same by name and id
		topic(nil, c.ID), topic(nil, c.ID),
		topic(nil, d.ID), topic(ptr("d"), none), topic(ptr("d"), none), // the id once, the name twice
	}
	resp := call[*kmsg.DeleteTopicsResponse](f, 6, req)
	invalid := kerr.InvalidRequest.Code
	want := []struct {
		name string
		id   metadata.TopicID
		code int16
		text string
	}{
		{"a", a.ID, 0, ""},
		{"", none, invalid, "Neither topic name nor id were specified."},
		{"b", b.ID, invalid, "You may not specify both topic name and topic id."},
		{"", metadata.TopicID{1}, kerr.UnknownTopicID.Code, kerr.UnknownTopicID.Description},
		{"b", b.ID, invalid, "The provided topic name maps to an ID that was already supplied."},
		{"", c.ID, invalid, "Duplicate topic id."},
		{"d", d.ID, 0, ""},
		{"d", none, invalid, "Duplicate topic name."},
	}
	if len(resp.Topics) != len(want) {
		t.Fatalf("%d answers, want %d: %+v", len(resp.Topics), len(want), resp.Topics)
	}
	for i, w := range want {
		if r := resp.Topics[i]; str(r.Topic) != w.name || r.TopicID != w.id || r.ErrorCode != w.code || str(r.ErrorMessage) != w.text {
			t.Errorf("answer %d: %q %x %d %q, want %+v", i, str(r.Topic), r.TopicID, r.ErrorCode, str(r.ErrorMessage), w)
		}
	}
	im := f.Meta.Image()
	for name, stays := range map[string]bool{"a": false, "b": true, "c": true, "d": false} {
		if _, ok := im.Topic(name); ok != stays {
			t.Errorf("%s is there: %v", name, ok)
		}
	}
}

func TestDeleteTopicsSwitchedOff(t *testing.T) {
	versions(t, 20, func(t *testing.T, version int16) {
		f := newFixture(t, map[string]string{"delete.topic.enable": "false"})
		f.create("stays", 1)
		r := call[*kmsg.DeleteTopicsResponse](f, version, deleteRequest(version, "stays")).Topics[0]
		want := kerr.TopicDeletionDisabled.Code
		if version < 3 {
			want = kerr.InvalidRequest.Code
		}
		if r.ErrorCode != want {
			t.Errorf("code %d, want %d", r.ErrorCode, want)
		}
		if _, ok := f.Meta.Image().Topic("stays"); !ok {
			t.Error("deleted all the same")
		}
	})
}
