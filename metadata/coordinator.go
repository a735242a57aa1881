package metadata

import (
	"context"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// CoordinatorStore is a Store as the group coordinator of one incarnation of a broker uses it: its writes are performed only while no newer
// run of the broker has registered, and are ErrFenced then. So a run that was replaced and does not know it yet can put no offset back.
// Safe for concurrent use.
type CoordinatorStore struct {
	*Store
	fence fence
}

// Coordinator returns the store for the groups of an incarnation of a broker.
func (s *Store) Coordinator(owner BrokerID, incarnation Incarnation) *CoordinatorStore {
	return &CoordinatorStore{Store: s, fence: fence{key: s.keys.incarnation(owner), incarnation: incarnation}}
}

// SaveGroup is Store.SaveGroup, or ErrFenced.
func (c *CoordinatorStore) SaveGroup(ctx context.Context, id string, state []byte, expect Revision) (Revision, error) {
	return c.saveGroup(ctx, c.fence, id, state, expect)
}

// DeleteGroup is Store.DeleteGroup, or ErrFenced.
func (c *CoordinatorStore) DeleteGroup(ctx context.Context, id string, expect Revision) error {
	return c.deleteGroup(ctx, c.fence, id, expect)
}

// CommitOffsets is Store.CommitOffsets; items are ErrFenced when the run is.
func (c *CoordinatorStore) CommitOffsets(ctx context.Context, offsets []GroupOffsets) error {
	return c.commitOffsets(ctx, c.fence, offsets)
}

// DeleteOffsets is Store.DeleteOffsets; items are ErrFenced when the run is.
func (c *CoordinatorStore) DeleteOffsets(ctx context.Context, deletions []GroupPartitions) error {
	return c.deleteOffsets(ctx, c.fence, deletions)
}

// fence is the condition that a broker's newest incarnation is still the one that writes. The zero fence holds always.
type fence struct {
	key         string
	incarnation Incarnation
}

// fencedTxn is txn under a fence.
func (s *Store) fencedTxn(ctx context.Context, f fence, t kv.Txn) (res kv.TxnResult, uncertain bool, err error) {
	if f.key == "" {
		return s.txn(ctx, t)
	}
	t.If = append(t.If, kv.Unchanged(f.key, int64(f.incarnation)))
	t.Else = append(t.Else, kv.Get(f.key))
	res, uncertain, err = s.txn(ctx, t)
	if err != nil || res.Succeeded {
		return res, uncertain, err
	}
	last := len(res.Gets) - 1
	if now := res.Gets[last]; len(now) == 0 || now[0].ModRevision != int64(f.incarnation) {
		return kv.TxnResult{}, uncertain, fmt.Errorf("%w: a newer run of the broker has registered", ErrFenced)
	}
	res.Gets = res.Gets[:last]
	return res, uncertain, nil
}
