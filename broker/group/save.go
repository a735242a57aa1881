package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/metadata"
)

// save has a group's state written. One write per group is under way at a time; of the states that come up meanwhile only the
// newest is written, since it holds all that the others hold. The group is locked.
func (c *Coordinator) save(e *entry, s *classic.Save) {
	e.kept = true
	if e.saving != nil {
		e.nextSave = s
		return
	}
	e.saving = make(chan struct{})
	e.shard.busy.Add(1)
	core := e.core
	c.saves.Go(func() { c.saveLoop(e, core, s) })
}

func (c *Coordinator) saveLoop(e *entry, core *classic.Group, s *classic.Save) {
	defer e.shard.busy.Done()
	for s != nil {
		c.saving <- struct{}{}
		begun := time.Now()
		err := c.write(e, &s.Snapshot)
		c.metrics.stateWritten(time.Since(begun), err)
		<-c.saving
		if err != nil {
			c.logger.Warn("state of a group was not stored", "group", e.id, "generation", s.Snapshot.Generation, "error", err)
		}
		fenced := errors.Is(err, metadata.ErrFenced)
		var state []byte
		var rev metadata.Revision
		if fenced {
			state, rev = c.reread(e)
		}
		code := writeError(err)
		e.mu.Lock()
		c.apply(e, core.Saved(c.now(), s.Seq, code))
		if fenced {
			code = kerr.NotCoordinator
			c.replace(e, state, rev)
			e.nextSave = nil
		}
		e.tellSaved(s.Seq, code, fenced)
		s, e.nextSave = e.nextSave, nil
		if s == nil {
			close(e.saving)
			e.saving = nil
		}
		c.release(e)
	}
}

// tellSaved answers those who wait for the state of seq or an earlier one, or for any if all is lost.
func (e *entry) tellSaved(seq uint64, err *kerr.Error, all bool) {
	kept := e.saved[:0]
	for _, w := range e.saved {
		if w.seq <= seq || all {
			w.done <- err
		} else {
			kept = append(kept, w)
		}
	}
	e.saved = kept
}

// writeError is what the clients hear of a failed write: Kafka's answers when an append to its log fails.
func writeError(err error) *kerr.Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, metadata.ErrFenced):
		return kerr.NotCoordinator
	case errors.Is(err, metadata.ErrInvalid):
		return kerr.UnknownServerError // too large
	default:
		return kerr.CoordinatorNotAvailable
	}
}

// write stores a snapshot, retrying until WriteTimeout has passed. After a write whose outcome is unknown the stored state is
// read first: it is our own, or the one before, and either way the next swap starts from its revision.
func (c *Coordinator) write(e *entry, snapshot *classic.Snapshot) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.opts.WriteTimeout)
	defer cancel()
	snapshot.Incarnation, snapshot.Sequence = int64(c.opts.Incarnation), c.writes.Add(1)
	state, err := encode(snapshot)
	if err != nil {
		return err
	}
	for backoff := 5 * time.Millisecond; ; backoff = min(2*backoff, 500*time.Millisecond) {
		done, err := c.tryWrite(ctx, e, snapshot, state)
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(backoff):
		}
	}
}

// encode bounds the stored state. When it is too large, the subscriptions for protocols that were not chosen are left out, as
// Kafka does always; then a rejoin after a restart looks like a change.
func encode(snapshot *classic.Snapshot) ([]byte, error) {
	state := classic.Encode(snapshot)
	if len(state) > maxStateBytes {
		state = classic.Encode(snapshot.ChosenOnly())
	}
	if len(state) > maxStateBytes {
		return nil, fmt.Errorf("group state of %d bytes, at most %d are stored: %w", len(state), maxStateBytes, metadata.ErrInvalid)
	}
	return state, nil
}

// tryWrite makes one attempt; done says that err is final.
func (c *Coordinator) tryWrite(ctx context.Context, e *entry, snapshot *classic.Snapshot, state []byte) (done bool, err error) {
	if e.uncertain {
		if done, err := c.settle(ctx, e, snapshot); done || err != nil {
			return done, err
		}
	}
	rev, err := c.opts.States.SaveGroup(ctx, e.id, state, e.rev)
	switch {
	case err == nil:
		e.rev = rev
		return true, nil
	case errors.Is(err, metadata.ErrFenced) || errors.Is(err, metadata.ErrInvalid):
		return true, err
	default:
		// A conflict too: an earlier write of ours may have come through late.
		e.uncertain = true
		return false, err
	}
}

// settle finds out what is stored after an unknown outcome. done with a nil error says that the snapshot is stored already.
func (c *Coordinator) settle(ctx context.Context, e *entry, snapshot *classic.Snapshot) (done bool, err error) {
	stored, rev, err := c.opts.States.LoadGroup(ctx, e.id)
	switch {
	case errors.Is(err, metadata.ErrNotFound):
		rev = 0
	case err != nil:
		return false, err
	}
	if rev != e.rev && rev != 0 {
		s, err := classic.Decode(stored)
		if err != nil || s.Incarnation != snapshot.Incarnation {
			return true, fmt.Errorf("group %q was written by another (incarnation %d): %w", e.id, s.Incarnation, metadata.ErrFenced)
		}
		done = s.Sequence == snapshot.Sequence
	}
	e.rev, e.uncertain = rev, false
	return done, nil
}

// reread reads the state that somebody else stored.
func (c *Coordinator) reread(e *entry) ([]byte, metadata.Revision) {
	ctx, cancel := context.WithTimeout(context.Background(), c.opts.WriteTimeout)
	defer cancel()
	state, rev, err := c.opts.States.LoadGroup(ctx, e.id)
	if err != nil {
		c.logger.Warn("state of a group that somebody else wrote was not read", "group", e.id, "error", err)
	}
	return state, rev
}

// replace gives up the group as it is in memory, since somebody else wrote its state, and takes up what is stored. The group is
// locked.
func (c *Coordinator) replace(e *entry, state []byte, rev metadata.Revision) {
	c.apply(e, e.core.Unload(c.now(), kerr.NotCoordinator))
	snapshot, err := classic.Decode(state)
	if err != nil {
		snapshot = classic.Snapshot{}
	}
	var effects classic.Effects
	e.core, effects = classic.Restore(&c.core, e.id, c.now(), snapshot)
	e.rev, e.uncertain, e.stale = rev, err != nil, true
	effects.Save = nil
	c.apply(e, effects)
}
