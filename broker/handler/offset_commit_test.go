package handler

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/metadata"
)

// commitRequest commits offset 10+p of the partitions, with metadata "m", as a client that is no member.
func commitRequest(groupID, topic string, id metadata.TopicID, partitions ...int32) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = groupID, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.TopicID = topic, id
	for _, p := range partitions {
		part := kmsg.NewOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset, part.LeaderEpoch, part.Metadata = p, int64(10+p), 3, kmsg.StringPtr("m")
		t.Partitions = append(t.Partitions, part)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func commitCodes(resp *kmsg.OffsetCommitResponse) (codes []int16) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			codes = append(codes, p.ErrorCode)
		}
	}
	return codes
}

func TestOffsetCommit(t *testing.T) {
	f := newGroupFixture(t)
	topic := f.create("t", 3)
	stranger := metadata.TopicID{9, 9}
	versions(t, 8, func(t *testing.T, version int16) {
		groupID := fmt.Sprintf("commit-%d", version)
		req := commitRequest(groupID, "t", topic.ID, 0, 2, 3, -1)
		req.Topics = append(req.Topics, commitRequest("", "nowhere", stranger, 0).Topics...)
		req.Topics[0].Partitions[1].Metadata = kmsg.StringPtr(strings.Repeat("x", 4097))
		resp := call[*kmsg.OffsetCommitResponse](f, version, req)
		unknown := kerr.UnknownTopicOrPartition.Code
		want := []int16{0, kerr.OffsetMetadataTooLarge.Code, unknown, unknown, unknown}
		if version >= 10 {
			want[4] = kerr.UnknownTopicID.Code
			if resp.Topics[0].TopicID != topic.ID || resp.Topics[1].TopicID != stranger {
				t.Errorf("topic ids: %+v", resp.Topics)
			}
		} else if resp.Topics[0].Topic != "t" || resp.Topics[1].Topic != "nowhere" {
			t.Errorf("topic names: %+v", resp.Topics)
		}
		if got := commitCodes(resp); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("codes %v, want %v", got, want)
		}

		member := commitRequest(groupID+"-none", "t", topic.ID, 0)
		member.Generation, member.MemberID = 4, "m"
		notFound := kerr.IllegalGeneration.Code
		if version >= 9 {
			notFound = kerr.GroupIDNotFound.Code
		}
		if got := commitCodes(call[*kmsg.OffsetCommitResponse](f, version, member)); got[0] != notFound {
			t.Errorf("member of a group that is not there: %v, want %d", got, notFound)
		}

		id, generation := f.member(groupID + "-m")
		member.Group, member.MemberID, member.Generation = groupID+"-m", id, generation
		if got := commitCodes(call[*kmsg.OffsetCommitResponse](f, version, member)); got[0] != 0 {
			t.Errorf("member: %v", got)
		}
		member.Generation++
		if got := commitCodes(call[*kmsg.OffsetCommitResponse](f, version, member)); got[0] != kerr.IllegalGeneration.Code {
			t.Errorf("wrong generation: %v", got)
		}
	})
}

// offsetFetchRequest asks in the way of the version; no partitions means all topics.
func offsetFetchRequest(version int16, groupID, topic string, id metadata.TopicID, partitions ...int32) *kmsg.OffsetFetchRequest {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	if version < 8 {
		req.Group = groupID
		if partitions != nil {
			t := kmsg.NewOffsetFetchRequestTopic()
			t.Topic, t.Partitions = topic, partitions
			req.Topics = append(req.Topics, t)
		}
		return req
	}
	for _, name := range []string{groupID, "nowhere"} {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = name
		if partitions != nil {
			t := kmsg.NewOffsetFetchRequestGroupTopic()
			t.Topic, t.TopicID, t.Partitions = topic, id, partitions
			g.Topics = append(g.Topics, t)
		}
		req.Groups = append(req.Groups, g)
	}
	return req
}

// fetchedText writes an answer as group[code] topic:partition=offset/epoch/metadata/code …
func fetchedText(version int16, resp *kmsg.OffsetFetchResponse) string {
	var b strings.Builder
	part := func(topic string, p int32, offset int64, epoch int32, text *string, code int16) {
		fmt.Fprintf(&b, " %s:%d=%d/%d/%q/%d", topic, p, offset, epoch, str(text), code)
	}
	if version < 8 {
		fmt.Fprintf(&b, "[%d]", resp.ErrorCode)
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				part(t.Topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
			}
		}
	}
	for _, g := range resp.Groups {
		fmt.Fprintf(&b, "%s[%d]", g.Group, g.ErrorCode)
		for _, t := range g.Topics {
			name := t.Topic
			if version >= 10 {
				name = metadata.TopicID(t.TopicID).String()
			}
			for _, p := range t.Partitions {
				part(name, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode)
			}
		}
		b.WriteString("\n")
	}
	return strings.TrimSpace(b.String())
}

func TestOffsetFetch(t *testing.T) {
	f := newGroupFixture(t)
	topic := f.create("t", 3)
	if got := commitCodes(call[*kmsg.OffsetCommitResponse](f, 10, commitRequest("g", "t", topic.ID, 0, 2))); fmt.Sprint(got) != "[0 0]" {
		t.Fatal(got)
	}
	versions(t, 9, func(t *testing.T, version int16) {
		name, epoch := "t", "3"
		if version >= 10 {
			name = topic.ID.String()
		}
		if version < 5 {
			epoch = "-1"
		}
		answer := func(groupID string, parts ...string) string {
			if version < 8 {
				groupID = ""
			}
			return strings.TrimSpace(groupID + "[0] " + strings.Join(parts, " "))
		}
		want := answer("g", name+":2=12/"+epoch+`/"m"/0`, name+`:1=-1/-1/""/0`, name+`:7=-1/-1/""/0`)
		if version >= 8 {
			want += "\n" + answer("nowhere", name+`:2=-1/-1/""/0`, name+`:1=-1/-1/""/0`, name+`:7=-1/-1/""/0`)
		}
		if got := fetchedText(version, call[*kmsg.OffsetFetchResponse](f, version, offsetFetchRequest(version, "g", "t", topic.ID, 2, 1, 7))); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if version >= 2 {
			want = answer("g", name+":0=10/"+epoch+`/"m"/0`, name+":2=12/"+epoch+`/"m"/0`)
			if version >= 8 {
				want += "\nnowhere[0]"
			}
			if got := fetchedText(version, call[*kmsg.OffsetFetchResponse](f, version, offsetFetchRequest(version, "g", "", topic.ID))); got != want {
				t.Errorf("all: got  %s\nwant %s", got, want)
			}
		}
		code := 0 // a topic that is not there has no offsets; an unknown id is an error
		if name = "x"; version >= 10 {
			name, code = metadata.TopicID{9}.String(), int(kerr.UnknownTopicID.Code)
		}
		want = answer("g", fmt.Sprintf(`%s:0=-1/-1/""/%d`, name, code))
		if version >= 8 {
			want += "\n" + answer("nowhere", fmt.Sprintf(`%s:0=-1/-1/""/%d`, name, code))
		}
		if got := fetchedText(version, call[*kmsg.OffsetFetchResponse](f, version, offsetFetchRequest(version, "g", "x", metadata.TopicID{9}, 0))); got != want {
			t.Errorf("unknown topic: got  %s\nwant %s", got, want)
		}
	})
}

// TestOffsetFetchGroupError: a group's error stands where the version has a place for it.
func TestOffsetFetchGroupError(t *testing.T) {
	for version, want := range map[int16]string{1: `[0] t:0=-1/-1/""/16`, 2: "[16]", 7: "[16]"} {
		asked := kmsg.NewOffsetFetchRequestGroup()
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic, topic.Partitions = "t", []int32{0}
		asked.Topics = append(asked.Topics, topic)
		g := kmsg.NewOffsetFetchResponseGroup()
		g.ErrorCode = kerr.NotCoordinator.Code
		resp := singleGroup(version, &asked, g, kmsg.NewPtrOffsetFetchResponse())
		resp.SetVersion(version)
		back := kmsg.NewPtrOffsetFetchResponse()
		back.SetVersion(version)
		if err := back.ReadFrom(resp.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		if got := fetchedText(version, back); got != want {
			t.Errorf("v%d: %s, want %s", version, got, want)
		}
	}
}

func TestOffsetDelete(t *testing.T) {
	f := newGroupFixture(t)
	topic, other := f.create("t", 1), f.create("other", 2)
	id, generation := f.member("g") // subscribes to t
	commit := commitRequest("g", "t", topic.ID, 0)
	commit.MemberID, commit.Generation = id, generation
	commit.Topics = append(commit.Topics, commitRequest("", "other", other.ID, 0, 1).Topics...)
	if got := commitCodes(call[*kmsg.OffsetCommitResponse](f, 10, commit)); fmt.Sprint(got) != "[0 0 0]" {
		t.Fatal(got)
	}
	ask := func(groupID string, topics map[string][]int32) *kmsg.OffsetDeleteResponse {
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = groupID
		for _, name := range []string{"t", "other", "nowhere"} {
			t := kmsg.NewOffsetDeleteRequestTopic()
			t.Topic = name
			for _, p := range topics[name] {
				part := kmsg.NewOffsetDeleteRequestTopicPartition()
				part.Partition = p
				t.Partitions = append(t.Partitions, part)
			}
			if len(t.Partitions) > 0 {
				req.Topics = append(req.Topics, t)
			}
		}
		return call[*kmsg.OffsetDeleteResponse](f, 0, req)
	}
	resp := ask("g", map[string][]int32{"t": {0}, "other": {1, 5}, "nowhere": {0}})
	var got []string
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			got = append(got, fmt.Sprintf("%s-%d:%d", t.Topic, p.Partition, p.ErrorCode))
		}
	}
	if text := fmt.Sprint(resp.ErrorCode, got); text != "0 [t-0:86 other-1:0 other-5:3 nowhere-0:3]" {
		t.Error(text)
	}
	all := call[*kmsg.OffsetFetchResponse](f, 9, offsetFetchRequest(9, "g", "", topic.ID))
	if text := fetchedText(9, all); text != `g[0] other:0=10/3/"m"/0 t:0=10/3/"m"/0`+"\nnowhere[0]" {
		t.Error(text)
	}
	if resp := ask("unknown", map[string][]int32{"t": {0}}); resp.ErrorCode != kerr.GroupIDNotFound.Code || len(resp.Topics) != 0 {
		t.Errorf("unknown group: %+v", resp)
	}
	if resp := ask("", map[string][]int32{"t": {0}}); resp.ErrorCode != kerr.InvalidGroupID.Code {
		t.Errorf("no group id: %+v", resp)
	}
}
