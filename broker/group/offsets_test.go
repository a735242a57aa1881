package group

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/metadata"
)

func TestCommitsAreCoalesced(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		gate := make(chan struct{})
		h.store.setHook(func(call, _ string) fate { <-gate; return fine })
		poisoned := errors.New("poisoned")
		h.store.partial = func(o metadata.GroupOffsets) error {
			if o.Group == "g7" {
				return poisoned
			}
			return nil
		}
		var replies []<-chan *kerr.Error
		for i := range 200 {
			group := fmt.Sprintf("g%d", i%100)
			replies = append(replies, later(func() *kerr.Error { return h.commit(group, 0, metadata.Offset(i)) }))
			synctest.Wait() // so that the later commit of a group is the later one
		}
		close(gate)
		for i, reply := range replies {
			want := none
			if i%100 == 7 {
				want = kerr.CoordinatorNotAvailable
			}
			h.expect(fmt.Sprintf("commit %d", i), <-reply, want)
		}
		if got := fmt.Sprint(h.store.batches); got != "[1 100]" {
			t.Errorf("calls wrote %v groups, want the first commit alone and all others together, each group once", got)
		}
		h.expect("the later of two", h.offset("g42", 0, false), int64(142))
		h.expect("the failed group is read again", h.offset("g7", 0, false), int64(-1))
	})
}

// TestCommitOutcomes: whatever happens to the store's answers, what is fetched is what is stored.
func TestCommitOutcomes(t *testing.T) {
	for what, want := range map[fate]int64{lost: 2, failed: 1} {
		bubble(t, nil, func(t *testing.T, h *house) {
			h.expect("commit", h.commit("g", 0, 1), none)
			calls := 0
			h.store.setHook(func(call, _ string) fate {
				if calls++; calls == 1 {
					return what
				}
				return fine
			})
			h.expect("commit with a lost answer", h.commit("g", 0, 2), kerr.CoordinatorNotAvailable)
			h.expect("fetch", h.offset("g", 0, false), want)
			h.expect("fetch", h.offset("g", 0, false), want)
			h.expect("reads", h.store.calls["LoadOffsets"], 1)
		})
	}
}

func TestCommitRefusals(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		ids := h.form("g", 1)
		h.expect("a member of no group", h.commitAs("none", "m", 3, ordersID, 0, 1), kerr.IllegalGeneration)
		h.expect("wrong generation", h.commitAs("g", ids[0], 3, ordersID, 0, 1), kerr.IllegalGeneration)
		h.expect("unknown member", h.commitAs("g", "m", 1, ordersID, 0, 1), kerr.UnknownMemberID)
		h.expect("no member of a group with members", h.commit("g", 0, 1), kerr.UnknownMemberID)
		h.expect("the empty group id", h.commit("", 0, 1), none)
		h.expect("a negative offset", h.commit("", 0, -1), kerr.InvalidRequest)

		r := &Commit{Group: "g", MemberID: ids[0], Generation: 1, RetentionMillis: -1, Topics: []CommitTopic{
			{Topic: ordersID, Partitions: []CommitPartition{
				{Partition: 0, Offset: 1, Metadata: strings.Repeat("ü", 4096)},
				{Partition: 1, Offset: 2, Metadata: strings.Repeat("x", 4097)},
			}},
			{Topic: paymentsID, Partitions: []CommitPartition{{Partition: 9, Metadata: strings.Repeat("x", 9999)}}},
		}}
		h.Commit(t.Context(), r)
		h.expect("4096 characters", r.Topics[0].Partitions[0].Err, none)
		h.expect("4097 characters", r.Topics[0].Partitions[1].Err, kerr.OffsetMetadataTooLarge)
		h.expect("only too large", r.Topics[1].Partitions[0].Err, kerr.OffsetMetadataTooLarge)
		h.expect("written", h.offset("g", 0, false), int64(1))
		h.expect("not written", h.offset("g", 1, false), int64(-1))
		out, _ := h.FetchOffsets(t.Context(), "g", nil, false)
		if len(out) != 1 || out[0].Topic != ordersID || len(out[0].Partitions) != 1 {
			t.Errorf("all offsets: %+v", out)
		}
		out, err := h.FetchOffsets(t.Context(), "unknown", nil, false)
		if err != nil || len(out) != 0 {
			t.Errorf("all offsets of an unknown group: %v, %v", out, err)
		}
		h.expect("an unknown group", h.offset("unknown", 0, true), int64(-1))
	})
}

func TestRequireStableWaits(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		h.expect("commit", h.commit("g", 0, 1), none)
		gate := make(chan struct{})
		h.store.setHook(func(call, _ string) fate {
			if call == "CommitOffsets" {
				<-gate
			}
			return fine
		})
		commit := later(func() *kerr.Error { return h.commit("g", 0, 2) })
		synctest.Wait()
		stable := later(func() any { return h.offset("g", 0, true) })
		synctest.Wait()
		h.expect("unstable fetch", h.offset("g", 0, false), int64(1))
		select {
		case got := <-stable:
			t.Fatalf("stable fetch answered %v with a commit under way", got)
		default:
		}
		close(gate)
		h.expect("commit", <-commit, none)
		h.expect("stable fetch", <-stable, int64(2))
	})
}

func TestCommitTimesOut(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		gate := make(chan struct{})
		h.store.setHook(func(string, string) fate { <-gate; return fine })
		begun := time.Now()
		h.expect("commit", h.commit("g", 0, 2), kerr.CoordinatorNotAvailable)
		h.expect("took", time.Since(begun), 5*time.Second)
		close(gate)
		synctest.Wait()
		h.expect("it took place all the same", h.offset("g", 0, true), int64(2))
	})
}

func TestDeleteOffsets(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		ids := h.form("g", 1)
		h.expect("commit", h.commitAs("g", ids[0], 1, ordersID, 0, 5), none)
		h.expect("commit", h.commitAs("g", ids[0], 1, paymentsID, 0, 6), none)
		errs, err := h.DeleteOffsets(t.Context(), "g", []TopicPartitions{{ordersID, []int32{0}}, {paymentsID, []int32{0, 1}}})
		h.expect("request", err, none)
		h.expect("subscribed topic", errs[0], kerr.GroupSubscribedToTopic)
		h.expect("other topic", errs[1], none)
		h.expect("kept", h.offset("g", 0, false), int64(5))
		h.expect("stored", len(h.store.offsets), 1)
		_, err = h.DeleteOffsets(t.Context(), "unknown", nil)
		h.expect("unknown group", err, kerr.GroupIDNotFound)
		h.store.setHook(func(string, string) fate { return failed })
		_, err = h.DeleteOffsets(t.Context(), "g", []TopicPartitions{{paymentsID, []int32{7}}})
		h.expect("store away", err, kerr.CoordinatorNotAvailable)
	})
}

func TestDeleteGroup(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		ids := h.form("g", 1)
		h.expect("with members", h.Delete(t.Context(), "g"), kerr.NonEmptyGroup)
		h.expect("unknown", h.Delete(t.Context(), "unknown"), kerr.GroupIDNotFound)
		gate := make(chan struct{})
		h.store.setHook(func(call, _ string) fate { <-gate; return fine })
		leave := later(func() *kerr.Error {
			_, err := h.Leave(t.Context(), "g", []classic.Leaver{{MemberID: ids[0]}})
			return err
		})
		synctest.Wait()
		commit := later(func() *kerr.Error { return h.commit("g", 0, 1) })
		synctest.Wait()
		deleted := later(func() *kerr.Error { return h.Delete(t.Context(), "g") })
		synctest.Wait()
		close(gate)
		h.expect("leave", <-leave, none)
		h.expect("commit before", <-commit, none)
		h.expect("delete", <-deleted, none)
		h.expect("state", h.state("g"), "GROUP_ID_NOT_FOUND")
		h.expect("states stored", len(h.store.states), 0)
		h.expect("offsets stored", len(h.store.offsets), 0)
		h.expect("groups", h.groups.Load(), int64(0))
		h.expect("offset", h.offset("g", 0, true), int64(-1))

		// an unknown outcome leaves a group that works, and can be deleted again
		h.expect("commit", h.commit("h", 0, 1), none)
		calls := 0
		h.store.setHook(func(call, _ string) fate {
			if call == "DeleteGroup" {
				if calls++; calls == 1 {
					return lost
				}
			}
			return fine
		})
		h.expect("delete with a lost answer", h.Delete(t.Context(), "h"), kerr.CoordinatorNotAvailable)
		h.expect("offset", h.offset("h", 0, false), int64(-1))
		h.expect("commit", h.commit("h", 0, 2), none)
		h.expect("delete", h.Delete(t.Context(), "h"), none)
		h.expect("groups", h.groups.Load(), int64(0))
	})
}

func TestExpiry(t *testing.T) {
	names := allTopics()
	bubble(t, func(o *Options) { o.TopicName = names.name }, func(t *testing.T, h *house) {
		ids := h.form("members", 1)
		keepAlive := func(d time.Duration) {
			for ; d > 0; d -= 5 * time.Second {
				time.Sleep(5 * time.Second)
				if err := h.Heartbeat("members", ids[0], nil, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		h.expect("subscribed", h.commitAs("members", ids[0], 1, ordersID, 0, 1), none)
		h.expect("not subscribed", h.commitAs("members", ids[0], 1, paymentsID, 0, 2), none)
		h.expect("simple", h.commit("simple", 0, 3), none)
		r := &Commit{Group: "explicit", Generation: -1, RetentionMillis: 1000, Topics: []CommitTopic{{ordersID, []CommitPartition{{Partition: 0, Offset: 1}}}}}
		h.Commit(t.Context(), r)

		keepAlive(15 * time.Minute)
		h.expect("a retention of its own has passed, and the group is gone", h.state("explicit"), "GROUP_ID_NOT_FOUND")
		h.expect("simple", h.offset("simple", 0, false), int64(3))

		keepAlive(7 * 24 * time.Hour)
		h.expect("a simple group", h.state("simple"), "GROUP_ID_NOT_FOUND")
		h.expect("subscribed", h.offset("members", 0, false), int64(1))
		h.expect("not subscribed", fmt.Sprint(h.topicsOf("members")), "[orders]")

		h.expect("payments again", h.commitAs("members", ids[0], 1, paymentsID, 0, 2), none)
		names.mu.Lock()
		delete(names.names, paymentsID)
		names.mu.Unlock()
		h.expect("deleted topic at once", fmt.Sprint(h.topicsOf("members")), "[orders]")
		h.TopicDeleted(t.Context(), paymentsID)
		h.expect("offsets stored", len(h.store.offsets), 1)

		_, err := h.Leave(t.Context(), "members", []classic.Leaver{{MemberID: ids[0]}})
		h.expect("leave", err, none)
		time.Sleep(7*24*time.Hour - 20*time.Minute)
		h.expect("empty, not yet", h.offset("members", 0, false), int64(1))
		time.Sleep(40 * time.Minute)
		h.expect("empty", h.state("members"), "GROUP_ID_NOT_FOUND")
		h.expect("states stored", len(h.store.states), 0)
		h.expect("offsets stored", len(h.store.offsets), 0)
	})
}

func (h *house) topicsOf(group string) (names []string) {
	out, err := h.FetchOffsets(h.t.Context(), group, nil, false)
	if err != nil {
		h.t.Error(err)
	}
	for _, t := range out {
		name, _ := h.opts.TopicName(t.Topic)
		names = append(names, name)
	}
	return names
}

func TestList(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		h.form("stable", 1)
		h.expect("commit", h.commit("empty", 0, 1), none)
		for filter, want := range map[string]string{
			"":                 "[{empty  classic Empty} {stable consumer classic Stable}]",
			"stable":           "[{stable consumer classic Stable}]",
			" EMPTY ,Dead":     "[{empty  classic Empty}]",
			"Assigning,absurd": "[]",
		} {
			var states []string
			if filter != "" {
				states = strings.Split(filter, ",")
			}
			got, err := h.List(states)
			h.expect("error", err, none)
			h.expect("filter "+filter, fmt.Sprint(got), want)
		}
	})
}

// The values are those of Java's String.hashCode, as Kafka's partitionFor takes them.
func TestShardOfIsKafkas(t *testing.T) {
	for group, want := range map[string]int{"": 0, "a": 47, "orders": 17, "connect-cluster": 13, "polygenelubricants": 0, "Größe-\U0001F600": 49} {
		if got := ShardOf(group, 50); got != want {
			t.Errorf("group %q is in shard %d of 50, want %d", group, got, want)
		}
	}
}
