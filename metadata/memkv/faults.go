package memkv

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// OpKind is a method of the seam, for faults.
type OpKind string

// The kinds of calls.
const (
	OpRange     OpKind = "range"
	OpTxn       OpKind = "txn"
	OpWatch     OpKind = "watch"
	OpGrant     OpKind = "grant"
	OpKeepAlive OpKind = "keepalive"
	OpRevoke    OpKind = "revoke"
)

// Call describes a call to a fault function.
type Call struct {
	Kind OpKind
	Key  string // first key read or written; empty for leases
	N    int    // the how-manieth call of its kind since New, from 1
}

// Fault is what happens to a call. The zero value: nothing.
type Fault struct {
	Delay   time.Duration // before anything else; a caller whose context ends in it gets ErrUnavailable and nothing is done
	Answer  time.Duration // after it was performed; the answer is what it was then
	Lost    bool          // not performed, answered with ErrUnavailable
	Unknown bool          // performed, answered with ErrUnavailable
	Late    time.Duration // not performed yet, answered with ErrUnavailable; performed after this time
}

type faults struct {
	mu sync.Mutex
	fn func(Call) Fault
	n  map[OpKind]int
}

// SetFaults makes fn decide about every later call; nil ends all faults. fn must not call the store.
func (s *KV) SetFaults(fn func(Call) Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.fn = fn
}

// Calls returns how many calls of a kind there were.
func (s *KV) Calls(kind OpKind) int {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return s.faults.n[kind]
}

func (f *faults) decide(c Call) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.n = map[OpKind]int{}
	}
	f.n[c.Kind]++
	c.N = f.n[c.Kind]
	if f.fn == nil {
		return Fault{}
	}
	return f.fn(c)
}

// call performs do under the store's mutex, or what the fault says.
func (s *KV) call(ctx context.Context, c Call, do func() error) error {
	f := s.faults.decide(c)
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", kv.ErrUnavailable, err)
	}
	perform := func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return do()
	}
	switch {
	case f.Lost:
		return fmt.Errorf("%w: injected, lost", kv.ErrUnavailable)
	case f.Late > 0:
		time.AfterFunc(f.Late, func() { _ = perform() })
		return fmt.Errorf("%w: injected, late", kv.ErrUnavailable)
	case f.Unknown:
		_ = perform()
		return fmt.Errorf("%w: injected, applied", kv.ErrUnavailable)
	}
	err := perform()
	if f.Answer > 0 {
		timer := time.NewTimer(f.Answer)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", kv.ErrUnavailable, ctx.Err())
		}
	}
	return err
}
