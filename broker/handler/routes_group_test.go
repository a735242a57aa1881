package handler

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/metadata"
)

// newGroupFixture is a fixture with a coordinator at work, whose groups are formed without a delay.
func newGroupFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, nil)
	c, err := group.New(group.Options{
		States: f.Meta, Offsets: f.Meta, Incarnation: f.Incarnation(), InitialRebalanceDelay: new(time.Duration),
		TopicName: func(id metadata.TopicID) (string, bool) {
			topic, ok := f.Meta.Image().TopicByID(id)
			if !ok {
				return "", false
			}
			return topic.Name, true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("coordinator: %v", err)
		}
	})
	f.Groups = c
	return f
}

func joinRequest(groupID, memberID string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = groupID, memberID, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 30_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff} // subscribes to t
	req.Protocols = append(req.Protocols, p)
	return req
}

// join makes one member of a group that has none, at a version, and returns its id and generation.
func (f *fixture) join(version int16, groupID string) (string, int32) {
	f.t.Helper()
	resp := call[*kmsg.JoinGroupResponse](f, version, joinRequest(groupID, ""))
	if version >= 4 {
		if resp.ErrorCode != kerr.MemberIDRequired.Code || resp.MemberID == "" || resp.Generation != -1 {
			f.t.Fatalf("first join: %+v", resp)
		}
		resp = call[*kmsg.JoinGroupResponse](f, version, joinRequest(groupID, resp.MemberID))
	}
	if resp.ErrorCode != 0 || resp.LeaderID != resp.MemberID || len(resp.Members) != 1 || *resp.Protocol != "range" {
		f.t.Fatalf("join: %+v", resp)
	}
	return resp.MemberID, resp.Generation
}

// sync assigns 1, 2, 3 to the only member.
func (f *fixture) sync(version int16, groupID, memberID string, generation int32) {
	f.t.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = groupID, memberID, generation
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = memberID, []byte{1, 2, 3}
	req.GroupAssignment = append(req.GroupAssignment, a)
	resp := call[*kmsg.SyncGroupResponse](f, version, req)
	if resp.ErrorCode != 0 || string(resp.MemberAssignment) != "\x01\x02\x03" {
		f.t.Fatalf("sync: %+v", resp)
	}
	if version >= 5 && (str(resp.ProtocolType) != "consumer" || str(resp.Protocol) != "range") {
		f.t.Errorf("sync does not echo the protocol: %+v", resp)
	}
}

// member makes a stable group of one member at the newest versions.
func (f *fixture) member(groupID string) (string, int32) {
	f.t.Helper()
	id, generation := f.join(9, groupID)
	f.sync(5, groupID, id, generation)
	return id, generation
}
