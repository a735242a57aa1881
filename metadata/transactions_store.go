package metadata

import (
	"context"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// LoadTransactions calls fn for every transactional id, in no particular order, as of one revision. The value belongs to fn. An error of fn ends
// the listing and is returned. fn may see an id twice when the listing had to start again.
func (s *Store) LoadTransactions(ctx context.Context, fn func(id string, t *Transaction, rev Revision) error) error {
	start, end := s.keys.dir(dirTransaction)
	_, err := s.scan(ctx, start, end, groupPage, func() {}, func(p kv.Pair) error {
		id, err := unescapeGroup(p.Key[len(start):])
		if err != nil {
			return fmt.Errorf("metadata key %s: %w", p.Key, err)
		}
		t, err := decodeTransaction(p.Value)
		if err != nil {
			return fmt.Errorf("metadata key %s: %w", p.Key, err)
		}
		return fn(id, t, Revision(p.ModRevision))
	})
	if err != nil {
		return fmt.Errorf("load transactions: %w", err)
	}
	return nil
}

// LoadTransaction reads a transactional id. ErrNotFound when there is none.
func (s *Store) LoadTransaction(ctx context.Context, id string) (*Transaction, Revision, error) {
	page, err := s.read(ctx, kv.Range{Start: s.keys.transaction(id)})
	if err != nil {
		return nil, 0, fmt.Errorf("load transactional id %q: %w", id, err)
	}
	if len(page.Pairs) == 0 {
		return nil, 0, fmt.Errorf("load transactional id %q: %w", id, ErrNotFound)
	}
	t, err := decodeTransaction(page.Pairs[0].Value)
	if err != nil {
		return nil, 0, fmt.Errorf("metadata key %s: %w", page.Pairs[0].Key, err)
	}
	return t, Revision(page.Pairs[0].ModRevision), nil
}

// SaveTransaction swaps the state of a transactional id and returns its new revision. expect is the revision of the state before; 0 means that
// there must be none. ErrConflict when it is another, ErrFenced when the id's shard has another owner, ErrUnavailable when nobody knows.
func (c *CoordinatorStore) SaveTransaction(ctx context.Context, id string, t *Transaction, expect Revision) (Revision, error) {
	if id == "" || len(id) > MaxTransactionalIDBytes {
		return 0, fmt.Errorf("save transactional id: %w: %d bytes", ErrInvalid, len(id))
	}
	if err := t.validate(); err != nil {
		return 0, fmt.Errorf("save transactional id %q: %w", id, err)
	}
	fences, err := fencesOf(c.fenceOf, id)
	if err != nil {
		return 0, fmt.Errorf("save transactional id %q: %w", id, err)
	}
	key, value := c.keys.transaction(id), appendTransaction(nil, t)
	res, uncertain, err := c.fencedTxn(ctx, fences, kv.Txn{
		If:   []kv.Compare{kv.Unchanged(key, int64(expect))},
		Then: []kv.Op{kv.Put(key, value)},
		Else: []kv.Op{kv.Get(key)},
	})
	if err != nil {
		return 0, fmt.Errorf("save transactional id %q: %w", id, err)
	}
	if res.Succeeded {
		return Revision(res.Revision), nil
	}
	var now Revision
	if len(res.Gets[0]) == 1 {
		now = Revision(res.Gets[0][0].ModRevision)
		if uncertain && string(res.Gets[0][0].Value) == string(value) {
			return now, nil // an earlier attempt was performed
		}
	}
	return now, fmt.Errorf("save transactional id %q: %w: its revision is %d, not %d", id, ErrConflict, now, expect)
}

// DeleteTransaction forgets a transactional id. expect is as in SaveTransaction; one that is gone already is no error.
func (c *CoordinatorStore) DeleteTransaction(ctx context.Context, id string, expect Revision) error {
	fences, err := fencesOf(c.fenceOf, id)
	if err != nil {
		return fmt.Errorf("delete transactional id %q: %w", id, err)
	}
	key := c.keys.transaction(id)
	res, _, err := c.fencedTxn(ctx, fences, kv.Txn{
		If:   []kv.Compare{kv.Unchanged(key, int64(expect))},
		Then: []kv.Op{kv.Delete(key)},
		Else: []kv.Op{kv.Get(key)},
	})
	switch {
	case err != nil:
		return fmt.Errorf("delete transactional id %q: %w", id, err)
	case res.Succeeded, len(res.Gets[0]) == 0:
		return nil
	}
	return fmt.Errorf("delete transactional id %q: %w: not at revision %d", id, ErrConflict, expect)
}
