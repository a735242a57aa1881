package memkv

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// Watch implements kv.KV.
func (s *KV) Watch(ctx context.Context, start, end string, from int64, fn func(kv.Batch) error) error {
	if err := s.call(ctx, Call{Kind: OpWatch, Key: start}, func() error { return nil }); err != nil {
		return err
	}
	s.mu.Lock()
	broken := s.broken
	if from == 0 {
		from = s.revision + 1
	}
	s.mu.Unlock()
	for {
		batch, changed, err := s.next(start, end, from, broken)
		if err != nil {
			return err
		}
		if batch.Revision >= from {
			if err := fn(batch); err != nil {
				return err
			}
			from = batch.Revision + 1
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// next returns what a watch has not seen, and the channel that is closed when there may be more.
func (s *KV) next(start, end string, from int64, broken int) (kv.Batch, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != broken {
		return kv.Batch{}, nil, kv.ErrUnavailable
	}
	if s.stalled {
		return kv.Batch{}, s.changed, nil
	}
	if from < s.compacted {
		return kv.Batch{}, nil, kv.ErrCompacted
	}
	batch := kv.Batch{Revision: s.revision}
	first, _ := slices.BinarySearchFunc(s.log, from, func(e kv.Event, rev int64) int { return cmp.Compare(e.ModRevision, rev) })
	for _, e := range s.log[first:] {
		if e.Key < start || (end != "" && e.Key >= end) || (end == "" && e.Key != start) {
			continue
		}
		batch.Events = append(batch.Events, e)
	}
	return batch, s.changed, nil
}

// BreakWatches ends every running Watch with ErrUnavailable.
func (s *KV) BreakWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken++
	s.wakeLocked()
}

// StallWatches stops the delivery of events until it is called with false.
func (s *KV) StallWatches(stalled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = stalled
	s.wakeLocked()
}

// Grant implements kv.KV.
func (s *KV) Grant(ctx context.Context, ttl time.Duration) (kv.LeaseID, time.Duration, error) {
	ttl = max(ttl, time.Second)
	var id kv.LeaseID
	err := s.call(ctx, Call{Kind: OpGrant}, func() error {
		s.nextLease++
		id = s.nextLease
		l := &lease{ttl: ttl, keys: map[string]struct{}{}}
		l.timer = time.AfterFunc(ttl, func() { s.Expire(id) })
		s.leases[id] = l
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return id, ttl, nil
}

// KeepAlive implements kv.KV.
func (s *KV) KeepAlive(ctx context.Context, id kv.LeaseID) (time.Duration, error) {
	var ttl time.Duration
	err := s.call(ctx, Call{Kind: OpKeepAlive}, func() error {
		l := s.leases[id]
		if l == nil {
			return kv.ErrLeaseNotFound
		}
		l.timer.Reset(l.ttl)
		ttl = l.ttl
		return nil
	})
	if err != nil {
		return 0, err
	}
	return ttl, nil
}

// Revoke implements kv.KV.
func (s *KV) Revoke(ctx context.Context, id kv.LeaseID) error {
	return s.call(ctx, Call{Kind: OpRevoke}, func() error {
		s.expireLocked(id)
		return nil
	})
}

// Expire ends a lease at once, as its TTL would.
func (s *KV) Expire(id kv.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(id)
}

// ExpireAll ends every lease at once.
func (s *KV) ExpireAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.leases {
		s.expireLocked(id)
	}
}

func (s *KV) expireLocked(id kv.LeaseID) {
	l := s.leases[id]
	if l == nil {
		return
	}
	delete(s.leases, id)
	l.timer.Stop()
	events := len(s.log)
	for key := range l.keys {
		s.deleteLocked(key, "")
	}
	s.commitLocked(events)
}
