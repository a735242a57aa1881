package handler

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestDescribeGroups(t *testing.T) {
	f := newGroupFixture(t)
	id, _ := f.member("g")
	versions(t, 15, func(t *testing.T, version int16) {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{"g", "nowhere"}
		resp := call[*kmsg.DescribeGroupsResponse](f, version, req)
		g := resp.Groups[0]
		if g.ErrorCode != 0 || g.State != "Stable" || g.ProtocolType != "consumer" || g.Protocol != "range" || len(g.Members) != 1 || g.AuthorizedOperations != -2147483648 {
			t.Fatalf("%+v", g)
		}
		m := g.Members[0]
		if m.MemberID != id || m.ClientID != "test" || m.ClientHost != "/" || string(m.MemberAssignment) != "\x01\x02\x03" || len(m.ProtocolMetadata) == 0 {
			t.Errorf("%+v", m)
		}
		missing := resp.Groups[1]
		want := int16(0)
		if version >= 6 {
			want = kerr.GroupIDNotFound.Code
		}
		if missing.Group != "nowhere" || missing.State != "Dead" || missing.ErrorCode != want || (missing.ErrorMessage != nil) != (version >= 6) {
			t.Errorf("unknown group: %+v", missing)
		}
		if version >= 3 {
			req.IncludeAuthorizedOperations = true
			if got := call[*kmsg.DescribeGroupsResponse](f, version, req).Groups[0].AuthorizedOperations; got != 3400 {
				t.Errorf("operations %d", got)
			}
		}
	})
}

func TestListGroups(t *testing.T) {
	f := newGroupFixture(t)
	topic := f.create("t", 1)
	f.member("stable")
	call[*kmsg.OffsetCommitResponse](f, 10, commitRequest("offsets", "t", topic.ID, 0))
	versions(t, 16, func(t *testing.T, version int16) {
		list := func(states, types []string) string {
			req := kmsg.NewPtrListGroupsRequest()
			req.StatesFilter, req.TypesFilter = states, types
			resp := call[*kmsg.ListGroupsResponse](f, version, req)
			out := fmt.Sprint(resp.ErrorCode)
			for _, g := range resp.Groups {
				out += fmt.Sprintf(" %s/%s/%s/%s", g.Group, g.ProtocolType, g.GroupState, g.GroupType)
			}
			return out
		}
		offsets, stable := " offsets//", " stable/consumer/"
		switch {
		case version < 4:
			offsets, stable = offsets+"/", stable+"/"
		case version < 5:
			offsets, stable = offsets+"Empty/", stable+"Stable/"
		default:
			offsets, stable = offsets+"Empty/classic", stable+"Stable/classic"
		}
		for _, c := range []struct {
			states, types []string
			least         int16
			want          string
		}{
			{nil, nil, 0, "0" + offsets + stable},
			{[]string{"STABLE"}, nil, 4, "0" + stable},
			{[]string{"absurd"}, nil, 4, "0"},
			{nil, []string{"Classic"}, 5, "0" + offsets + stable},
			{nil, []string{"consumer", "absurd"}, 5, "0"},
		} {
			if version < c.least {
				continue
			}
			if got := list(c.states, c.types); got != c.want {
				t.Errorf("states %v, types %v: %s, want %s", c.states, c.types, got, c.want)
			}
		}
	})
}

func TestDeleteGroups(t *testing.T) {
	f := newGroupFixture(t)
	topic := f.create("t", 1)
	f.member("busy")
	versions(t, 42, func(t *testing.T, version int16) {
		call[*kmsg.OffsetCommitResponse](f, 10, commitRequest("offsets", "t", topic.ID, 0))
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = []string{"busy", "offsets", "nowhere", "offsets"}
		resp := call[*kmsg.DeleteGroupsResponse](f, version, req)
		var got []string
		for _, g := range resp.Groups {
			got = append(got, fmt.Sprintf("%s:%d", g.Group, g.ErrorCode))
		}
		if text := fmt.Sprint(got); text != fmt.Sprintf("[busy:%d offsets:0 nowhere:%d]", kerr.NonEmptyGroup.Code, kerr.GroupIDNotFound.Code) {
			t.Error(text)
		}
		if text := fetchedText(9, call[*kmsg.OffsetFetchResponse](f, 9, offsetFetchRequest(9, "offsets", "", topic.ID))); text != "offsets[0]\nnowhere[0]" {
			t.Error(text)
		}
	})
}

func TestFindCoordinator(t *testing.T) {
	f := newGroupFixture(t)
	versions(t, 10, func(t *testing.T, version int16) {
		for kind, want := range map[int8]int16{
			0: 0, 1: kerr.CoordinatorNotAvailable.Code, 2: kerr.InvalidRequest.Code, 7: kerr.InvalidRequest.Code,
		} {
			if version == 0 && kind != 0 {
				continue
			}
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorKey, req.CoordinatorKeys, req.CoordinatorType = "a", []string{"a", "b"}, kind
			resp := call[*kmsg.FindCoordinatorResponse](f, version, req)
			if version < 4 {
				one := kmsg.NewFindCoordinatorResponseCoordinator()
				one.Key, one.ErrorCode, one.NodeID, one.Host, one.Port = "a", resp.ErrorCode, resp.NodeID, resp.Host, resp.Port
				resp.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{one}
			} else if len(resp.Coordinators) != 2 || resp.Coordinators[1].Key != "b" {
				t.Fatalf("%+v", resp)
			}
			node := fmt.Sprint(-1, "", -1)
			if want == 0 {
				node = fmt.Sprint(7, "broker.test", 9092)
			}
			for _, c := range resp.Coordinators {
				if got := fmt.Sprint(c.NodeID, c.Host, c.Port); c.ErrorCode != want || got != node {
					t.Errorf("kind %d: code %d, node %s; want %d, %s", kind, c.ErrorCode, got, want, node)
				}
			}
		}
	})
}
