package group

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/metadata"
)

// house is a coordinator under test, over a store that outlives it.
type house struct {
	*Coordinator
	t     *testing.T
	store *memStore
	stop  func() // ends Run and waits for it
}

var (
	ordersID   = metadata.TopicID{1}
	paymentsID = metadata.TopicID{2}
)

// topics are the names by which tests know topics; deleted ones are taken out.
type topics struct {
	mu    sync.Mutex
	names map[metadata.TopicID]string
}

func (t *topics) name(id metadata.TopicID) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, ok := t.names[id]
	return name, ok
}

func allTopics() *topics {
	return &topics{names: map[metadata.TopicID]string{ordersID: "orders", paymentsID: "payments"}}
}

func open(t *testing.T, store *memStore, incarnation metadata.Incarnation, change func(*Options)) *house {
	t.Helper()
	delay := 100 * time.Millisecond
	opts := Options{
		States: store, Offsets: store, TopicName: allTopics().name, Incarnation: incarnation, InitialRebalanceDelay: &delay,
	}
	if change != nil {
		change(&opts)
	}
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	h := &house{Coordinator: c, t: t, store: store}
	h.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	return h
}

// bubble runs a test in synctest, with the house closed at its end.
func bubble(t *testing.T, change func(*Options), test func(t *testing.T, h *house)) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newMemStore(), 1, change)
		defer h.stop()
		test(t, h)
	})
}

func subscription(topics ...string) []byte {
	b := []byte{0, 0, 0, 0, 0, byte(len(topics))}
	for _, topic := range topics {
		b = append(append(b, 0, byte(len(topic))), topic...)
	}
	return append(b, 0xff, 0xff, 0xff, 0xff)
}

func joining(memberID string, change func(*classic.JoinRequest)) classic.JoinRequest {
	r := classic.JoinRequest{
		MemberID: memberID, ClientID: "app", ClientHost: "/127.0.0.1", SessionTimeoutMillis: 10_000, RebalanceTimeoutMillis: 30_000,
		ProtocolType: "consumer", Protocols: []classic.Protocol{{Name: "range", Metadata: subscription("orders")}},
		RequireKnownMemberID: true, CanSkipAssignment: true,
	}
	if change != nil {
		change(&r)
	}
	return r
}

// later runs fn on a goroutine and returns a channel with its result.
func later[R any](fn func() R) <-chan R {
	ch := make(chan R, 1)
	go func() { ch <- fn() }()
	return ch
}

// form makes a stable group with n members and returns their ids, the leader first.
func (h *house) form(group string, n int) []string {
	h.t.Helper()
	ids := make([]string, n)
	var replies []<-chan classic.JoinReply
	for i := range ids {
		r := h.Join(h.t.Context(), group, joining("", nil))
		if r.Err != kerr.MemberIDRequired {
			h.t.Fatalf("first join: %+v", r)
		}
		ids[i] = r.MemberID
		replies = append(replies, later(func() classic.JoinReply { return h.Join(h.t.Context(), group, joining(r.MemberID, nil)) }))
		synctest.Wait()
	}
	var leader string
	var generation int32
	for _, reply := range replies {
		r := <-reply
		if r.Err != nil {
			h.t.Fatalf("join: %+v", r)
		}
		leader, generation = r.Leader, r.Generation
	}
	assignments := map[string][]byte{}
	for i, id := range ids {
		assignments[id] = []byte{byte(i)}
	}
	var syncs []<-chan classic.SyncReply
	for _, id := range ids {
		r := classic.SyncRequest{Generation: generation, MemberID: id}
		if id == leader {
			r.Assignments = assignments
		}
		syncs = append(syncs, later(func() classic.SyncReply { return h.Sync(h.t.Context(), group, r) }))
	}
	for i, s := range syncs {
		if r := <-s; r.Err != nil || len(r.Assignment) != 1 || r.Assignment[0] != byte(i) {
			h.t.Fatalf("sync of member %d: %+v", i, r)
		}
	}
	if leader != ids[0] {
		h.t.Fatalf("leader is %s, want the first member %s", leader, ids[0])
	}
	return ids
}

func (h *house) state(group string) string {
	d, err := h.Describe(group)
	if err != nil {
		return err.Message
	}
	return d.State.String()
}

// commit commits one offset of orders as a client that is no member.
func (h *house) commit(group string, partition int32, offset metadata.Offset) *kerr.Error {
	return h.commitAs(group, "", -1, ordersID, partition, offset)
}

func (h *house) commitAs(group, member string, generation int32, topic metadata.TopicID, partition int32, offset metadata.Offset) *kerr.Error {
	r := &Commit{
		Group: group, MemberID: member, Generation: generation, RetentionMillis: -1, UnknownGroup: kerr.IllegalGeneration,
		Topics: []CommitTopic{{Topic: topic, Partitions: []CommitPartition{{Partition: partition, Offset: offset, LeaderEpoch: -1}}}},
	}
	h.Commit(h.t.Context(), r)
	return r.Topics[0].Partitions[0].Err
}

// offset is the committed offset of orders, or the error's name.
func (h *house) offset(group string, partition int32, stable bool) any {
	out, err := h.FetchOffsets(h.t.Context(), group, []TopicPartitions{{ordersID, []int32{partition}}}, stable)
	if err != nil {
		return err.Message
	}
	return int64(out[0].Partitions[0].Offset)
}

func (h *house) expect(what string, got, want any) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: %v, want %v", what, got, want)
	}
}
