package wire

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// asUsed takes off what DecodeFetch leaves out, and the difference between nil and empty.
func asUsed(req *kmsg.FetchRequest) kmsg.FetchRequest {
	u := *req
	u.ClusterID, u.UnknownTags = nil, kmsg.Tags{}
	u.ReplicaState = kmsg.NewFetchRequest().ReplicaState
	u.Topics, u.ForgottenTopics = nil, nil
	for _, t := range req.Topics {
		used := kmsg.FetchRequestTopic{Topic: t.Topic, TopicID: t.TopicID}
		for _, p := range t.Partitions {
			d := kmsg.NewFetchRequestTopicPartition()
			p.UnknownTags, p.ReplicaDirectoryID, p.HighWatermark = d.UnknownTags, d.ReplicaDirectoryID, d.HighWatermark
			used.Partitions = append(used.Partitions, p)
		}
		u.Topics = append(u.Topics, used)
	}
	for _, t := range req.ForgottenTopics {
		u.ForgottenTopics = append(u.ForgottenTopics, kmsg.FetchRequestForgottenTopic{
			Topic: t.Topic, TopicID: t.TopicID, Partitions: append([]int32(nil), t.Partitions...),
		})
	}
	return u
}

// TestDecodeFetchFollowsKmsg decodes requests of all versions, one after the other into the same structure.
func TestDecodeFetchFollowsKmsg(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var got kmsg.FetchRequest
	for range 2000 {
		version := int16(4 + r.IntN(15))
		body := randomRequest(r, KeyFetch, version).AppendTo(nil)
		want := kmsg.NewPtrFetchRequest()
		want.Version = version
		if err := want.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		if err := DecodeFetch(&got, version, body); err != nil {
			t.Fatalf("v%d: %v", version, err)
		}
		if g, w := asUsed(&got), asUsed(want); !reflect.DeepEqual(g, w) {
			t.Fatalf("v%d:\n%+v, want\n%+v", version, g, w)
		}
		for _, n := range []int{0, len(body) / 2, len(body) - 1} {
			if err := DecodeFetch(&got, version, body[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("v%d: %d of %d bytes accepted: %v", version, n, len(body), err)
			}
		}
	}
}

func TestDecodeFetchDoesNotAllocate(t *testing.T) {
	for _, version := range []int16{12, 17} {
		req := kmsg.NewPtrFetchRequest()
		req.Version = version
		for _, name := range []string{"one", "two"} {
			topic := kmsg.NewFetchRequestTopic()
			topic.Topic, topic.TopicID[0] = name, name[0]
			topic.Partitions = make([]kmsg.FetchRequestTopicPartition, 10)
			req.Topics = append(req.Topics, topic)
		}
		body := req.AppendTo(nil)
		var got kmsg.FetchRequest
		if n := testing.AllocsPerRun(200, func() {
			if DecodeFetch(&got, version, body) != nil || len(got.Topics[1].Partitions) != 10 {
				t.Error("not decoded")
			}
		}); n > 0 {
			t.Errorf("v%d: %v allocations", version, n)
		}
	}
}

func FuzzDecodeFetch(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for version := int16(4); version <= 18; version++ {
		f.Add(version, randomRequest(r, KeyFetch, version).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		if version < 4 || version > 18 {
			return
		}
		if _, err := Check(KeyFetch, version, body, 1<<20); err != nil {
			return
		}
		var got kmsg.FetchRequest
		err := DecodeFetch(&got, version, body)
		want := kmsg.NewPtrFetchRequest()
		want.Version = version
		if want.ReadFrom(body) != nil {
			return // a length inside of a tagged field; this broker skips those
		}
		if err != nil {
			t.Fatalf("kmsg decodes it: %v", err)
		}
		if g, w := asUsed(&got), asUsed(want); !reflect.DeepEqual(g, w) {
			t.Fatalf("%+v, want\n%+v", g, w)
		}
	})
}
