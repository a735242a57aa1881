package group

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/metadata"
)

// none is the nil error in comparisons.
var none *kerr.Error

func TestNothingIsAnsweredBeforeItIsDurable(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		gate := make(chan struct{})
		h.store.setHook(func(call, _ string) fate {
			if call == "SaveGroup" {
				<-gate
			}
			return fine
		})
		id := h.Join(t.Context(), "g", joining("", nil)).MemberID
		r := h.Join(t.Context(), "g", joining(id, nil))
		reply := later(func() classic.SyncReply {
			return h.Sync(t.Context(), "g", classic.SyncRequest{Generation: r.Generation, MemberID: id, Assignments: map[string][]byte{id: {7}}})
		})
		synctest.Wait()
		select {
		case r := <-reply:
			t.Fatalf("answered before the assignment was durable: %+v", r)
		default:
		}
		h.expect("state", h.state("g"), "CompletingRebalance")
		close(gate)
		if r := <-reply; r.Err != nil || string(r.Assignment) != "\x07" {
			t.Errorf("sync: %+v", r)
		}
		h.expect("state", h.state("g"), "Stable")
	})
}

func TestRestartKeepsMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		h := open(t, store, 1, nil)
		ids := h.form("g", 3)
		h.expect("commit", h.commitAs("g", ids[1], 1, ordersID, 4, 44), none)
		h.expect("simple commit", h.commit("simple", 1, 11), none)
		h.stop()
		h.expect("heartbeat to the old run", h.Heartbeat("g", ids[0], nil, 1), kerr.NotCoordinator)

		h = open(t, store, 2, nil)
		defer h.stop()
		for i, id := range ids {
			h.expect("heartbeat", h.Heartbeat("g", id, nil, 1), none)
			r := h.Sync(t.Context(), "g", classic.SyncRequest{Generation: 1, MemberID: id})
			if r.Err != nil || r.Assignment[0] != byte(i) {
				t.Errorf("sync of %s after the restart: %+v", id, r)
			}
		}
		// an unchanged follower that lost its connection causes no rebalance
		if r := h.Join(t.Context(), "g", joining(ids[2], nil)); r.Err != nil || r.Generation != 1 {
			t.Errorf("rejoin: %+v", r)
		}
		h.expect("offset", h.offset("g", 4, true), int64(44))
		h.expect("simple offset", h.offset("simple", 1, false), int64(11))
		h.expect("other offset", h.offset("g", 5, false), int64(-1))
		h.expect("simple state", h.state("simple"), "Empty")
		h.expect("saves", store.calls["SaveGroup"], 1)

		// those who do not come back in a session time out
		time.Sleep(9 * time.Second)
		h.expect("heartbeat", h.Heartbeat("g", ids[0], nil, 1), none)
		time.Sleep(2 * time.Second)
		h.expect("heartbeat", h.Heartbeat("g", ids[0], nil, 1), kerr.RebalanceInProgress)
		h.expect("heartbeat", h.Heartbeat("g", ids[1], nil, 1), kerr.UnknownMemberID)
	})
}

// TestUnknownOutcomes loses answers of the store in every way and checks that memory and store agree afterwards.
func TestUnknownOutcomes(t *testing.T) {
	for name, fates := range map[string][]fate{
		"applied":                {lost},
		"applied, read fails":    {lost, failed, failed},
		"not applied":            {failed},
		"several times":          {failed, fine, failed, fine, lost},
		"comes through late":     {late},
		"late, and not the last": {late, fine, failed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, h *house) {
				n := 0
				h.store.setHook(func(call, _ string) fate {
					if call != "SaveGroup" && call != "LoadGroup" || n >= len(fates) {
						return fine
					}
					n++
					return fates[n-1]
				})
				ids := h.form("g", 2)
				h.expect("heartbeat", h.Heartbeat("g", ids[1], nil, 1), none)
				// the next write starts from the right revision
				errs, err := h.Leave(t.Context(), "g", []classic.Leaver{{MemberID: ids[0]}, {MemberID: ids[1]}})
				h.expect("leave", err, none)
				h.expect("first", errs[0], none)
				s, decodeErr := classic.Decode(h.store.states["g"].state)
				if decodeErr != nil || s.Generation != 2 || len(s.Members) != 0 {
					t.Errorf("stored: %+v, %v", s, decodeErr)
				}
			})
		})
	}
}

func TestStoreAway(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		ids := h.form("g", 1)
		h.expect("commit", h.commitAs("g", ids[0], 1, ordersID, 0, 5), none)
		h.store.setHook(func(string, string) fate { return failed })

		// members stay alive and offsets can be read without the store
		h.expect("heartbeat", h.Heartbeat("g", ids[0], nil, 1), none)
		h.expect("fetch", h.offset("g", 0, true), int64(5))
		h.expect("commit", h.commitAs("g", ids[0], 1, ordersID, 0, 6), kerr.CoordinatorNotAvailable)
		// now nobody knows what is committed
		h.expect("fetch", h.offset("g", 0, false), "NOT_COORDINATOR")

		begun := time.Now()
		r := h.Join(t.Context(), "g", joining(ids[0], nil)) // the leader rejoins: a new generation
		h.expect("join", r.Err, none)
		s := h.Sync(t.Context(), "g", classic.SyncRequest{Generation: r.Generation, MemberID: ids[0], Assignments: map[string][]byte{ids[0]: {9}}})
		h.expect("sync", s.Err, kerr.CoordinatorNotAvailable)
		if took := time.Since(begun); took < 5*time.Second || took > 7*time.Second {
			t.Errorf("gave up after %v, want about WriteTimeout", took)
		}
		h.expect("heartbeat", h.Heartbeat("g", ids[0], nil, r.Generation), kerr.RebalanceInProgress)
		h.expect("delete", h.Delete(t.Context(), "g"), kerr.NonEmptyGroup)

		h.store.setHook(nil)
		r = h.Join(t.Context(), "g", joining(ids[0], nil))
		s = h.Sync(t.Context(), "g", classic.SyncRequest{Generation: r.Generation, MemberID: ids[0], Assignments: map[string][]byte{ids[0]: {9}}})
		h.expect("sync", s.Err, none)
		h.expect("fetch", h.offset("g", 0, false), int64(5))
		h.expect("commit", h.commitAs("g", ids[0], r.Generation, ordersID, 0, 7), none)
		h.expect("fetch", h.offset("g", 0, true), int64(7))
	})
}

func TestWrittenByAnother(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		ids := h.form("g", 1)
		other := classic.Snapshot{Incarnation: 99, Generation: 40, ProtocolType: "consumer", Protocol: "range", Leader: "m", Members: []classic.SnapshotMember{
			{MemberID: "m", SessionTimeoutMillis: 10_000, Protocols: []classic.Protocol{{Name: "range", Metadata: subscription("orders")}}},
		}}
		h.store.mu.Lock()
		h.store.rev++
		h.store.states["g"] = stored{classic.Encode(&other), h.store.rev}
		h.store.mu.Unlock()
		r := h.Join(t.Context(), "g", joining(ids[0], nil))
		s := h.Sync(t.Context(), "g", classic.SyncRequest{Generation: r.Generation, MemberID: ids[0]})
		h.expect("sync", s.Err, kerr.NotCoordinator)
		synctest.Wait()
		h.expect("own member", h.Heartbeat("g", ids[0], nil, r.Generation), kerr.UnknownMemberID)
		h.expect("the other's member", h.Heartbeat("g", "m", nil, 40), none)
		h.expect("stored", h.store.states["g"].rev, metadata.Revision(2))
	})
}

func TestStaticMemberComesBack(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		instance := "i"
		static := func(r *classic.JoinRequest) { r.InstanceID = &instance }
		r := h.Join(t.Context(), "g", joining("", static))
		h.Sync(t.Context(), "g", classic.SyncRequest{Generation: 1, MemberID: r.MemberID, InstanceID: &instance, Assignments: map[string][]byte{r.MemberID: {1}}})
		again := h.Join(t.Context(), "g", joining("", static))
		if again.Err != nil || again.Generation != 1 || again.MemberID == r.MemberID || !again.SkipAssignment {
			t.Errorf("came back: %+v", again)
		}
		h.expect("old id", h.Heartbeat("g", r.MemberID, &instance, 1), kerr.FencedInstanceID)
		h.expect("new id", h.Heartbeat("g", again.MemberID, &instance, 1), none)
		s, _ := classic.Decode(h.store.states["g"].state)
		h.expect("stored member", s.Members[0].MemberID, again.MemberID)
	})
}

func TestLeaveIsDurable(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		ids := h.form("g", 1)
		h.store.setHook(func(string, string) fate { return failed })
		_, err := h.Leave(t.Context(), "g", []classic.Leaver{{MemberID: ids[0]}})
		h.expect("leave without a store", err, kerr.CoordinatorNotAvailable)
		h.expect("state", h.state("g"), "Empty")
		errs, err := h.Leave(t.Context(), "nowhere", []classic.Leaver{{MemberID: "x"}})
		h.expect("leave of an unknown group", err, none)
		h.expect("its member", errs[0], kerr.UnknownMemberID)
	})
}

func TestAbandonedJoin(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		ids := h.form("g", 2)
		ctx, cancel := context.WithCancel(t.Context())
		parked := later(func() classic.JoinReply { return h.Join(ctx, "g", joining(ids[0], nil)) })
		synctest.Wait()
		cancel()
		h.expect("abandoned", (<-parked).Err, kerr.CoordinatorNotAvailable)
		// the client comes back on another connection, and the rebalance ends
		first := later(func() classic.JoinReply { return h.Join(t.Context(), "g", joining(ids[0], nil)) })
		synctest.Wait()
		second := h.Join(t.Context(), "g", joining(ids[1], nil))
		h.expect("second", second.Err, none)
		h.expect("first", (<-first).Generation, second.Generation)
	})
}

func TestStopAnswersEverybody(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		ids := h.form("g", 2)
		gate := make(chan struct{})
		h.store.setHook(func(call, _ string) fate {
			if call == "CommitOffsets" {
				<-gate
			}
			return fine
		})
		join := later(func() classic.JoinReply { return h.Join(t.Context(), "g", joining(ids[0], nil)) })
		commit := later(func() *kerr.Error { return h.commit("simple", 0, 3) })
		queued := later(func() *kerr.Error { return h.commit("simple", 1, 4) })
		synctest.Wait()
		stopped := later(func() bool { h.stop(); return true })
		synctest.Wait()
		h.expect("parked join", (<-join).Err, kerr.NotCoordinator)
		select {
		case <-stopped:
			t.Error("stopped before the accepted commits were written")
		default:
		}
		close(gate)
		h.expect("commit under way", <-commit, none)
		h.expect("queued commit", <-queued, none)
		<-stopped
		h.expect("after the end", h.commit("simple", 0, 4), kerr.NotCoordinator)
		h.expect("join after the end", h.Join(t.Context(), "new", joining("", nil)).Err, kerr.NotCoordinator)
		h.expect("stored", h.store.offsets[offsetKey{"simple", ordersID, 1}].Offset, metadata.Offset(4))
	})
}

func TestBeforeLoad(t *testing.T) {
	store := newMemStore()
	c, err := New(Options{States: store, Offsets: store, TopicName: allTopics().name})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{Coordinator: c, t: t, store: store}
	h.expect("heartbeat", c.Heartbeat("g", "m", nil, 1), kerr.NotCoordinator)
	h.expect("join", c.Join(t.Context(), "g", joining("", nil)).Err, kerr.NotCoordinator)
	store.setHook(func(string, string) fate { return failed })
	if err := c.Load(t.Context()); err == nil {
		t.Error("Load without a store succeeded")
	}
	h.expect("heartbeat", c.Heartbeat("g", "m", nil, 1), none)
	h.expect("join", c.Join(t.Context(), "g", joining("", nil)).Err, kerr.CoordinatorLoadInProgress)
	h.expect("sync", c.Sync(t.Context(), "g", classic.SyncRequest{}).Err, kerr.CoordinatorLoadInProgress)
	h.expect("commit", h.commit("g", 0, 0), kerr.CoordinatorLoadInProgress)
	h.expect("fetch", h.offset("g", 0, false), "COORDINATOR_LOAD_IN_PROGRESS")
	_, listErr := c.List(nil)
	h.expect("list", listErr, kerr.CoordinatorLoadInProgress)
	store.setHook(nil)
	if err := c.Load(t.Context()); err != nil {
		t.Error(err)
	}
	h.expect("fetch", h.offset("g", 0, false), int64(-1))
}

func TestUnreadableStateIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		store.rev = 8
		store.states["g"] = stored{[]byte("from the future"), 8}
		store.offsets[offsetKey{"g", ordersID, 0}] = metadata.CommittedOffset{Offset: 77}
		h := open(t, store, 1, nil)
		defer h.stop()
		h.expect("offset", h.offset("g", 0, false), int64(77))
		h.form("g", 1)
		if _, err := classic.Decode(store.states["g"].state); err != nil {
			t.Error(err)
		}
	})
}

func TestBounds(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxGroups, o.MaxPendingBytes, o.MaxGroupSize = 2, 300, 1 }, func(t *testing.T, h *house) {
		for name, r := range map[string]classic.JoinRequest{
			"short session": joining("", func(r *classic.JoinRequest) { r.SessionTimeoutMillis = 5999 }),
			"long session":  joining("", func(r *classic.JoinRequest) { r.SessionTimeoutMillis = 1_800_001 }),
		} {
			h.expect(name, h.Join(t.Context(), "g", r).Err, kerr.InvalidSessionTimeout)
		}
		h.expect("no group id", h.Join(t.Context(), "", joining("", nil)).Err, kerr.InvalidGroupID)
		h.expect("unknown member of an unknown group", h.Join(t.Context(), "g", joining("m", nil)).Err, kerr.UnknownMemberID)
		// what comes to nothing leaves nothing behind
		for range 10 {
			h.expect("no protocols", h.Join(t.Context(), "g", joining("", func(r *classic.JoinRequest) { r.Protocols = nil })).Err, kerr.InconsistentGroupProtocol)
		}
		h.expect("groups", h.groups.Load(), int64(0))
		h.Join(t.Context(), "lapses", joining("", nil))
		h.expect("groups", h.groups.Load(), int64(1))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		h.expect("groups after the member id lapsed", h.groups.Load(), int64(0))

		h.form("a", 1)
		h.expect("max size", h.Join(t.Context(), "a", joining("", nil)).Err, kerr.GroupMaxSizeReached)
		h.expect("commit", h.commit("b", 0, 1), none)
		h.expect("third group", h.commit("c", 0, 1), kerr.GroupMaxSizeReached)
		h.expect("third group", h.Join(t.Context(), "c", joining("", nil)).Err, kerr.GroupMaxSizeReached)

		gate := make(chan struct{})
		h.store.setHook(func(string, string) fate { <-gate; return fine })
		first := later(func() *kerr.Error { return h.commit("b", 0, 2) })
		synctest.Wait()
		h.expect("queue full", h.commit("b", 0, 3), kerr.CoordinatorLoadInProgress)
		close(gate)
		h.expect("first", <-first, none)
		h.expect("queue empty again", h.commit("b", 0, 3), none)
	})
}
