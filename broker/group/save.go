package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/group/record"
	"github.com/tidemarkmq/tidemark/metadata"
)

// save has a group's state written. One write per group is under way at a time; of the states that come up meanwhile only the
// newest is written, since it holds all that the others hold. The group is locked.
func (c *Coordinator) save(e *entry, s *save) {
	e.kept = true
	e.saves++
	s.number, e.unsaved = e.saves, false
	if e.saving != nil {
		e.nextSave = s
		return
	}
	e.saving = make(chan struct{})
	s.begin()
	e.shard.busy.Add(1)
	c.saves.Go(func() { c.saveLoop(e, s) })
}

func (c *Coordinator) saveLoop(e *entry, s *save) {
	defer e.shard.busy.Done()
	for s != nil {
		c.saving <- struct{}{}
		begun := time.Now()
		err := c.write(e, s)
		c.metrics.stateWritten(time.Since(begun), err)
		<-c.saving
		if err != nil {
			c.logger.Warn("state of a group was not stored", "group", e.id, "error", err)
		}
		fenced := errors.Is(err, metadata.ErrFenced)
		var state []byte
		var rev metadata.Revision
		if fenced {
			state, rev = c.reread(e)
		}
		code := writeError(err)
		e.mu.Lock()
		c.apply(e, s.core.saved(c.now(), s.seq, code))
		if fenced {
			code = kerr.NotCoordinator
			c.replace(e, state, rev)
			e.nextSave = nil
		}
		e.tellSaved(s.number, code, fenced)
		s, e.nextSave = e.nextSave, nil
		e.unsaved = err != nil && !fenced && s == nil
		if s != nil {
			s.begin()
		} else {
			close(e.saving)
			e.saving = nil
		}
		c.release(e)
	}
}

// begin fixes what is to be written. The group is locked.
func (s *save) begin() {
	if s.prepare != nil {
		s.prepare()
	}
}

// tellSaved answers those who wait for the state of this number or an earlier one, or for any if all is lost.
func (e *entry) tellSaved(number uint64, err *kerr.Error, all bool) {
	kept := e.saved[:0]
	for _, w := range e.saved {
		if w.number <= number || all {
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
func (c *Coordinator) write(e *entry, s *save) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.opts.WriteTimeout)
	defer cancel()
	sequence := c.writes.Add(1)
	state, err := s.encode(int64(c.opts.Incarnation), sequence)
	if err != nil {
		return err
	}
	for backoff := 5 * time.Millisecond; ; backoff = min(2*backoff, 500*time.Millisecond) {
		done, err := c.tryWrite(ctx, e, sequence, state)
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

// encodeClassic bounds the stored state. When it is too large, the subscriptions for protocols that were not chosen are left out, as
// Kafka does always; then a rejoin after a restart looks like a change.
func encodeClassic(snapshot *classic.Snapshot) ([]byte, error) {
	state := classic.Encode(snapshot)
	if len(state) > maxStateBytes {
		state = classic.Encode(snapshot.ChosenOnly())
	}
	if len(state) > maxStateBytes {
		return nil, tooLarge(len(state))
	}
	return state, nil
}

func tooLarge(sizeBytes int) error {
	return fmt.Errorf("group state of %d bytes, at most %d are stored: %w", sizeBytes, maxStateBytes, metadata.ErrInvalid)
}

// tryWrite makes one attempt; done says that err is final.
func (c *Coordinator) tryWrite(ctx context.Context, e *entry, sequence uint64, state []byte) (done bool, err error) {
	if e.uncertain {
		if done, err := c.settle(ctx, e, sequence); done || err != nil {
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

// settle finds out what is stored after an unknown outcome. done with a nil error says that the state of sequence is stored already.
func (c *Coordinator) settle(ctx context.Context, e *entry, sequence uint64) (done bool, err error) {
	stored, rev, err := c.opts.States.LoadGroup(ctx, e.id)
	switch {
	case errors.Is(err, metadata.ErrNotFound):
		rev = 0
	case err != nil:
		return false, err
	}
	if rev != e.rev && rev != 0 {
		incarnation, written, err := record.Writer(stored)
		if err != nil || incarnation != int64(c.opts.Incarnation) {
			return true, fmt.Errorf("group %q was written by another (incarnation %d): %w", e.id, incarnation, metadata.ErrFenced)
		}
		done = written == sequence
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
	c.apply(e, e.core.unload(c.now(), kerr.NotCoordinator))
	var did effects
	e.core, did = c.revive(e.id, state)
	e.rev, e.uncertain, e.stale = rev, state == nil, true
	did.save = nil
	c.apply(e, did)
}
