package metadata

import (
	"context"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// groupPage is how many groups or offset buckets one read asks for: they may be large.
const groupPage = 200

// LoadGroups calls fn for the state of every group, in no particular order, as of one revision. State belongs to fn. An
// error of fn ends the listing and is returned. fn may see a group twice when the listing had to start again.
func (s *Store) LoadGroups(ctx context.Context, fn func(id string, state []byte, rev Revision) error) error {
	start, end := s.keys.dir(dirGroup)
	_, err := s.scan(ctx, start, end, groupPage, func() {}, func(p kv.Pair) error {
		id, err := unescapeGroup(p.Key[len(start):])
		if err != nil {
			return fmt.Errorf("metadata key %s: %w", p.Key, err)
		}
		state, err := decodeGroup(p.Value)
		if err != nil {
			return fmt.Errorf("metadata key %s: %w", p.Key, err)
		}
		return fn(id, state, Revision(p.ModRevision))
	})
	if err != nil {
		return fmt.Errorf("load groups: %w", err)
	}
	return nil
}

// LoadGroup reads the state of a group. ErrNotFound when none is stored.
func (s *Store) LoadGroup(ctx context.Context, id string) ([]byte, Revision, error) {
	page, err := s.read(ctx, kv.Range{Start: s.keys.group(id)})
	if err != nil {
		return nil, 0, fmt.Errorf("load group %q: %w", id, err)
	}
	if len(page.Pairs) == 0 {
		return nil, 0, fmt.Errorf("load group %q: %w", id, ErrNotFound)
	}
	state, err := decodeGroup(page.Pairs[0].Value)
	if err != nil {
		return nil, 0, fmt.Errorf("metadata key %s: %w", page.Pairs[0].Key, err)
	}
	return state, Revision(page.Pairs[0].ModRevision), nil
}

// SaveGroup swaps the state of a group, which is opaque here, and returns its new revision. expect is the revision of the
// state before; 0 means that there must be none. ErrConflict when it is another.
func (s *Store) SaveGroup(ctx context.Context, id string, state []byte, expect Revision) (Revision, error) {
	return s.saveGroup(ctx, nil, id, state, expect)
}

func (s *Store) saveGroup(ctx context.Context, fenceOf func(string) Fence, id string, state []byte, expect Revision) (Revision, error) {
	if err := validateGroup(id); err != nil {
		return 0, fmt.Errorf("save group: %w", err)
	}
	if len(state) > MaxGroupStateBytes {
		return 0, fmt.Errorf("save group %q: %w: state of %d bytes", id, ErrInvalid, len(state))
	}
	fences, err := fencesOf(fenceOf, id)
	if err != nil {
		return 0, fmt.Errorf("save group %q: %w", id, err)
	}
	key, value := s.keys.group(id), appendGroup(nil, state)
	res, uncertain, err := s.fencedTxn(ctx, fences, kv.Txn{
		If:   []kv.Compare{kv.Unchanged(key, int64(expect))},
		Then: []kv.Op{kv.Put(key, value)},
		Else: []kv.Op{kv.Get(key)},
	})
	if err != nil {
		return 0, fmt.Errorf("save group %q: %w", id, err)
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
	return now, fmt.Errorf("save group %q: %w: its revision is %d, not %d", id, ErrConflict, now, expect)
}

// DeleteGroup removes the state of a group and all its offsets. expect is as in SaveGroup. ErrNotFound when there was
// neither.
func (s *Store) DeleteGroup(ctx context.Context, id string, expect Revision) error {
	return s.deleteGroup(ctx, nil, id, expect)
}

func (s *Store) deleteGroup(ctx context.Context, fenceOf func(string) Fence, id string, expect Revision) error {
	if err := validateGroup(id); err != nil {
		return fmt.Errorf("delete group: %w", err)
	}
	fences, err := fencesOf(fenceOf, id)
	if err != nil {
		return fmt.Errorf("delete group %q: %w", id, err)
	}
	key, offsets := s.keys.group(id), s.keys.groupOffsets(id)
	res, uncertain, err := s.fencedTxn(ctx, fences, kv.Txn{
		If:   []kv.Compare{kv.Unchanged(key, int64(expect))},
		Then: []kv.Op{kv.Delete(key), kv.DeleteRange(offsets, kv.PrefixEnd(offsets))},
		Else: []kv.Op{kv.Get(key)},
	})
	switch {
	case err != nil:
		return fmt.Errorf("delete group %q: %w", id, err)
	case res.Succeeded && res.Deleted == 0 && !uncertain:
		return fmt.Errorf("delete group %q: %w", id, ErrNotFound)
	case res.Succeeded, uncertain && len(res.Gets[0]) == 0:
		return nil
	}
	return fmt.Errorf("delete group %q: %w: not at revision %d", id, ErrConflict, expect)
}
