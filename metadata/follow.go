package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// sweepEvery is how often leftovers of failed creations are looked for.
const sweepEvery = time.Minute

// Run follows the changes that others make until ctx is done, and returns nil then. While etcd is away the image stays as
// it is.
func (s *Store) Run(ctx context.Context) error {
	sweeper := make(chan struct{})
	go func() {
		defer close(sweeper)
		s.sweepRegularly(ctx)
	}()
	defer func() { <-sweeper }()

	start, end := s.keys.dir(dirMeta)
	failures := 0
	for ctx.Err() == nil {
		err := s.kv.Watch(ctx, start, end, s.watchedRevision()+1, func(b kv.Batch) error {
			if failures > 0 {
				s.logger.Info("metadata watch is back")
			}
			failures = 0
			s.applyBatch(b)
			return nil
		})
		if errors.Is(err, kv.ErrCompacted) {
			s.metrics.relists.Add(ctx, 1)
			s.logger.Info("metadata watch fell behind the compaction; reading everything again")
			err = s.relist(ctx, false)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if failures++; failures == 1 {
			s.logger.Warn("metadata watch ended; the image may be behind until it is back", "error", err)
		}
		pause(ctx, failures)
	}
	return nil
}

func (s *Store) sweepRegularly(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
				s.logger.Warn("unfinished topics were not removed; trying again later", "error", err)
			}
		}
	}
}

func (s *Store) watchedRevision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watched
}

// relist reads the whole image at one revision. strict fails on records that cannot be decoded. Otherwise they are logged,
// and the last good record of a topic or partition stays, or the listing fails where there is none; others are left out.
func (s *Store) relist(ctx context.Context, strict bool) error {
	start, end := s.keys.dir(dirMeta)
	var e *edit
	var pending map[string]struct{}
	version := s.Image().topicsVersion
	begin := func() {
		e, pending = newEdit(s.keys, newImage()), map[string]struct{}{}
		e.im.topicsVersion = version
	}
	rev, err := s.scan(ctx, start, end, scanPage, begin, func(p kv.Pair) error {
		s.trackPending(pending, kv.Event{Pair: p})
		if err := e.apply(kv.Event{Pair: p}); err != nil {
			if strict {
				return err
			}
			kept, missing := e.keep(s.Image(), p.Key)
			if missing != nil {
				return fmt.Errorf("%w: %w", missing, err)
			}
			s.logger.Error("metadata record is damaged and left out", "error", err, "last good one stays", kept)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// What was applied ahead of the watch and is newer than the listing must not be lost.
	for _, ev := range s.recent {
		if ev.ModRevision > rev {
			s.applyLocked(e, pending, ev)
		}
	}
	s.pending = pending
	e.im.revision = max(e.im.revision, Revision(rev))
	s.seenLocked(rev)
	s.publishLocked(e)
	return nil
}

// applyBatch applies what the watch delivers.
func (s *Store) applyBatch(b kv.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := newEdit(s.keys, s.image.Load())
	for _, ev := range b.Events {
		if ev.ModRevision > s.watched && s.recent[ev.Key].ModRevision < ev.ModRevision {
			s.applyLocked(e, s.pending, ev)
		}
	}
	e.im.revision = max(e.im.revision, Revision(b.Revision))
	s.seenLocked(b.Revision)
	s.publishLocked(e)
}

// observe applies what a transaction wrote or read, ahead of the watch. The ModRevision of a deletion may be any revision
// at which the key is known to be absent.
func (s *Store) observe(events ...kv.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := newEdit(s.keys, s.image.Load())
	for _, ev := range events {
		if ev.ModRevision <= s.watched || ev.ModRevision <= s.recent[ev.Key].ModRevision {
			continue
		}
		s.recent[ev.Key] = ev
		s.applyLocked(e, s.pending, ev)
	}
	s.publishLocked(e)
}

// written turns the puts and deletions of a transaction performed at rev into events. Keys outside meta/ are left out, and
// so are deletions of ranges: their callers say which keys were in them.
func (s *Store) written(rev int64, ops []kv.Op) []kv.Event {
	events := make([]kv.Event, 0, len(ops))
	for _, o := range ops {
		if !strings.HasPrefix(o.Key, s.keys.prefix+dirMeta) || o.End != "" {
			continue
		}
		switch o.Kind {
		case kv.OpPut:
			// The create revision is only looked at for registrations, which are created, never overwritten, with it absent.
			events = append(events, kv.Event{Pair: kv.Pair{Key: o.Key, Value: o.Value, ModRevision: rev, CreateRevision: rev, Lease: o.Lease}})
		case kv.OpDelete:
			events = append(events, deletion(o.Key, rev))
		}
	}
	return events
}

func deletion(key string, rev int64) kv.Event {
	return kv.Event{Pair: kv.Pair{Key: key, ModRevision: rev}, IsDelete: true}
}

// found turns the answer of a Get into an event.
func found(key string, pairs []kv.Pair, rev int64) kv.Event {
	if len(pairs) == 0 {
		return deletion(key, rev)
	}
	return kv.Event{Pair: pairs[0]}
}

func (s *Store) applyLocked(e *edit, pending map[string]struct{}, ev kv.Event) {
	s.trackPending(pending, ev)
	if err := e.apply(ev); err != nil {
		s.logger.Error("metadata record is damaged; the change is left out", "error", err)
	}
}

func (s *Store) trackPending(pending map[string]struct{}, ev kv.Event) {
	name := strings.TrimPrefix(ev.Key, s.keys.prefix)
	if !strings.HasPrefix(name, dirPending) {
		return
	}
	if ev.IsDelete {
		delete(pending, name)
	} else {
		pending[name] = struct{}{}
	}
}

// seenLocked notes that the image has everything up to rev.
func (s *Store) seenLocked(rev int64) {
	s.watched = max(s.watched, rev)
	maps.DeleteFunc(s.recent, func(_ string, ev kv.Event) bool { return ev.ModRevision <= s.watched })
}

func (s *Store) publishLocked(e *edit) {
	old := s.image.Load()
	im := e.finish()
	s.image.Store(im)
	if im.topicsVersion == old.topicsVersion {
		return
	}
	for ch := range s.subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
