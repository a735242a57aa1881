package handler

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/metadata"
)

func session(req *kmsg.FetchRequest, id, epoch int32) *kmsg.FetchRequest {
	req.SessionID, req.SessionEpoch = id, epoch
	return req
}

func forget(req *kmsg.FetchRequest, topic *metadata.Topic, indexes ...int32) *kmsg.FetchRequest {
	t := kmsg.NewFetchRequestForgottenTopic()
	t.Topic, t.TopicID, t.Partitions = topic.Name, topic.ID, indexes
	req.ForgottenTopics = append(req.ForgottenTopics, t)
	return req
}

func TestFetchSession(t *testing.T) {
	for _, version := range []int16{7, 12, 13, 18} {
		f := newLogFixture(t, nil)
		topic := f.create("t", 3)
		for i := range int32(3) {
			f.send(topic, i, records(t, 1, 10, nil))
		}
		c := new(server.Conn)
		indexes := func(parts []fetchedPart) (out []int32) {
			for _, p := range parts {
				out = append(out, p.Partition)
			}
			return out
		}
		expect := func(what string, got []fetchedPart, want ...int32) {
			t.Helper()
			if len(got) != len(want) {
				t.Fatalf("v%d %s: partitions %v, want %v", version, what, indexes(got), want)
			}
			for i := range want {
				if got[i].Partition != want[i] {
					t.Fatalf("v%d %s: partitions %v, want %v", version, what, indexes(got), want)
				}
			}
		}
		head, parts := f.fetch(c, session(fetchOf(version, ask{topic: topic, index: 0}, ask{topic: topic, index: 1, offset: 1}, ask{topic: topic, index: 2, offset: 1}), 0, 0))
		id := head.SessionID
		if id <= 0 || head.ErrorCode != 0 {
			t.Fatalf("v%d: no session: %+v", version, head)
		}
		expect("full", parts, 0, 1, 2)

		_, parts = f.fetch(c, session(fetchOf(version, ask{topic: topic, index: 0, offset: 1}), id, 1))
		expect("nothing new", parts)

		f.send(topic, 1, records(t, 1, 10, nil))
		_, parts = f.fetch(c, session(fetchOf(version), id, 2))
		expect("data", parts, 1)
		if parts[0].bytes == 0 {
			t.Fatalf("%+v", parts[0])
		}
		_, parts = f.fetch(c, session(fetchOf(version, ask{topic: topic, index: 1, offset: 2}), id, 3))
		expect("consumed", parts)

		// Who had data waits behind the others.
		f.send(topic, 0, records(t, 1, 10, nil))
		f.send(topic, 1, records(t, 1, 10, nil))
		f.send(topic, 2, records(t, 1, 10, nil))
		_, parts = f.fetch(c, session(fetchOf(version), id, 4))
		expect("rotation", parts, 0, 2, 1)
		_, parts = f.fetch(c, session(fetchOf(version, ask{topic: topic, index: 2, offset: 2}), id, 5))
		expect("again what was not consumed", parts, 0, 1)

		// An error is answered each time, and recovery is news.
		_, parts = f.fetch(c, session(fetchOf(version, ask{topic: topic, index: 0, offset: 99}, ask{topic: topic, index: 1, offset: 3}), id, 6))
		expect("error", parts, 0)
		if parts[0].ErrorCode != kerr.OffsetOutOfRange.Code {
			t.Fatalf("%+v", parts[0])
		}
		_, parts = f.fetch(c, session(fetchOf(version), id, 7))
		expect("error again", parts, 0)
		_, parts = f.fetch(c, session(fetchOf(version, ask{topic: topic, index: 0, offset: 2}), id, 8))
		expect("recovery", parts, 0)

		// A new log start is news without records.
		p, _ := f.Partitions.Get(metadata.PartitionID{Topic: topic.ID, Partition: 2})
		if _, err := p.AdvanceLogStart(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		_, parts = f.fetch(c, session(fetchOf(version), id, 9))
		expect("log start", parts, 2)
		if parts[0].LogStart != 1 {
			t.Fatalf("%+v", parts[0])
		}

		_, parts = f.fetch(c, session(forget(fetchOf(version, ask{topic: topic, index: 1, offset: 0}), topic, 1, 2), id, 10))
		expect("forgotten", parts)
		_, parts = f.fetch(c, session(fetchOf(version), id, 11))
		expect("still forgotten", parts)

		head, parts = f.fetch(c, session(fetchOf(version), id, 11))
		if head.ErrorCode != kerr.InvalidFetchSessionEpoch.Code || len(parts) != 0 {
			t.Fatalf("v%d: repeated epoch: %+v", version, head)
		}
		head, _ = f.fetch(c, session(fetchOf(version), id+1, 1))
		if head.ErrorCode != kerr.FetchSessionIDNotFound.Code {
			t.Fatalf("v%d: unknown session: %+v", version, head)
		}
		other := int16(13)
		if version >= 13 {
			other = 12
		}
		head, _ = f.fetch(c, session(fetchOf(other), id, 12))
		if head.ErrorCode != kerr.FetchSessionTopicIDError.Code {
			t.Fatalf("v%d: session used with v%d: %+v", version, other, head)
		}
		// Forgetting the last partition ends the session; its data is answered as without one.
		head, _ = f.fetch(c, session(forget(fetchOf(version), topic, 0), id, 12))
		if head.ErrorCode != 0 || head.SessionID != 0 {
			t.Fatalf("v%d: %+v", version, head)
		}
		head, _ = f.fetch(c, session(fetchOf(version), id, 13))
		if head.ErrorCode != kerr.FetchSessionIDNotFound.Code {
			t.Fatalf("v%d: ended session: %+v", version, head)
		}
		// Epoch -1 closes; a full fetch replaces.
		head, _ = f.fetch(c, session(fetchOf(version, ask{topic: topic}), 0, 0))
		second, _ := f.fetch(c, session(fetchOf(version, ask{topic: topic}), head.SessionID, 0))
		if second.SessionID == head.SessionID || second.SessionID == 0 {
			t.Fatalf("v%d: %+v after %+v", version, second, head)
		}
		head, parts = f.fetch(c, session(fetchOf(version, ask{topic: topic}), second.SessionID, -1))
		if head.SessionID != 0 || len(parts) != 1 || len(f.Broker.log.sessions.byID) != 0 {
			t.Fatalf("v%d: %+v", version, head)
		}
	}
}

// TestFetchSessionOfRecreatedTopic: an id that is gone is UNKNOWN_TOPIC_ID per partition; the new topic has another id.
func TestFetchSessionOfUnknownTopicID(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	c := new(server.Conn)
	head, parts := f.fetch(c, session(fetchOf(13, ask{topic: topic}, ask{topic: &metadata.Topic{Name: "x", ID: metadata.TopicID{5}}}), 0, 0))
	if head.SessionID == 0 || len(parts) != 2 || parts[1].ErrorCode != kerr.UnknownTopicID.Code {
		t.Fatalf("%+v %+v", head, parts)
	}
	if _, parts = f.fetch(c, session(fetchOf(13), head.SessionID, 1)); len(parts) != 1 || parts[0].ErrorCode != kerr.UnknownTopicID.Code {
		t.Fatalf("%+v", parts)
	}
}

func TestSessionCacheEviction(t *testing.T) {
	now := time.Unix(0, 0)
	c := newSessionCache(2)
	c.now = func() time.Time { return now }
	create := func(size int) *fetchSession {
		s := &fetchSession{}
		if c.create(s, size) == 0 {
			return nil
		}
		return s
	}
	small, large := create(5), create(10)
	if small == nil || large == nil || create(100) != nil {
		t.Fatal("a full cache of young sessions takes no other")
	}
	now = now.Add(3 * time.Minute)
	c.touch(large, 10)
	c.touch(small, 5)
	if create(4) != nil {
		t.Fatal("a smaller session pushed a larger one out")
	}
	if create(7) == nil || c.get(small.id) != nil || c.get(large.id) == nil {
		t.Fatal("the smallest one should have gone")
	}
	now = now.Add(3 * time.Minute)
	if create(1) == nil || c.get(large.id) != nil {
		t.Fatal("the longest unused one should have gone")
	}
	if n, parts, evicted := c.totals(); n != 2 || parts != 8 || evicted != 2 {
		t.Fatal(n, parts, evicted)
	}
	if create(maxSessionPartitions+1) != nil {
		t.Fatal("a session without bound")
	}
	c.remove(12345)
	for c.first != nil {
		c.remove(c.first.id)
	}
	if n, parts, _ := c.totals(); n != 0 || parts != 0 || c.last != nil {
		t.Fatal(n, parts)
	}
}

func TestSessionEpochWraps(t *testing.T) {
	if nextSessionEpoch(0) != 1 || nextSessionEpoch(1<<31-1) != 1 {
		t.Fatal("epoch")
	}
}

func TestDuplicatePartitionsCountOnce(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	f.send(topic, 0, records(t, 1, 1, nil))
	_, parts := f.fetch(new(server.Conn), fetchOf(12, ask{topic: topic, offset: 99}, ask{topic: topic, index: 1}, ask{topic: topic, offset: 0}))
	if len(parts) != 2 || parts[0].ErrorCode != 0 || parts[0].bytes == 0 {
		t.Fatalf("%+v", parts)
	}
}

func FuzzFetchPlan(f *testing.F) {
	req := fetchOf(18, ask{topic: &metadata.Topic{Name: "t", ID: metadata.TopicID{1}}, index: 3})
	forget(session(req, 1, 1), &metadata.Topic{ID: metadata.TopicID{1}}, 3)
	req.SetVersion(18)
	f.Add(int16(18), req.AppendTo(nil))
	req.SetVersion(7)
	f.Add(int16(7), req.AppendTo(nil))
	f.Fuzz(func(t *testing.T, version int16, b []byte) {
		version = 4 + int16(uint16(version)%15)
		req := kmsg.NewPtrFetchRequest()
		req.SetVersion(version)
		if req.ReadFrom(b) != nil {
			return
		}
		c := newSessionCache(4)
		s := &fetchSession{epoch: 1, usesIDs: version >= 13, parts: map[fetchKey]*cachedPart{}}
		s.id = req.SessionID
		if req.SessionID > 0 {
			c.create(s, 0)
		}
		plan := c.plan(version, req, nil)
		parts := make([]fetchPart, len(plan.asks))
		for i := range parts {
			parts[i] = fetchPart{ask: plan.asks[i], keep: true}
		}
		c.finish(version, &plan, parts)
		for _, s := range c.byID {
			n := 0
			for p := s.first; p != nil; p = p.next {
				n++
			}
			if n != len(s.parts) {
				t.Fatalf("%d partitions in order, %d in the map", n, len(s.parts))
			}
		}
	})
}
