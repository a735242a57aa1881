package group

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// TestGroupsMoveWithTheirShard: two coordinators on one store; a shard goes from one to the other, and its stable group with it, without a
// rebalance. Groups of other shards feel nothing.
func TestGroupsMoveWithTheirShard(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		const moving, staying = "orders", "a"
		shard := ShardOf(moving, NumShards)
		if shard == ShardOf(staying, NumShards) {
			t.Fatal("both groups are in one shard")
		}
		ids := h.form(moving, 2)
		others := h.form(staying, 1)
		h.expect("commit", h.commitAs(moving, ids[0], 1, ordersID, 0, 7), none)
		parked := later(func() classic.JoinReply { return h.Join(t.Context(), moving, joining("", nil)) })
		synctest.Wait()
		if r := <-parked; r.Err != kerr.MemberIDRequired {
			t.Fatalf("%+v", r)
		}

		if err := h.Drop(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
		h.expect("heartbeat at the former coordinator", h.Heartbeat(moving, ids[0], nil, 1), kerr.NotCoordinator)
		h.expect("commit at the former coordinator", h.commit(moving, 0, 8), kerr.NotCoordinator)
		h.expect("offset at the former coordinator", h.offset(moving, 0, false), kerr.NotCoordinator.Message)
		h.expect("heartbeat of another group", h.Heartbeat(staying, others[0], nil, 1), none)
		list, err := h.List(nil)
		h.expect("list", err, none)
		h.expect("groups listed", len(list), 1)

		next, e := New(h.opts)
		if e != nil {
			t.Fatal(e)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- next.Run(ctx) }()
		h.expect("before loading", next.Heartbeat(moving, ids[0], nil, 1), kerr.NotCoordinator)
		if err := next.Load(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			h.expect("heartbeat at the next coordinator", next.Heartbeat(moving, id, nil, 1), none)
		}
		h.expect("another group there", next.Heartbeat(staying, others[0], nil, 1), kerr.NotCoordinator)
		two := &house{Coordinator: next, t: t, store: h.store}
		h.expect("offset", two.offset(moving, 0, true), int64(7))
		h.expect("commit", two.commitAs(moving, ids[1], 1, ordersID, 0, 9), none)

		// And back again: what the other wrote meanwhile is read.
		if err := next.Drop(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
		if err := h.Load(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
		h.expect("offset", h.offset(moving, 0, true), int64(9))
		h.expect("heartbeat", h.Heartbeat(moving, ids[0], nil, 1), none)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestDropWaitsForWrites: what was accepted is stored before a shard is let go, and parked members are told.
func TestDropWaitsForWrites(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *house) {
		ids := h.form("orders", 1)
		shard := ShardOf("orders", NumShards)
		proceed := make(chan struct{})
		h.store.hook = func(call, _ string) fate {
			if call == "CommitOffsets" {
				<-proceed
			}
			return fine
		}
		commit := later(func() *kerr.Error { return h.commitAs("orders", ids[0], 1, ordersID, 0, 5) })
		parked := later(func() classic.JoinReply {
			return h.Join(t.Context(), "orders", joining("", func(r *classic.JoinRequest) { r.RequireKnownMemberID = false }))
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := h.Drop(ctx, shard)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("dropped with a write under way: %v", err)
		}
		if r := <-parked; r.Err != kerr.NotCoordinator {
			t.Errorf("the parked member: %+v", r)
		}
		h.expect("commit meanwhile", h.commit("orders", 0, 6), kerr.NotCoordinator)
		close(proceed)
		if err := h.Drop(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
		h.expect("the commit that was accepted", <-commit, none)
		h.expect("groups in memory", h.groups.Load(), int64(0))
		if err := h.Load(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
		h.expect("offset", h.offset("orders", 0, false), int64(5))
	})
}
