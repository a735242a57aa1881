package metadata

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// Registration is a broker's presence in the cluster: a key under a lease that a goroutine keeps alive until Close.
//
// The lease says only that the broker is alive, never that it may write: every write is fenced by its own swap. So losing
// the lease, for want of etcd or of CPU time, does not end an incarnation by itself. The registration is renewed with a new lease
// under the same incarnation as long as no newer run of this broker id registered in between; streams and partitions that
// nobody took in the meantime are still this run's. Done is closed only when that is no longer possible.
type Registration struct {
	Incarnation Incarnation // the etcd revision at which this run registered

	store *Store
	ttl   time.Duration
	turn  chan struct{} // holds a token while the key is being written; guards the next three
	lease kv.LeaseID
	self  Broker

	cancel  context.CancelFunc
	stopped chan struct{} // the goroutine is over
	done    chan struct{}
	mu      sync.Mutex
	err     error
}

// Register makes a broker live and gives this run its incarnation, which is higher than all before it. ttl is how long the
// registration outlives a broker that died; at least a second, counted in whole ones.
//
// While another broker with the id is registered it answers ErrExists and says which. A registration with the same,
// non-empty, token is taken over at once, though: the token names a data directory, whose WAL folder is locked (flock) by
// the process that uses it. So the process that holds the lock and registers knows that the earlier one is dead, and need not
// wait for its lease after a kill -9.
func (s *Store) Register(ctx context.Context, b Broker, ttl time.Duration) (*Registration, error) {
	if err := validateBroker(b); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	r := &Registration{store: s, ttl: max(ttl, minLeaseTTL), turn: make(chan struct{}, 1), self: b, stopped: make(chan struct{}), done: make(chan struct{})}
	if err := r.create(ctx); err != nil {
		r.release()
		return nil, fmt.Errorf("register broker %d: %w", b.ID, err)
	}
	r.self.Incarnation = r.Incarnation
	s.mu.Lock()
	s.mine[r.Incarnation] = struct{}{}
	s.mu.Unlock()
	kctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	go r.keepAlive(kctx)
	if err := s.sweep(ctx); err != nil { // what this broker's last run left is known as such from now on
		s.logger.Warn("unfinished topics were not removed; trying again later", "error", err)
	}
	return r, nil
}

// create writes the registration for the first time.
func (r *Registration) create(ctx context.Context) error {
	s := r.store
	key := s.keys.broker(r.self.ID)
	for attempt := range swapAttempts {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		if err := r.grant(ctx); err != nil {
			return err
		}
		ops := []kv.Op{
			kv.PutLeased(key, r.record(), r.lease),
			kv.Put(s.keys.incarnation(r.self.ID), encodeJSON(incarnationRecord{Version: codecVersion, Token: r.self.Token})),
		}
		res, _, err := s.txn(ctx, kv.Txn{If: []kv.Compare{kv.Absent(key)}, Then: ops, Else: []kv.Op{kv.Get(key)}})
		switch {
		case errors.Is(err, kv.ErrLeaseNotFound):
			r.lease = 0
			continue
		case err != nil:
			return err
		case res.Succeeded:
			r.Incarnation = Incarnation(res.Revision)
			s.observe(s.written(res.Revision, ops)...)
			return nil
		case len(res.Gets[0]) == 0:
			continue
		}
		now := res.Gets[0][0]
		if now.Lease == r.lease { // an attempt of unknown outcome was performed
			r.Incarnation = Incarnation(now.CreateRevision)
			s.observe(kv.Event{Pair: now})
			return nil
		}
		if err := r.takeOver(ctx, now); err != nil {
			return err
		}
	}
	return ErrConflict
}

// takeOver removes the registration of an earlier run on the same data directory.
func (r *Registration) takeOver(ctx context.Context, now kv.Pair) error {
	s := r.store
	other, err := brokerOf(r.self.ID, now)
	if err != nil {
		return fmt.Errorf("metadata key %s: %w", now.Key, err)
	}
	if r.self.Token == "" || other.Token != r.self.Token {
		return fmt.Errorf("%w: registered as %s:%d, incarnation %d, on another data directory", ErrExists, other.Host, other.Port, other.Incarnation)
	}
	res, _, err := s.txn(ctx, kv.Txn{If: []kv.Compare{kv.Unchanged(now.Key, now.ModRevision)}, Then: []kv.Op{kv.Delete(now.Key)}})
	if err != nil {
		return err
	}
	if res.Succeeded {
		s.observe(deletion(now.Key, res.Revision))
		s.logger.Info("took over the registration of this data directory's last run", "broker", r.self.ID, "incarnation", other.Incarnation)
		if now.Lease != 0 {
			_ = s.kv.Revoke(ctx, now.Lease) // an empty lease ends by itself
		}
	}
	return nil
}

func (r *Registration) grant(ctx context.Context) error {
	for attempt := 0; r.lease == 0; attempt++ {
		id, _, err := r.store.kv.Grant(ctx, r.ttl)
		switch {
		case err == nil:
			r.lease = id
		case attempt+1 >= txnAttempts || !errors.Is(err, kv.ErrUnavailable) || !pause(ctx, attempt+1):
			return convertError(err)
		}
	}
	return nil
}

func (r *Registration) record() []byte {
	b := r.self
	return encodeJSON(brokerRecord{Version: codecVersion, Host: b.Host, Port: b.Port, Rack: b.Rack, Token: b.Token, Replica: b.Replica, Draining: b.Draining, Incarnation: r.Incarnation})
}

// Done is closed when the registration has ended: by Close, or because another run of the broker id took its place. Err
// tells which.
func (r *Registration) Done() <-chan struct{} { return r.done }

// Err returns nil before Done is closed and after Close, and ErrFenced when another run took over.
func (r *Registration) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// SetAddress changes the address that clients are told.
func (r *Registration) SetAddress(ctx context.Context, host string, port int32) error {
	if err := r.change(ctx, func(b *Broker) { b.Host, b.Port = host, port }); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	return nil
}

// SetDraining says that the broker is giving its partitions away, so that nobody gives it any, or that it is not.
func (r *Registration) SetDraining(ctx context.Context, draining bool) error {
	if err := r.change(ctx, func(b *Broker) { b.Draining = draining }); err != nil {
		return fmt.Errorf("set draining: %w", err)
	}
	return nil
}

// change changes what the registration says. After ErrUnavailable it may or may not have changed, and a renewal writes the new one.
func (r *Registration) change(ctx context.Context, fn func(*Broker)) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	next := r.self
	fn(&next)
	if err := validateBroker(next); err != nil {
		return err
	}
	r.self = next
	return r.write(ctx)
}

// write puts the registration as it should be, whether it is there or not, if no newer run has registered. The caller has
// the turn.
func (r *Registration) write(ctx context.Context) error {
	s := r.store
	key, fence := s.keys.broker(r.self.ID), s.keys.incarnation(r.self.ID)
	for attempt := range txnAttempts {
		if attempt > 1 && !pause(ctx, attempt) {
			break
		}
		if err := r.grant(ctx); err != nil {
			return err
		}
		ops := []kv.Op{kv.PutLeased(key, r.record(), r.lease)}
		res, _, err := s.txn(ctx, kv.Txn{If: []kv.Compare{kv.Unchanged(fence, int64(r.Incarnation))}, Then: ops})
		switch {
		case errors.Is(err, kv.ErrLeaseNotFound):
			r.lease = 0
			continue
		case err != nil:
			return err
		case !res.Succeeded:
			return fmt.Errorf("%w: a newer run of broker %d has registered", ErrFenced, r.self.ID)
		}
		s.observe(s.written(res.Revision, ops)...)
		return nil
	}
	return fmt.Errorf("%w: leases end as soon as they are granted", ErrUnavailable)
}

// keepAlive renews the lease until ctx is done or the registration is lost.
func (r *Registration) keepAlive(ctx context.Context) {
	defer close(r.stopped)
	defer close(r.done)
	every := r.ttl / 3
	wait, failing := every, false
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		err := r.renew(ctx, every)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrFenced):
			r.mu.Lock()
			r.err = err
			r.mu.Unlock()
			return
		case err != nil && !failing:
			r.store.logger.Warn("the registration's lease cannot be renewed; the broker goes on and tries again", "broker", r.self.ID, "error", err)
		case err == nil && failing:
			r.store.logger.Info("the registration's lease is renewed again", "broker", r.self.ID)
		}
		failing = err != nil
		if wait = every; failing {
			wait = min(every, time.Second)
		}
	}
}

// renew keeps the lease alive, or writes the registration again under a new one.
func (r *Registration) renew(ctx context.Context, timeout time.Duration) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.lease != 0 {
		kctx, cancel := context.WithTimeout(ctx, timeout)
		_, err := r.store.kv.KeepAlive(kctx, r.lease)
		cancel()
		if err == nil {
			return nil
		}
		if !errors.Is(err, kv.ErrLeaseNotFound) {
			return convertError(err)
		}
		r.lease = 0
		r.store.logger.Warn("the registration's lease was lost; registering again under the same incarnation", "broker", r.self.ID, "incarnation", r.Incarnation)
	}
	return r.write(ctx)
}

// Close ends the registration at once, so that others need not wait for its lease, and waits for the keepalives to end.
func (r *Registration) Close(ctx context.Context) error {
	r.cancel()
	<-r.stopped
	s := r.store
	s.mu.Lock()
	delete(s.mine, r.Incarnation)
	s.mu.Unlock()
	if r.lease == 0 || r.Err() != nil {
		return nil
	}
	if err := s.kv.Revoke(ctx, r.lease); err != nil {
		return fmt.Errorf("end the registration of broker %d: %w", r.self.ID, convertError(err))
	}
	page, err := s.read(ctx, kv.Range{Start: s.keys.broker(r.self.ID)})
	if err != nil {
		return fmt.Errorf("end the registration of broker %d: %w", r.self.ID, err)
	}
	s.observe(found(s.keys.broker(r.self.ID), page.Pairs, page.Revision))
	return nil
}

// release gives back the lease of a registration that did not come about.
func (r *Registration) release() {
	if r.lease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	_ = r.store.kv.Revoke(ctx, r.lease) // otherwise it ends by itself
}
