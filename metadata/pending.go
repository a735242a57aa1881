package metadata

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// streamProgress is how far a stream lies in committed objects. turn admits one commit of the stream at a time, because
// each moves the position; everything else is touched by its holder only.
type streamProgress struct {
	turn      chan struct{} // holds a token while a commit is at work
	loaded    bool
	committed uint64
	revision  int64 // of the committed position's key; 0: absent
	// unknown is the end of the last commit whose outcome is not known, with the number of its first object; 0: none. When it is repeated its objects
	// may have been committed and absorbed meanwhile.
	unknown    uint64
	unknownSeq uint64
}

// begin takes the turn of a stream's commits, if ctx allows.
func (s *Store) begin(ctx context.Context, id StreamID) (*streamProgress, error) {
	s.mu.Lock()
	p := s.progress[id]
	if p == nil {
		p = &streamProgress{turn: make(chan struct{}, 1)}
		s.progress[id] = p
	}
	s.mu.Unlock()
	select {
	case p.turn <- struct{}{}:
		return p, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

func (p *streamProgress) end() { <-p.turn }

func (s *Store) forgetProgress(id StreamID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.progress, id)
}

// loadProgress reads the position up to which a stream is committed and the revision of its key.
func (s *Store) loadProgress(ctx context.Context, id StreamID, first uint64) (uint64, int64, error) {
	page, err := s.read(ctx, kv.Range{Start: s.keys.committed(id)})
	if err != nil || len(page.Pairs) == 0 {
		return first, 0, err
	}
	position, err := decodeCommitted(page.Pairs[0].Value)
	if err != nil {
		return 0, 0, fmt.Errorf("metadata key %s: %w", page.Pairs[0].Key, err)
	}
	return position, page.Pairs[0].ModRevision, nil
}

// maxCommit is how many objects one CommitObjects may name: all are put in one transaction.
const maxCommit = chunkOps - 4

// CommitObjects makes objects exist, all or none, if the stream's record is still at revision expect: the one that CreateStream or
// RecoverStream returned. Commits of a stream are made in the order of its positions and say that nothing below the
// highest To is left to commit; that To becomes StreamState.Committed in the same transaction. After an unknown outcome the
// call may be repeated with the same arguments. Errors: ErrFenced when the stream has moved on (the caller lost it),
// ErrConflict when positions from From on are committed already by other objects, ErrExists when another object has a
// sequence number, ErrNotFound, ErrInvalid.
func (s *Store) CommitObjects(ctx context.Context, id StreamID, expect Revision, objects []PendingObject) error {
	if len(objects) == 0 {
		return nil
	}
	if len(objects) > maxCommit {
		return fmt.Errorf("commit objects of %s: %w: %d at once, at most %d", id, ErrInvalid, len(objects), maxCommit)
	}
	for i := range objects {
		if err := objects[i].validate(); err != nil {
			return fmt.Errorf("commit objects: %w", err)
		}
		if objects[i].Stream != id {
			return fmt.Errorf("commit objects of %s: %w: object %d is of %s", id, ErrInvalid, objects[i].Seq, objects[i].Stream)
		}
	}
	p, err := s.begin(ctx, id)
	if err != nil {
		return fmt.Errorf("commit objects of %s: %w", id, err)
	}
	defer p.end()
	if err := s.commitObjects(ctx, p, id, expect, objects); err != nil {
		p.loaded = false // what is there now is not known
		return fmt.Errorf("commit objects of %s: %w", id, err)
	}
	return nil
}

func (s *Store) commitObjects(ctx context.Context, p *streamProgress, id StreamID, expect Revision, objects []PendingObject) error {
	from, to := objects[0].From, objects[0].To
	for _, o := range objects[1:] {
		from, to = min(from, o.From), max(to, o.To)
	}
	for attempt := range swapAttempts {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		if !p.loaded {
			var err error
			if p.committed, p.revision, err = s.loadProgress(ctx, id, 0); err != nil {
				return err
			}
			p.loaded = true
		}
		t := s.commitTxn(id, expect, p, to, objects)
		double := from < p.committed
		if double { // by an earlier attempt or call, or by mistake: only look
			t.If = []kv.Compare{kv.Exists(s.keys.prefix + dirNever)}
		}
		res, _, err := s.txn(ctx, t)
		if err != nil {
			p.unknown, p.unknownSeq = to, objects[0].Seq
			return err
		}
		if res.Succeeded {
			p.unknown = 0
			if to > p.committed {
				p.committed, p.revision = to, res.Revision
			}
			s.observe(s.written(res.Revision, t.Then)...)
			return nil
		}
		p.loaded = false
		done, err := s.lostCommit(expect, res, t, objects)
		if done || err != nil {
			return err
		}
		if p.committed == to && p.unknown == to && p.unknownSeq == objects[0].Seq {
			// The stream is still the caller's, and nobody else commits there: it was this, and others have absorbed the objects already.
			p.unknown = 0
			return nil
		}
		if double {
			return fmt.Errorf("%w: [%d, %d) begins below %d, which is committed", ErrConflict, from, to, p.committed)
		}
	}
	return ErrConflict
}

// SkipTo raises the committed position of a stream to at least to: what is below it and in no object is not wanted any more, because its
// topics were deleted. It never lowers the position, so repeating it is harmless. Errors: as CommitObjects.
func (s *Store) SkipTo(ctx context.Context, id StreamID, expect Revision, to uint64) error {
	p, err := s.begin(ctx, id)
	if err != nil {
		return fmt.Errorf("skip to %d of %s: %w", to, id, err)
	}
	defer p.end()
	if err := s.skipTo(ctx, p, id, expect, to); err != nil {
		p.loaded = false
		return fmt.Errorf("skip to %d of %s: %w", to, id, err)
	}
	return nil
}

func (s *Store) skipTo(ctx context.Context, p *streamProgress, id StreamID, expect Revision, to uint64) error {
	stream, mark := s.keys.stream(id), s.keys.committed(id)
	for attempt := range swapAttempts {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		if !p.loaded {
			var err error
			if p.committed, p.revision, err = s.loadProgress(ctx, id, 0); err != nil {
				return err
			}
			p.loaded = true
		}
		if to <= p.committed {
			return nil
		}
		res, _, err := s.txn(ctx, kv.Txn{
			If:   []kv.Compare{kv.Unchanged(stream, int64(expect)), kv.Unchanged(mark, p.revision)},
			Then: []kv.Op{kv.Put(mark, appendCommitted(nil, to))},
			Else: []kv.Op{kv.Get(stream)},
		})
		switch {
		case err != nil:
			return err
		case res.Succeeded:
			p.committed, p.revision = to, res.Revision
			return nil
		case len(res.Gets[0]) == 0:
			return fmt.Errorf("%w: the stream is not recorded", ErrNotFound)
		case res.Gets[0][0].ModRevision != int64(expect):
			return fmt.Errorf("%w: the stream has moved on", ErrFenced)
		}
		p.loaded = false
	}
	return ErrConflict
}

// commitTxn lists in Else the stream, the committed position, and the objects.
func (s *Store) commitTxn(id StreamID, expect Revision, p *streamProgress, to uint64, objects []PendingObject) kv.Txn {
	stream, mark := s.keys.stream(id), s.keys.committed(id)
	t := kv.Txn{
		If:   []kv.Compare{kv.Unchanged(stream, int64(expect)), kv.Unchanged(mark, p.revision)},
		Else: []kv.Op{kv.Get(stream), kv.Get(mark)},
	}
	for i := range objects {
		key := s.keys.pending(id, objects[i].Seq)
		t.If = append(t.If, kv.Absent(key))
		t.Then = append(t.Then, kv.Put(key, appendPending(nil, &objects[i])))
		t.Else = append(t.Else, kv.Get(key))
	}
	if to > p.committed {
		t.Then = append(t.Then, kv.Put(mark, appendCommitted(nil, to)))
	}
	return t
}

// lostCommit decides what a failed comparison means: done, an error, or neither: the committed position was moved by
// somebody else, try again.
func (s *Store) lostCommit(expect Revision, res kv.TxnResult, t kv.Txn, objects []PendingObject) (bool, error) {
	there, same := 0, 0
	var events []kv.Event
	for i := range objects {
		if now := res.Gets[2+i]; len(now) == 1 {
			there++
			if string(now[0].Value) == string(t.Then[i].Value) {
				same++
				events = append(events, kv.Event{Pair: now[0]})
			}
		}
	}
	// The same object under the same number is this caller's own: an earlier attempt or call was performed, as a whole. What is not there any more was
	// absorbed since.
	if same > 0 && same == there {
		s.observe(events...)
		return true, nil
	}
	switch {
	case len(res.Gets[0]) == 0:
		return false, fmt.Errorf("%w: the stream is not recorded", ErrNotFound)
	case res.Gets[0][0].ModRevision != int64(expect):
		return false, fmt.Errorf("%w: the stream has moved on", ErrFenced)
	case there > 0:
		return false, fmt.Errorf("%w: %d of the sequence numbers are taken", ErrExists, there)
	}
	return false, nil
}

// PendingObjects reads all objects that are committed and not absorbed, in the order of stream and sequence number.
func (s *Store) PendingObjects(ctx context.Context) ([]PendingObject, error) {
	start, end := s.keys.dir(dirPending)
	objects, err := s.listPending(ctx, start, end)
	if err != nil {
		return nil, fmt.Errorf("list pending objects: %w", err)
	}
	return objects, nil
}

func (s *Store) listPending(ctx context.Context, start, end string) ([]PendingObject, error) {
	dir, _ := s.keys.dir(dirPending)
	var out []PendingObject
	_, err := s.scan(ctx, start, end, scanPage, func() { out = nil }, func(p kv.Pair) error {
		id, seq, err := parsePending(p.Key[len(dir):])
		if err != nil {
			return err
		}
		o, err := decodePending(p.Value)
		if err != nil {
			return fmt.Errorf("metadata key %s: %w", p.Key, err)
		}
		o.Stream, o.Seq = id, seq
		out = append(out, o)
		return nil
	})
	return out, err
}

// DeletePending forgets objects that the manifests of all their partitions have absorbed; only Stream and Seq are looked at.
// Objects that are not there are no error, so the call can be repeated. ErrFenced when broker by has a newer incarnation.
func (s *Store) DeletePending(ctx context.Context, by BrokerID, incarnation Incarnation, objects []PendingObject) error {
	guard := []kv.Compare{kv.Unchanged(s.keys.incarnation(by), int64(incarnation))}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(chunksInFlight)
	for chunk := range slices.Chunk(objects, chunkOps) {
		group.Go(func() error {
			ops := make([]kv.Op, len(chunk))
			for i, o := range chunk {
				ops[i] = kv.Delete(s.keys.pending(o.Stream, o.Seq))
			}
			res, _, err := s.txn(ctx, kv.Txn{If: guard, Then: ops})
			if err != nil {
				return err
			}
			if !res.Succeeded {
				return fmt.Errorf("%w: broker %d has a newer incarnation", ErrFenced, by)
			}
			s.observe(s.written(res.Revision, ops)...)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("delete pending objects: %w", err)
	}
	return nil
}
