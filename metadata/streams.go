package metadata

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// CreateStream records a new WAL stream of an incarnation, OPEN, its positions beginning at 0. Repeating it returns the
// stream as it is while it is OPEN. Errors: ErrFenced when the broker has a newer incarnation, ErrExists when the stream was
// fenced or sealed already.
func (s *Store) CreateStream(ctx context.Context, owner BrokerID, incarnation Incarnation, class Class) (*StreamState, error) {
	if incarnation <= 0 || int64(incarnation) >= 1<<streamClassShift || class > ClassObject {
		return nil, fmt.Errorf("create stream: %w: incarnation %d, %s", ErrInvalid, incarnation, class)
	}
	return s.createStream(ctx, owner, incarnation, class)
}

// createStream writes the stream's record together with others that belong to it.
func (s *Store) createStream(ctx context.Context, owner BrokerID, incarnation Incarnation, class Class, with ...kv.Op) (*StreamState, error) {
	st := &StreamState{ID: NewStreamID(incarnation, class), Owner: owner, Epoch: incarnation, Class: class, State: StreamOpen}
	key, fence := s.keys.stream(st.ID), s.keys.incarnation(owner)
	res, _, err := s.txn(ctx, kv.Txn{
		If:   []kv.Compare{kv.Unchanged(fence, int64(incarnation)), kv.Absent(key)},
		Then: append(with, kv.Put(key, appendStream(nil, st))),
		Else: []kv.Op{kv.Get(fence), kv.Get(key)},
	})
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", st.ID, err)
	}
	if res.Succeeded {
		st.Revision = Revision(res.Revision)
		return st, nil
	}
	if now := res.Gets[0]; len(now) == 0 || now[0].ModRevision != int64(incarnation) {
		return nil, fmt.Errorf("create stream %s: %w: broker %d has another incarnation", st.ID, ErrFenced, owner)
	}
	if len(res.Gets[1]) == 1 {
		old, err := streamOf(st.ID, res.Gets[1][0])
		if err != nil {
			return nil, fmt.Errorf("metadata key %s: %w", key, err)
		}
		if old.State == StreamOpen && old.Owner == owner {
			return s.withCommitted(ctx, old)
		}
		return nil, fmt.Errorf("create stream %s: %w: it is %s", st.ID, ErrExists, old.State)
	}
	return nil, fmt.Errorf("create stream %s: %w", st.ID, ErrConflict)
}

func streamOf(id StreamID, p kv.Pair) (*StreamState, error) {
	st, err := decodeStream(p.Value)
	if err != nil {
		return nil, err
	}
	st.ID, st.Epoch, st.Class, st.Revision = id, id.Epoch(), id.Class(), Revision(p.ModRevision)
	st.Committed = st.First
	return &st, nil
}

// withCommitted fills in Committed.
func (s *Store) withCommitted(ctx context.Context, st *StreamState) (*StreamState, error) {
	var err error
	if st.Committed, _, err = s.loadProgress(ctx, st.ID, st.First); err != nil {
		return nil, fmt.Errorf("committed position of stream %s: %w", st.ID, err)
	}
	return st, nil
}

// Stream returns one stream. ErrNotFound.
func (s *Store) Stream(ctx context.Context, id StreamID) (*StreamState, error) {
	st, err := s.stream(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", id, err)
	}
	return s.withCommitted(ctx, st)
}

func (s *Store) stream(ctx context.Context, id StreamID) (*StreamState, error) {
	page, err := s.read(ctx, kv.Range{Start: s.keys.stream(id)})
	if err != nil {
		return nil, err
	}
	if len(page.Pairs) == 0 {
		return nil, ErrNotFound
	}
	return streamOf(id, page.Pairs[0])
}

// Streams returns the recorded streams of a broker in the order of their ids, sealed ones included, or those of all brokers
// for NoBroker.
func (s *Store) Streams(ctx context.Context, owner BrokerID) ([]StreamState, error) {
	start, end := s.keys.dir(dirStream)
	var out []StreamState
	_, err := s.scan(ctx, start, end, scanPage, func() { out = nil }, func(p kv.Pair) error {
		id, err := parseHex(p.Key[len(start):], 16)
		if err != nil {
			return err
		}
		st, err := streamOf(StreamID(id), p)
		if err != nil {
			return fmt.Errorf("metadata key %s: %w", p.Key, err)
		}
		if owner == NoBroker || st.Owner == owner {
			out = append(out, *st)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	for i := range out {
		if _, err := s.withCommitted(ctx, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// RecoverStream fences a stream on behalf of the incarnation by: from then on nobody but by commits objects of it. A stream
// that is being recovered by another incarnation is taken over; callers make sure that this is meant. Repeating it is
// harmless. ErrExists when it is sealed already, ErrNotFound.
func (s *Store) RecoverStream(ctx context.Context, id StreamID, by Incarnation) (*StreamState, error) {
	st, err := s.swapStream(ctx, id, func(st *StreamState) error {
		if st.State == StreamSealed {
			return fmt.Errorf("%w: sealed at %d", ErrExists, st.End)
		}
		st.State, st.RecoveringBy = StreamRecovering, by
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("recover stream %s: %w", id, err)
	}
	return s.withCommitted(ctx, st)
}

// SealStream ends a stream at position end, for ever. expect is the revision of the state under which the caller drained it:
// ErrFenced when the stream has moved on. Sealing again at the same end does nothing.
func (s *Store) SealStream(ctx context.Context, id StreamID, expect Revision, end uint64) error {
	_, err := s.swapStream(ctx, id, func(st *StreamState) error {
		switch {
		case st.State == StreamSealed && st.End == end:
			return nil
		case st.State == StreamSealed:
			return fmt.Errorf("%w: sealed at %d, not %d", ErrFenced, st.End, end)
		case st.Revision != expect:
			return fmt.Errorf("%w: it is %s by %d", ErrFenced, st.State, st.RecoveringBy)
		}
		st.State, st.RecoveringBy, st.End = StreamSealed, 0, end
		return nil
	})
	if err != nil {
		return fmt.Errorf("seal stream %s: %w", id, err)
	}
	s.forgetProgress(id)
	return nil
}

// swapStream swaps a stream's record for what change makes of it; change must recognise its own result.
func (s *Store) swapStream(ctx context.Context, id StreamID, change func(*StreamState) error) (*StreamState, error) {
	key := s.keys.stream(id)
	st, err := s.stream(ctx, id)
	for attempt := 0; attempt < swapAttempts && err == nil; attempt++ {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		next := *st
		if err := change(&next); err != nil {
			return nil, err
		}
		if next == *st {
			return st, nil
		}
		res, _, terr := s.txn(ctx, kv.Txn{
			If:   []kv.Compare{kv.Unchanged(key, int64(st.Revision))},
			Then: []kv.Op{kv.Put(key, appendStream(nil, &next))},
			Else: []kv.Op{kv.Get(key)},
		})
		switch {
		case terr != nil:
			return nil, terr
		case res.Succeeded:
			next.Revision = Revision(res.Revision)
			return &next, nil
		case len(res.Gets[0]) == 0:
			return nil, ErrNotFound
		}
		st, err = streamOf(id, res.Gets[0][0])
	}
	if err != nil {
		return nil, err
	}
	return nil, ErrConflict
}

// DeleteStream forgets a sealed stream, after its pending objects are absorbed and its orphans removed. ErrConflict when it
// is not sealed. Deleting one that is not there does nothing.
func (s *Store) DeleteStream(ctx context.Context, id StreamID) error {
	st, err := s.stream(ctx, id)
	for attempt := 0; attempt < swapAttempts && err == nil; attempt++ {
		if st.State != StreamSealed {
			return fmt.Errorf("delete stream %s: %w: it is %s", id, ErrConflict, st.State)
		}
		res, _, terr := s.txn(ctx, kv.Txn{
			If:   []kv.Compare{kv.Unchanged(s.keys.stream(id), int64(st.Revision))},
			Then: []kv.Op{kv.Delete(s.keys.stream(id)), kv.Delete(s.keys.committed(id)), kv.Delete(s.keys.ensemble(id))},
		})
		if terr != nil {
			return fmt.Errorf("delete stream %s: %w", id, terr)
		}
		if res.Succeeded {
			s.forgetProgress(id)
			return nil
		}
		st, err = s.stream(ctx, id)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("delete stream %s: %w", id, err)
	}
	return nil
}
