package group

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/group/consumer"
)

// fourOrders is a cluster with the topic orders of four partitions.
type fourOrders struct{}

var ordersOf4 = consumer.Topic{ID: consumer.TopicID(ordersID), Partitions: 4}

func (fourOrders) Topic(name string) (consumer.Topic, bool) { return ordersOf4, name == "orders" }
func (fourOrders) Name(id consumer.TopicID) (string, bool)  { return "orders", id == ordersOf4.ID }
func (fourOrders) Names() iter.Seq[string]                  { return maps.Keys(map[string]bool{"orders": true}) }
func (fourOrders) Revision() int64                          { return 1 }
func (fourOrders) Generation() int64                        { return 1 }

func withTopics(o *Options) { o.Topics = func() consumer.Topics { return fourOrders{} } }

// beat is a heartbeat of a member that says all; the epoch 0 joins.
func (h *house) beat(group, member string, epoch int32, owned consumer.Assignment) consumer.HeartbeatReply {
	r := consumer.HeartbeatRequest{
		Version: 1, MemberID: member, Epoch: epoch, ClientID: "app", ClientHost: "/127.0.0.1", RebalanceTimeoutMillis: 60_000,
		Names: []string{"orders"}, Owned: owned, OwnedKnown: true,
	}
	if epoch < 0 {
		r.RebalanceTimeoutMillis, r.Names, r.OwnedKnown = -1, nil, false
	}
	return h.ConsumerHeartbeat(h.t.Context(), group, r)
}

func (h *house) partitions(r consumer.HeartbeatReply) string {
	h.t.Helper()
	if r.Err != nil {
		return r.Err.Message
	}
	return fmt.Sprint(r.Assignment[ordersOf4.ID])
}

// TestConsumerGroupSurvivesItsCoordinator: another broker takes over, and members go on at their epochs with their partitions.
func TestConsumerGroupSurvivesItsCoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		h := open(t, store, 1, withTopics)
		a := h.beat("g", "a", 0, nil)
		h.expect("a alone", h.partitions(a), "[0 1 2 3]")
		b := h.beat("g", "b", 0, nil)
		h.expect("b at first", h.partitions(b), "[]")
		a = h.beat("g", "a", a.Epoch, a.Assignment)
		h.expect("a is to give up", h.partitions(a), "[0 1]")
		h.stop()
		h = open(t, store, 2, withTopics)
		a = h.beat("g", "a", a.Epoch, a.Assignment)
		h.expect("a has given up", h.partitions(a), "[0 1]")
		b = h.beat("g", "b", b.Epoch, nil)
		h.expect("b has the rest", h.partitions(b), "[2 3]")
		writes := store.calls["SaveGroup"]
		h.stop()
		h = open(t, store, 3, withTopics)
		defer h.stop()
		again := h.beat("g", "b", b.Epoch, b.Assignment)
		h.expect("epoch", again.Epoch, b.Epoch)
		h.expect("writes", store.calls["SaveGroup"], writes)
		d, why := h.DescribeConsumers("g")
		h.expect("describe", why.Err, (*kerr.Error)(nil))
		h.expect("state", d.State, consumer.Stable)
		list, _ := h.List(nil)
		h.expect("list", fmt.Sprint(list), "[{g consumer consumer Stable}]")
	})
}

// TestHeartbeatTellsOnlyWhatIsDurable: while the store fails, nobody learns of a change, and the change is written by and by.
func TestHeartbeatTellsOnlyWhatIsDurable(t *testing.T) {
	bubble(t, withTopics, func(t *testing.T, h *house) {
		a := h.beat("g", "a", 0, nil)
		h.store.setHook(func(call, _ string) fate {
			if call == "SaveGroup" {
				return failed
			}
			return fine
		})
		h.expect("b joins", h.partitions(h.beat("g", "b", 0, nil)), kerr.CoordinatorNotAvailable.Message)
		h.expect("a, nothing written", h.partitions(h.beat("g", "a", a.Epoch, a.Assignment)), kerr.CoordinatorNotAvailable.Message)
		h.store.setHook(nil)
		h.expect("a is to give up", h.partitions(h.beat("g", "a", a.Epoch, a.Assignment)), "[0 1]")
		h.store.mu.Lock()
		s, err := consumer.Decode(h.store.states["g"].state)
		h.store.mu.Unlock()
		if err != nil || len(s.Members) != 2 {
			t.Errorf("stored: %+v, %v", s, err)
		}
		// Heartbeats that change nothing cost no write.
		a = h.beat("g", "a", a.Epoch, consumer.Assignment{ordersOf4.ID: {0, 1}})
		writes := h.store.calls["SaveGroup"]
		for range 5 {
			h.beat("g", "a", a.Epoch, a.Assignment)
		}
		h.expect("writes", h.store.calls["SaveGroup"], writes)
	})
}

func TestConsumerSessionsAndCommits(t *testing.T) {
	bubble(t, withTopics, func(t *testing.T, h *house) {
		a := h.beat("g", "a", 0, nil)
		commit := func(member string, epoch int32, version int16) *kerr.Error {
			r := &Commit{
				Group: "g", MemberID: member, Generation: epoch, Version: version, RetentionMillis: -1, UnknownGroup: kerr.GroupIDNotFound,
				Topics: []CommitTopic{{Topic: ordersID, Partitions: []CommitPartition{{Partition: 3, Offset: 7, LeaderEpoch: -1}}}},
			}
			h.Commit(t.Context(), r)
			return r.Topics[0].Partitions[0].Err
		}
		var none *kerr.Error
		h.expect("at the epoch", commit("a", a.Epoch, 9), none)
		h.expect("ahead", commit("a", a.Epoch+1, 9), kerr.StaleMemberEpoch)
		h.expect("before it had it", commit("a", a.Epoch-1, 9), kerr.StaleMemberEpoch)
		h.expect("as nobody", commit("", -1, 9), kerr.UnknownMemberID)
		h.expect("old version", commit("a", a.Epoch, 8), kerr.UnsupportedVersion)
		member := "a"
		h.expect("fetch", h.CheckFetch("g", &member, a.Epoch), none)
		h.expect("fetch, stale", h.CheckFetch("g", &member, a.Epoch+1), kerr.StaleMemberEpoch)
		h.expect("fetch by nobody", h.CheckFetch("g", nil, -1), none)
		h.expect("classic describe", h.state("g"), kerr.GroupIDNotFound.Message)
		h.expect("delete", h.Delete(t.Context(), "g"), kerr.NonEmptyGroup)
		time.Sleep(46 * time.Second)
		synctest.Wait()
		h.expect("after the session", h.partitions(h.beat("g", "a", a.Epoch, a.Assignment)), kerr.UnknownMemberID.Message)
		h.expect("as nobody, empty", commit("", -1, 9), none)
		h.expect("delete, empty", h.Delete(t.Context(), "g"), none)
		h.expect("gone", h.partitions(h.beat("g", "a", a.Epoch, a.Assignment)), kerr.GroupIDNotFound.Message)
	})
}

// subscribing is a classic member whose subscription and assignment are those of consumers.
func subscribing(memberID string) classic.JoinRequest {
	return joining(memberID, func(r *classic.JoinRequest) { r.RequireKnownMemberID = false })
}

func assignmentOf(partitions ...byte) []byte {
	b := append([]byte{0, 0, 0, 0, 0, 1, 0, 6}, "orders"...)
	b = append(b, 0, 0, 0, byte(len(partitions)))
	for _, p := range partitions {
		b = append(b, 0, 0, 0, p)
	}
	return append(b, 0xff, 0xff, 0xff, 0xff)
}

// TestMigration: a consumer of the new protocol joins a classic group, which becomes a consumer group; it leaves, and the group is classic
// again. The classic member keeps its offsets and its place.
func TestMigration(t *testing.T) {
	bubble(t, withTopics, func(t *testing.T, h *house) {
		var none *kerr.Error
		joined := h.Join(t.Context(), "g", subscribing(""))
		synced := h.Sync(t.Context(), "g", classic.SyncRequest{
			Generation: joined.Generation, MemberID: joined.MemberID,
			Assignments: map[string][]byte{joined.MemberID: assignmentOf(0, 1, 2, 3)},
		})
		h.expect("sync", synced.Err, none)
		old := joined.MemberID
		n := h.beat("g", "new", 0, nil)
		h.expect("new", h.partitions(n), "[]")
		d, _ := h.DescribeConsumers("g")
		h.expect("members", len(d.Members), 2)
		h.expect("old is told", h.Heartbeat("g", old, nil, joined.Generation), kerr.RebalanceInProgress)
		joined = h.Join(t.Context(), "g", subscribing(old)) // it has given up everything, as eager members do
		h.expect("old rejoins", joined.Err, none)
		synced = h.Sync(t.Context(), "g", classic.SyncRequest{Generation: joined.Generation, MemberID: old})
		h.expect("old has", fmt.Sprint(synced.Assignment), fmt.Sprint(assignmentOf(0, 1)))
		n = h.beat("g", "new", n.Epoch, n.Assignment)
		h.expect("new has", h.partitions(n), "[2 3]")
		h.expect("old stays", h.Heartbeat("g", old, nil, joined.Generation), none)

		h.expect("new leaves", h.beat("g", "new", -1, nil).Err, none)
		list, _ := h.List(nil)
		h.expect("list", fmt.Sprint(list), "[{g consumer classic PreparingRebalance}]")
		h.expect("old is told again", h.Heartbeat("g", old, nil, joined.Generation+1), kerr.RebalanceInProgress)
		joined = h.Join(t.Context(), "g", subscribing(old))
		h.expect("old rejoins the classic group", joined.Err, none)
		h.expect("it leads", joined.Leader, old)
		errs, err := h.Leave(t.Context(), "g", []classic.Leaver{{MemberID: old}})
		h.expect("leaves", errs[0], none)
		h.expect("leave", err, none)
		h.expect("an empty group becomes a consumer group", h.partitions(h.beat("g", "x", 0, nil)), "[0 1 2 3]")
	})
}

func TestMigrationMayBeDisabled(t *testing.T) {
	bubble(t, func(o *Options) { withTopics(o); o.Migration = "disabled" }, func(t *testing.T, h *house) {
		h.form("g", 1)
		h.expect("joins", h.beat("g", "new", 0, nil).Err, kerr.GroupIDNotFound)
		h.expect("state", h.state("g"), "Stable")
	})
}

// TestConsumerHeartbeatWithoutAClient ends with its context while the store hangs.
func TestConsumerHeartbeatWithoutAClient(t *testing.T) {
	bubble(t, withTopics, func(t *testing.T, h *house) {
		hang := make(chan struct{})
		h.store.setHook(func(call, _ string) fate {
			if call == "SaveGroup" {
				<-hang
			}
			return fine
		})
		ctx, cancel := context.WithCancel(t.Context())
		reply := later(func() consumer.HeartbeatReply {
			return h.ConsumerHeartbeat(ctx, "g", consumer.HeartbeatRequest{Version: 1, MemberID: "a", RebalanceTimeoutMillis: 1, Names: []string{"orders"}, OwnedKnown: true})
		})
		synctest.Wait()
		cancel()
		h.expect("without a client", (<-reply).Err, kerr.CoordinatorNotAvailable)
		close(hang)
	})
}
