package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// replica is the copy of one stream. Whoever holds its turn may touch it; nobody holds it without being at work.
type replica struct {
	rs     *Replicas
	stream uint64
	turn   chan struct{} // holds a token while it is free

	loaded  bool
	gone    error // why nothing can be done with it any more
	limbo   error
	state   replicaState
	file    File      // state's, for writing
	segs    *segments // nil until loaded
	chain   Chain     // up to what is durable
	cur     *segment  // open for writing, or nil
	session uint64
	scratch []byte // aligned

	next   chan prepared // the following segment, being made; nil: not yet
	hungry atomic.Bool   // somebody waits for it

	charged int64 // counted in Replicas.used
}

func newReplica(rs *Replicas, stream uint64) *replica {
	r := &replica{rs: rs, stream: stream, turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r
}

func (r *replica) lock(ctx context.Context) error {
	select {
	case <-r.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wal replica: %w", context.Cause(ctx))
	}
}

func (r *replica) unlock() { r.turn <- struct{}{} }

func (r *replica) statePath() string {
	return filepath.Join(r.rs.o.Dir, fmt.Sprintf("%016x%s", r.stream, stateSuffix))
}

func (r *replica) folder() string { return filepath.Join(r.rs.o.Dir, fmt.Sprintf("%016x", r.stream)) }

func (r *replica) charge(s replicaState) {
	size := s.sizeBytes()
	r.rs.used.Add(size - r.charged)
	r.charged = size
}

// fail puts the replica into limbo: it counts for nothing until the process starts again, or for ever.
func (r *replica) fail(cause error) error {
	r.limbo = fmt.Errorf("%w: stream %016x: %w", ErrLimbo, r.stream, cause)
	r.rs.o.Logger.Error("wal: a replica does not count any more", "stream", fmt.Sprintf("%016x", r.stream), "error", cause)
	return r.limbo
}

// save makes the state durable, with where the replica is by now.
func (r *replica) save(twice bool) error {
	r.state.Synced = r.chain.end
	if r.state.BatchTo <= r.chain.end {
		r.state.BatchTo = 0
	}
	if err := r.state.write(r.file, r.rs.mode == SyncData, twice); err != nil {
		return r.fail(fmt.Errorf("state: %w", err))
	}
	r.charge(r.state)
	return nil
}

func (r *replica) tail() Tail {
	t := Tail{Header: r.state.Header, Start: r.chain.end, End: r.chain.end, Promise: r.state.Promise}
	r.segs.mu.Lock()
	if len(r.segs.list) > 0 {
		t.Start = r.segs.list[0].First
	}
	r.segs.mu.Unlock()
	return t
}

// tryOpen opens the replica when its turn comes; again: it was removed meanwhile, and another one can be made.
func (r *replica) tryOpen(ctx context.Context, h StreamHeader, oldest SegmentRef, create bool) (app *Appender, tail Tail, again bool, err error) {
	if err := r.lock(ctx); err != nil {
		return nil, Tail{}, false, err
	}
	defer r.unlock()
	if create && errors.Is(r.gone, ErrNoReplica) {
		return nil, Tail{}, true, nil
	}
	app, tail, err = r.open(h, oldest, create)
	return app, tail, false, err
}

func (r *replica) open(h StreamHeader, oldest SegmentRef, create bool) (*Appender, Tail, error) {
	err := r.load()
	if errors.Is(err, ErrNoReplica) && create && r.gone == nil {
		if err = r.create(h); err != nil {
			r.rs.forget(r)
			return nil, Tail{}, err
		}
		err = r.load()
	}
	if errors.Is(err, ErrNoReplica) {
		r.rs.forget(r)
	}
	if err != nil {
		return nil, Tail{}, err
	}
	switch {
	case r.state.Header != h:
		return nil, Tail{}, fmt.Errorf("%w: stream %016x", ErrForeign, r.stream)
	case h.Epoch < r.state.Promise:
		return nil, Tail{}, fmt.Errorf("%w: epoch %d, promised %d", ErrFenced, h.Epoch, r.state.Promise)
	}
	if r.state.Newest > 0 && r.chain.end < oldest.First {
		err = r.dropAll()
	} else {
		err = r.trim(oldest.First)
	}
	if err == nil && r.state.Newest == 0 {
		r.begin(oldest)
		_, err = r.addSegment(oldest)
	}
	if err != nil {
		return nil, Tail{}, err
	}
	r.session++
	return &Appender{r: r, session: r.session}, r.tail(), nil
}

// create makes the state of a stream that nothing was kept of. A crash leaves all of it or nothing.
func (r *replica) create(h StreamHeader) (err error) {
	o := r.rs.o
	if err := o.FS.MkdirAll(r.folder()); err != nil {
		return fmt.Errorf("wal replica: %w", err)
	}
	tmp := r.statePath() + tempSuffix
	if err := o.FS.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("wal replica: %w", err)
	}
	f, err := o.FS.Open(tmp, OpenCreate|writeFlags(r.rs.mode)&^OpenDSync)
	if err != nil {
		return fmt.Errorf("wal replica: %w", err)
	}
	s := replicaState{Stream: r.stream, Header: h}
	if err = f.Allocate(stateSlots * blockBytes); err == nil {
		if err = s.write(f, false, true); err == nil {
			err = f.Sync()
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		if err = o.FS.Rename(tmp, r.statePath()); err == nil {
			err = o.FS.SyncDir(o.Dir)
		}
	}
	if err != nil {
		return fmt.Errorf("wal replica state: %w", err)
	}
	return nil
}

// begin makes the chain start at the segment.
func (r *replica) begin(s SegmentRef) {
	r.chain = *NewChain(r.state.Header)
	r.chain.end = s.First
	if s.Sequence == firstSegmentSeq {
		r.chain.known, r.chain.sequence, r.chain.link = true, firstGroupSequence, r.chain.seed
	}
}

func (r *replica) fence(epoch uint64) (Tail, error) {
	if err := r.load(); err != nil {
		return Tail{}, err
	}
	if epoch < r.state.Promise {
		return Tail{}, fmt.Errorf("%w: epoch %d, promised %d", ErrFenced, epoch, r.state.Promise)
	}
	if epoch > r.state.Promise {
		r.state.Promise = epoch
		if err := r.save(true); err != nil {
			return Tail{}, err
		}
	}
	return r.tail(), nil
}

// trim first notes which segments must be there from now on.
func (r *replica) trim(to Position) error {
	s, end := r.segs, r.chain.end
	s.mu.Lock()
	n := 0
	for n < len(s.list)-1 && s.list[n].limit() <= to && s.list[n].limit() < end {
		n++
	}
	oldest := uint64(0)
	if n > 0 {
		oldest = s.list[n].Sequence
	}
	s.mu.Unlock()
	if n == 0 {
		return nil
	}
	r.state.Oldest = oldest
	if err := r.save(false); err != nil {
		return err
	}
	return s.trim(to, end)
}

// dropAll gives up all that is held. A crash on the way leaves a replica that holds less or nothing, which is what it is for.
func (r *replica) dropAll() error {
	r.stopWriting()
	r.state.Oldest, r.state.Newest = 0, 0
	if err := r.save(false); err != nil {
		return err
	}
	s := r.segs
	s.mu.Lock()
	s.dead = append(s.dead, s.list...)
	s.list = nil
	s.mu.Unlock()
	return s.retireDead()
}

func (r *replica) remove(epoch uint64) error {
	err := r.load()
	switch {
	case errors.Is(err, ErrNoReplica):
		r.rs.forget(r)
		return nil
	case err != nil && !errors.Is(err, ErrLimbo):
		return err
	case r.state.Promise > epoch:
		return fmt.Errorf("%w: epoch %d, promised %d", ErrFenced, epoch, r.state.Promise)
	}
	if r.limbo == nil {
		if err := r.dropAll(); err != nil {
			return err
		}
	}
	r.closeFiles()
	o := r.rs.o
	names, err := o.FS.List(r.folder())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("wal replica remove: %w", err)
	}
	for _, n := range names {
		if err := o.FS.Remove(filepath.Join(r.folder(), n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("wal replica remove: %w", err)
		}
	}
	for _, path := range []string{r.folder(), r.statePath()} {
		if err := o.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("wal replica remove: %w", err)
		}
	}
	if err := o.FS.SyncDir(o.Dir); err != nil {
		return fmt.Errorf("wal replica remove: %w", err)
	}
	r.charge(replicaState{})
	r.rs.forget(r)
	return nil
}

// stopWriting closes what is open for writing and gives up the segment being made, whose file is left for load to remove, or for
// dropAll by its name.
func (r *replica) stopWriting() {
	if r.next != nil {
		r.hungry.Store(true)
		if p := <-r.next; p.err == nil {
			_ = p.seg.w.Close() // nothing was written since it was synced
			_ = r.segs.retire(p.seg)
		}
		r.next = nil
		r.hungry.Store(false)
	}
	if r.cur != nil {
		r.closeWriter(r.cur)
		r.cur = nil
	}
}

func (r *replica) closeWriter(seg *segment) {
	if seg.w == nil {
		return
	}
	if err := seg.w.Close(); err != nil {
		r.rs.o.Logger.Warn("wal: closing a written segment failed", "path", seg.path, "error", err)
	}
	seg.w = nil
}

func (r *replica) closeFiles() {
	if r.segs != nil {
		r.stopWriting()
		r.segs.closeReaders()
	}
	if r.file != nil {
		_ = r.file.Close() // each write was synced
		r.file = nil
	}
}

func (r *replica) close() error {
	var err error
	if r.gone == nil && r.loaded && r.limbo == nil && r.state.Synced != r.chain.end {
		err = r.save(false)
	}
	r.closeFiles()
	r.gone = ErrClosed
	return err
}

// sweep removes what a crash left behind in the folder.
func (r *replica) sweep() error {
	o := r.rs.o
	if err := o.FS.MkdirAll(r.folder()); err != nil {
		return err
	}
	names, err := o.FS.List(r.folder())
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(r.folder(), n)
		if !strings.HasSuffix(n, segmentSuffix) {
			if err := o.FS.Remove(path); err != nil {
				return err
			}
			continue
		}
		seq, ok := segmentSequence(n)
		if ok && r.state.Newest > 0 && seq >= r.state.Oldest && seq <= r.state.Newest {
			continue
		}
		size, err := r.segs.fileSize(path)
		if err != nil {
			return err
		}
		if err := r.segs.retire(newSegment(segmentHeader{Sequence: seq, SizeBytes: size}, path)); err != nil {
			return err
		}
	}
	return nil
}
