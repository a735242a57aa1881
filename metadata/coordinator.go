package metadata

import (
	"context"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// CoordinatorStore is a Store as a group coordinator uses it: each write is performed only while the shards of its groups are still
// the coordinator's, and is ErrFenced otherwise. So a broker that has lost a shard and does not know it yet can put no offset back, and
// no write of its can come through after the next owner has loaded the shard. Safe for concurrent use.
type CoordinatorStore struct {
	*Store
	fenceOf func(group string) Fence
}

// Fence names the record by which a group's shard is owned, a partition's, as it was when the shard was taken: every change of owner is a
// change of the record. The zero Fence is of a group that the caller does not own.
type Fence struct {
	Partition PartitionID
	Revision  Revision
}

// Coordinator returns the store for groups whose shards fenceOf knows. fenceOf must be safe for concurrent use.
func (s *Store) Coordinator(fenceOf func(group string) Fence) *CoordinatorStore {
	return &CoordinatorStore{Store: s, fenceOf: fenceOf}
}

// SaveGroup is Store.SaveGroup, or ErrFenced.
func (c *CoordinatorStore) SaveGroup(ctx context.Context, id string, state []byte, expect Revision) (Revision, error) {
	return c.saveGroup(ctx, c.fenceOf, id, state, expect)
}

// DeleteGroup is Store.DeleteGroup, or ErrFenced.
func (c *CoordinatorStore) DeleteGroup(ctx context.Context, id string, expect Revision) error {
	return c.deleteGroup(ctx, c.fenceOf, id, expect)
}

// CommitOffsets is Store.CommitOffsets; items are ErrFenced when their shard is lost.
func (c *CoordinatorStore) CommitOffsets(ctx context.Context, offsets []GroupOffsets) error {
	return c.commitOffsets(ctx, c.fenceOf, offsets)
}

// DeleteOffsets is Store.DeleteOffsets; items are ErrFenced when their shard is lost.
func (c *CoordinatorStore) DeleteOffsets(ctx context.Context, deletions []GroupPartitions) error {
	return c.deleteOffsets(ctx, c.fenceOf, deletions)
}

// fencesOf is what holds for a write of one group; nil fenceOf: nothing.
func fencesOf(fenceOf func(string) Fence, group string) ([]Fence, error) {
	if fenceOf == nil {
		return nil, nil
	}
	f := fenceOf(group)
	if f == (Fence{}) {
		return nil, fmt.Errorf("%w: the group's shard is not this broker's", ErrFenced)
	}
	return []Fence{f}, nil
}

// fencedTxn is txn under fences, at most as many as fit it. The error names which have fallen.
func (s *Store) fencedTxn(ctx context.Context, fences []Fence, t kv.Txn) (res kv.TxnResult, uncertain bool, err error) {
	if len(fences) == 0 {
		return s.txn(ctx, t)
	}
	own := len(t.Else)
	for _, f := range fences {
		key := s.keys.partition(f.Partition)
		t.If = append(t.If, kv.Unchanged(key, int64(f.Revision)))
		t.Else = append(t.Else, kv.Get(key))
	}
	res, uncertain, err = s.txn(ctx, t)
	if err != nil || res.Succeeded {
		return res, uncertain, err
	}
	fallen := &fencedError{}
	for i, f := range fences {
		if revisionOf(res.Gets[own+i]) != int64(f.Revision) {
			fallen.fences = append(fallen.fences, f)
		}
	}
	if len(fallen.fences) > 0 {
		return kv.TxnResult{}, uncertain, fallen
	}
	res.Gets = res.Gets[:own]
	return res, uncertain, nil
}

// fencedError is ErrFenced with the fences that have fallen.
type fencedError struct{ fences []Fence }

func (e *fencedError) Error() string {
	return fmt.Sprintf("%v: the coordinator's shard %s has another owner", ErrFenced, e.fences[0].Partition)
}

func (e *fencedError) Unwrap() error { return ErrFenced }
