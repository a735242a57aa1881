// Package faulty is a decorator for tests: a store that fails by a script, always in the same way. A script is a list of
// rules of the form (operation, key pattern, nth call) → fault.
package faulty

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// Op is a kind of call.
type Op string

// The kinds of calls.
const (
	Put    Op = "put"
	Get    Op = "get"
	Head   Op = "head"
	List   Op = "list"
	Delete Op = "delete"
	Any    Op = "" // in a rule: all of them
)

// Fault is what goes wrong.
type Fault int

// The faults. Each is as the contract of objectstore.Store allows it, but for Corrupt.
const (
	// None lets the call through: a rule with None before another exempts its calls.
	None Fault = iota
	// Throttled has no effect and returns ErrThrottled.
	Throttled
	// Failed has no effect and returns Rule.Err, or ErrInjected if that is nil.
	Failed
	// Slow waits for Rule.Delay, or until ctx is done, and then lets the call through.
	Slow
	// Hang waits until ctx is done and returns its error, joined with ErrOutcomeUnknown for puts and deletes; it has no effect.
	Hang
	// Lost loses a put or delete on its way to the store: no effect, ErrOutcomeUnknown. For others as Failed.
	Lost
	// AppliedLost loses the answer: the put or delete takes effect, and returns ErrOutcomeUnknown whatever the store said. For
	// others as Failed.
	AppliedLost
	// Delayed returns ErrOutcomeUnknown, and the put or delete takes effect when the test calls Settle. For others as Failed.
	Delayed
	// Torn ends early: a get transfers half of the bytes before it fails, a list reports half of the first page, a delete of
	// many keys removes half of them, and a put is as Lost.
	Torn
	// Corrupt flips one bit of what a get returns, and no error. No store that works does that; disks and memory do.
	Corrupt
)

// ErrInjected is what Failed calls return without an error of their own.
var ErrInjected = errors.New("injected object store error")

// Rule says which calls fail and how.
type Rule struct {
	// Op is the kind of call, or Any.
	Op Op
	// Key is a pattern as of path.Match, but that '*' at its very end matches '/' too; empty means every key. A list is matched
	// by its prefix, a delete if any of its keys matches.
	Key string
	// Nth is the first call that fails among those that match, 1 for the first; 0 means 1.
	Nth int
	// Count is how many calls fail from Nth on; 0 means one, Forever all.
	Count int
	// Fault is what goes wrong.
	Fault Fault
	// Err is for Failed.
	Err error
	// Delay is for Slow.
	Delay time.Duration
}

// Forever is a Count without end.
const Forever = int(^uint(0) >> 1)

// Call is one call that was made.
type Call struct {
	Op    Op
	Key   string // for a list the prefix, for a delete the first key
	Keys  int    // how many, for a delete
	Fault Fault  // what was done to it
}

type rule struct {
	Rule
	seen int
}

// Store decorates another store. It is safe for concurrent use; which of several concurrent calls is the nth is up to the
// scheduler.
type Store struct {
	inner objectstore.Store

	mu      sync.Mutex
	rules   []*rule
	calls   []Call
	delayed []func(context.Context) error
}

var _ objectstore.Store = (*Store)(nil)

// New returns a store that passes calls to inner except as the rules say. The first rule that fires decides; every rule that
// matches counts the call.
func New(inner objectstore.Store, rules ...Rule) *Store {
	s := &Store{inner: inner}
	s.Script(rules...)
	return s
}

// Script replaces the rules, whose counts start anew.
func (s *Store) Script(rules ...Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
	for _, r := range rules {
		r.Nth, r.Count = max(r.Nth, 1), max(r.Count, 1)
		s.rules = append(s.rules, &rule{Rule: r})
	}
}

// Calls returns the calls so far, in the order in which they began.
func (s *Store) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// Count returns how many calls of the kind there were so far.
func (s *Store) Count(op Op) int {
	n := 0
	for _, c := range s.Calls() {
		if op == Any || c.Op == op {
			n++
		}
	}
	return n
}

// Settle lets the delayed puts and deletes take effect, in their order. Conditions are judged now, so a delayed conditional
// put may well do nothing. It returns how many there were.
func (s *Store) Settle(ctx context.Context) int {
	s.mu.Lock()
	delayed := s.delayed
	s.delayed = nil
	s.mu.Unlock()
	for _, apply := range delayed {
		_ = apply(ctx) // nobody is left to be told
	}
	return len(delayed)
}

// next counts the call and returns the rule that fires, if any.
func (s *Store) next(op Op, keys ...string) Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fired Rule
	found := false
	for _, r := range s.rules {
		if !r.matches(op, keys) {
			continue
		}
		r.seen++
		if !found && r.seen >= r.Nth && r.seen-r.Nth < r.Count {
			fired, found = r.Rule, true
		}
	}
	call := Call{Op: op, Keys: len(keys), Fault: fired.Fault}
	if len(keys) > 0 {
		call.Key = keys[0]
	}
	s.calls = append(s.calls, call)
	return fired
}

func (r *rule) matches(op Op, keys []string) bool {
	if r.Op != Any && r.Op != op {
		return false
	}
	if r.Key == "" {
		return true
	}
	for _, key := range keys {
		if matchKey(r.Key, key) {
			return true
		}
	}
	return false
}

// matchKey matches as path.Match does; a '*' at the end of the pattern matches the rest of the key.
func matchKey(pattern, key string) bool {
	if ok, err := path.Match(pattern, key); ok || err != nil {
		return ok
	}
	last := len(pattern) - 1
	if pattern[last] != '*' {
		return false
	}
	for i := range len(key) + 1 {
		if ok, err := path.Match(pattern[:last], key[:i]); err == nil && ok {
			return true
		}
	}
	return false
}

func (s *Store) delay(apply func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delayed = append(s.delayed, apply)
}

func unknown(op Op, key string) error {
	return fmt.Errorf("%s %s: injected: %w", op, key, objectstore.ErrOutcomeUnknown)
}

// before does what the faults do that need no more than the call's kind and key. Of goOn false, err is the call's result.
func (r Rule) before(ctx context.Context, op Op, key string) (goOn bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("%s %s: %w", op, key, err) // as every store does, before anything can go wrong
	}
	switch r.Fault {
	case Throttled:
		return false, fmt.Errorf("%s %s: injected: %w", op, key, objectstore.ErrThrottled)
	case Failed:
		return false, r.failure(op, key)
	case Hang:
		<-ctx.Done()
		if op == Put || op == Delete {
			return false, fmt.Errorf("%s %s: %w: %w", op, key, objectstore.ErrOutcomeUnknown, ctx.Err())
		}
		return false, fmt.Errorf("%s %s: %w", op, key, ctx.Err())
	case Slow:
		timer := time.NewTimer(r.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false, fmt.Errorf("%s %s: %w", op, key, ctx.Err())
		}
	case Lost, AppliedLost, Delayed:
		if op != Put && op != Delete {
			return false, r.failure(op, key)
		}
		if r.Fault == Lost {
			return false, unknown(op, key)
		}
	}
	return true, nil
}

func (r Rule) failure(op Op, key string) error {
	err := r.Err
	if err == nil {
		err = ErrInjected
	}
	return fmt.Errorf("%s %s: %w", op, key, err)
}

// snapshot copies a body, which a caller may reuse when its put has returned.
func snapshot(body objectstore.Body) (*bytes.Reader, error) {
	data, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	return bytes.NewReader(data), err
}
