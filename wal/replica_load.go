package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

func segmentSequence(name string) (uint64, bool) {
	seq, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 16, 64)
	return seq, err == nil && name == fmt.Sprintf("%016x%s", seq, segmentSuffix)
}

func (r *replica) readState() (replicaState, error) {
	f, err := r.rs.o.FS.Open(r.statePath(), OpenRead)
	if errors.Is(err, fs.ErrNotExist) {
		return replicaState{}, fmt.Errorf("%w: stream %016x", ErrNoReplica, r.stream)
	}
	if err != nil {
		return replicaState{}, fmt.Errorf("wal replica: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	return readReplicaState(f, r.stream)
}

// load reads what is there, once: what can be appended to, or why the replica is in limbo. A failure of the file system is neither.
func (r *replica) load() error {
	switch {
	case r.gone != nil:
		return r.gone
	case r.limbo != nil:
		return r.limbo
	case r.loaded:
		return nil
	}
	s, err := r.readState()
	var failed *readError
	switch {
	case errors.As(err, &failed) || errors.Is(err, ErrNoReplica):
		return err
	case err != nil:
		return r.fail(err)
	}
	r.state = s
	r.charge(s)
	r.segs = &segments{
		fs: r.rs.o.FS, dir: r.folder(), freeDir: r.rs.o.FreeDir, segmentBytes: s.Header.SegmentBytes,
		epoch: s.Header.Epoch, nonce: s.Header.Nonce, owner: s.Header.Owner,
	}
	if err := r.sweep(); err != nil {
		return fmt.Errorf("wal replica: %w", err)
	}
	if r.file == nil {
		if r.file, err = r.rs.o.FS.Open(r.statePath(), writeFlags(r.rs.mode)); err != nil {
			return fmt.Errorf("wal replica: %w", err)
		}
	}
	var rot *CorruptionError
	switch err := r.recover(); {
	case errors.As(err, &rot), errors.Is(err, ErrForeign):
		return r.fail(err)
	case err != nil:
		return err
	}
	r.loaded = true
	return nil
}

// recover follows the groups and makes sure that what it finds is durable, and not only read from a cache that a lost process filled.
func (r *replica) recover() error {
	r.begin(SegmentRef{First: r.state.Synced})
	s := r.segs
	s.seed = r.chain.seed
	v := &recovery{segs: s, logger: r.rs.o.Logger}
	if err := v.load(); err != nil {
		return err
	}
	if r.state.Newest == 0 {
		return r.syncFrom(nil)
	}
	if n := len(s.list); n == 0 || s.list[0].Sequence != r.state.Oldest || s.list[n-1].Sequence != r.state.Newest {
		return &CorruptionError{Path: s.dir, Reason: fmt.Sprintf("segments %d to %d are not all there", r.state.Oldest, r.state.Newest)}
	}
	if h := s.list[0].segmentHeader; h.Nonce != r.state.Header.Nonce || h.Owner != r.state.Header.Owner {
		return &CorruptionError{Path: s.list[0].path, Reason: "another stream's nonce or owner"}
	}
	rest, err := v.chain()
	if err != nil {
		return err
	}
	r.begin(s.list[0].ref())
	r.chain.end = v.end
	if v.known {
		r.chain.known, r.chain.sequence, r.chain.link = true, v.sequence, v.link
	}
	for _, seg := range s.list {
		if Position(seg.end.Load()) > seg.First {
			r.chain.segment = seg.ref()
		}
	}
	if err := v.checkReplicaTail(rest, r.state); err != nil {
		return err
	}
	return r.syncFrom(rest)
}

// checkReplicaTail is checkTail for a replica, which writes many groups at once where it has to catch up. Within such a write any of them may
// be torn, whatever the others promise. On the other hand a replica notes now and then up to where it is durable.
func (v *recovery) checkReplicaTail(list []*segment, s replicaState) error {
	rot := func(promised Position, reason string) error {
		return &CorruptionError{Path: list[0].path, Position: v.end, Promised: promised, Reason: reason}
	}
	if v.end < s.Synced {
		return rot(s.Synced, "the replica had more")
	}
	v.reader = fileReader{segs: v.segs}
	defer func() { _ = v.reader.close() }() // nothing is trimmed here, so nothing can fail
	for _, seg := range list {
		pos := max(v.end, seg.First)
		if _, err := v.reader.enter(pos); err != nil {
			return err
		}
		for pos < seg.limit() {
			h, err := v.reader.header(pos, seg.limit())
			var failed *readError
			switch {
			case errors.As(err, &failed):
				return err
			case err != nil:
				pos += blockBytes
				continue
			case h.Promised > v.end && h.Position >= s.BatchTo:
				return rot(h.Promised, fmt.Sprintf("group %d at %d is there, what comes before it is not", h.Sequence, h.Position))
			}
			pos = h.end()
		}
	}
	return nil
}

// syncFrom syncs the state, the segments and the one before them.
func (r *replica) syncFrom(rest []*segment) error {
	if r.rs.mode == SyncNone {
		return nil
	}
	if err := r.file.SyncData(); err != nil {
		return fmt.Errorf("wal replica state: %w", err)
	}
	first := len(r.segs.list) - len(rest)
	for _, seg := range r.segs.list[max(0, first-1):] {
		f, err := r.rs.o.FS.Open(seg.path, 0)
		if err != nil {
			return fmt.Errorf("wal replica: %w", err)
		}
		err = f.SyncData()
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("wal replica %s: %w", seg.path, err)
		}
	}
	return nil
}
