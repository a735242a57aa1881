package handler

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestJoinGroup(t *testing.T) {
	f := newGroupFixture(t)
	versions(t, 11, func(t *testing.T, version int16) {
		groupID := fmt.Sprintf("join-%d", version)
		id, generation := f.join(version, groupID)
		if !strings.HasPrefix(id, "test-") || generation != 1 {
			t.Errorf("member %q of generation %d; the id begins with the client id", id, generation)
		}
		// the same request again is answered with the same generation
		again := call[*kmsg.JoinGroupResponse](f, version, joinRequest(groupID, id))
		if again.ErrorCode != 0 || again.Generation != 1 || len(again.Members) != 1 || again.SkipAssignment {
			t.Errorf("again: %+v", again)
		}
		if got := str(again.ProtocolType); version >= 7 && got != "consumer" || version < 7 && got != "" {
			t.Errorf("protocol type %q", got)
		}

		bad := joinRequest(groupID, id)
		bad.ProtocolType = "connect"
		resp := call[*kmsg.JoinGroupResponse](f, version, bad)
		if resp.ErrorCode != kerr.InconsistentGroupProtocol.Code || resp.MemberID != id || resp.Generation != -1 {
			t.Errorf("another protocol type: %+v", resp)
		}
		if null := resp.Protocol == nil; null != (version >= 7) {
			t.Errorf("no protocol is %v", resp.Protocol)
		}
		for what, req := range map[int16]*kmsg.JoinGroupRequest{
			kerr.InvalidGroupID.Code: joinRequest("", ""), kerr.UnknownMemberID.Code: joinRequest(groupID, "stranger"),
		} {
			if resp := call[*kmsg.JoinGroupResponse](f, version, req); resp.ErrorCode != what || resp.MemberID != req.MemberID {
				t.Errorf("want code %d: %+v", what, resp)
			}
		}
		short := joinRequest(groupID, id)
		short.SessionTimeoutMillis = 1
		if resp := call[*kmsg.JoinGroupResponse](f, version, short); resp.ErrorCode != kerr.InvalidSessionTimeout.Code {
			t.Errorf("short session: %+v", resp)
		}
	})
}

func TestStaticMember(t *testing.T) {
	f := newGroupFixture(t)
	for version := int16(5); version <= 9; version++ {
		groupID := fmt.Sprintf("static-%d", version)
		req := joinRequest(groupID, "")
		req.InstanceID = kmsg.StringPtr("pod-0")
		first := call[*kmsg.JoinGroupResponse](f, version, req)
		if first.ErrorCode != 0 || !strings.HasPrefix(first.MemberID, "pod-0-") || str(first.Members[0].InstanceID) != "pod-0" {
			t.Fatalf("v%d: first: %+v", version, first)
		}
		f.sync(5, groupID, first.MemberID, first.Generation)
		second := call[*kmsg.JoinGroupResponse](f, version, req)
		if second.ErrorCode != 0 || second.MemberID == first.MemberID || second.Generation != first.Generation {
			t.Errorf("v%d: second: %+v", version, second)
		}
		if wantLeader := map[bool]string{true: second.MemberID, false: first.MemberID}[version >= 9]; second.LeaderID != wantLeader || second.SkipAssignment != (version >= 9) {
			t.Errorf("v%d: leader %s, skip %v", version, second.LeaderID, second.SkipAssignment)
		}
		for v := int16(3); v <= 4; v++ {
			hb := kmsg.NewPtrHeartbeatRequest()
			hb.Group, hb.MemberID, hb.InstanceID, hb.Generation = groupID, first.MemberID, kmsg.StringPtr("pod-0"), first.Generation
			if resp := call[*kmsg.HeartbeatResponse](f, v, hb); resp.ErrorCode != kerr.FencedInstanceID.Code {
				t.Errorf("heartbeat of the fenced member: %+v", resp)
			}
		}
	}
}

func TestSyncGroup(t *testing.T) {
	f := newGroupFixture(t)
	versions(t, 14, func(t *testing.T, version int16) {
		groupID := fmt.Sprintf("sync-%d", version)
		id, generation := f.join(9, groupID)
		f.sync(version, groupID, id, generation)
		req := kmsg.NewPtrSyncGroupRequest()
		req.Group, req.MemberID, req.Generation = groupID, id, generation
		want := int16(0)
		if version >= 5 {
			want = kerr.InconsistentGroupProtocol.Code // the protocol must be named
		}
		if resp := call[*kmsg.SyncGroupResponse](f, version, req); resp.ErrorCode != want {
			t.Errorf("without a protocol: %+v, want code %d", resp, want)
		}
		req.ProtocolType, req.Protocol, req.Generation = kmsg.StringPtr("consumer"), kmsg.StringPtr("range"), 9
		if resp := call[*kmsg.SyncGroupResponse](f, version, req); resp.ErrorCode != kerr.IllegalGeneration.Code || resp.Protocol != nil {
			t.Errorf("wrong generation: %+v", resp)
		}
		req.Group = "nowhere"
		if resp := call[*kmsg.SyncGroupResponse](f, version, req); resp.ErrorCode != kerr.UnknownMemberID.Code {
			t.Errorf("unknown group: %+v", resp)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	f := newGroupFixture(t)
	id, generation := f.member("g")
	versions(t, 12, func(t *testing.T, version int16) {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.Generation = "g", id, generation
		if resp := call[*kmsg.HeartbeatResponse](f, version, req); resp.ErrorCode != 0 {
			t.Errorf("%+v", resp)
		}
		req.Generation++
		if resp := call[*kmsg.HeartbeatResponse](f, version, req); resp.ErrorCode != kerr.IllegalGeneration.Code {
			t.Errorf("wrong generation: %+v", resp)
		}
		req.Group = "nowhere"
		if resp := call[*kmsg.HeartbeatResponse](f, version, req); resp.ErrorCode != kerr.UnknownMemberID.Code {
			t.Errorf("unknown group: %+v", resp)
		}
	})
}

func TestLeaveGroup(t *testing.T) {
	f := newGroupFixture(t)
	versions(t, 13, func(t *testing.T, version int16) {
		groupID := fmt.Sprintf("leave-%d", version)
		id, _ := f.member(groupID)
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group, req.MemberID = groupID, id
		for _, memberID := range []string{"stranger", id} {
			m := kmsg.NewLeaveGroupRequestMember()
			m.MemberID, m.Reason = memberID, kmsg.StringPtr("test")
			req.Members = append(req.Members, m)
		}
		if version < 3 {
			req.Members = nil
		}
		resp := call[*kmsg.LeaveGroupResponse](f, version, req)
		if resp.ErrorCode != 0 {
			t.Errorf("%+v", resp)
		}
		if version >= 3 && (len(resp.Members) != 2 || resp.Members[0].ErrorCode != kerr.UnknownMemberID.Code || resp.Members[1].ErrorCode != 0) {
			t.Errorf("members: %+v", resp.Members)
		}
		again := call[*kmsg.LeaveGroupResponse](f, version, req)
		if version < 3 && again.ErrorCode != kerr.UnknownMemberID.Code || version >= 3 && again.Members[1].ErrorCode != kerr.UnknownMemberID.Code {
			t.Errorf("a second time: %+v", again)
		}
		req.Group = ""
		if resp := call[*kmsg.LeaveGroupResponse](f, version, req); resp.ErrorCode != kerr.InvalidGroupID.Code {
			t.Errorf("no group id: %+v", resp)
		}
	})
}
