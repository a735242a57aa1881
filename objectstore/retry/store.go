// Package retry is a decorator that tries failed calls again: with exponential backoff and full jitter, a timeout for each
// attempt, and a budget of retries that all calls share, so that an outage of the store does not become a storm. It also
// settles puts of unknown outcome by their nonce.
package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// Options say how often and how long to try. The zero value is ready to use.
type Options struct {
	// MaxAttempts is how often a call is tried in all: default 8, which takes some 3 seconds of backoff. A caller that must
	// succeed goes on by itself, at its own pace.
	MaxAttempts int
	// MinBackoff and MaxBackoff bound the pause: before the nth retry it is uniform in [0, min(MaxBackoff, MinBackoff·2ⁿ⁻¹)).
	// Where the store throttled it is four times as long. Defaults 50 ms and 5 s.
	MinBackoff, MaxBackoff time.Duration
	// AttemptTimeout bounds one attempt, or for a list the wait for a page: default 30 s. Puts and gets get more by their size
	// at SlowestBytesPerSecond, default 256 KiB/s.
	AttemptTimeout        time.Duration
	SlowestBytesPerSecond int64
	// Budget is how many retries may be made at once when it is full: default 100. Each retry takes one from it, each call that
	// succeeds gives back a tenth, and each second gives back BudgetPerSecond, default 2. When it is empty, calls fail after
	// their first attempt.
	Budget          int
	BudgetPerSecond float64
	// Jitter returns a number in [0, 1); nil means random ones. It must be safe for concurrent use.
	Jitter func() float64
	// Meter gets the counters tidemark.objectstore.retries, …retries.denied and …puts.recognized; nil discards them.
	Meter metric.Meter
}

func (o *Options) setDefaults() {
	setDefault(&o.MaxAttempts, 8)
	setDefault(&o.MinBackoff, 50*time.Millisecond)
	setDefault(&o.MaxBackoff, 5*time.Second)
	setDefault(&o.AttemptTimeout, 30*time.Second)
	setDefault(&o.SlowestBytesPerSecond, 256<<10)
	setDefault(&o.Budget, 100)
	setDefault(&o.BudgetPerSecond, 2)
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
}

func setDefault[T int | int64 | float64 | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

type store struct {
	inner   objectstore.Store
	opts    Options
	budget  *budget
	metrics *metrics
}

// New decorates inner.
//
// A call is tried again unless its error is ErrNotFound, ErrPreconditionFailed or ErrRejected, or the caller's ctx is done.
// When a put or delete fails in the end and any of its attempts had an unknown outcome, the error is ErrOutcomeUnknown,
// whatever the last attempt said.
//
// A conditional put with a nonce is settled by Head: after an unknown outcome, and after ErrPreconditionFailed, an object of
// the same nonce and size is the caller's own, and the put has succeeded. So a second put of the same nonce succeeds too.
// Without a nonce, a condition that fails after an unknown outcome proves nothing: the error is both.
func New(inner objectstore.Store, opts Options) (objectstore.Store, error) {
	opts.setDefaults()
	m, err := newMetrics(opts.Meter)
	if err != nil {
		return nil, fmt.Errorf("object store retries: %w", err)
	}
	return &store{inner: inner, opts: opts, budget: newBudget(opts.Budget, opts.BudgetPerSecond), metrics: m}, nil
}

// run is the state of one call over its attempts.
type run struct {
	op      string
	attempt int  // 1 for the first; a list sets it back when it gets on
	unknown bool // an attempt had an unknown outcome
}

// do makes attempts until one succeeds, one fails for good, the attempts are used up, the budget is empty or ctx is done.
func (s *store) do(ctx context.Context, r *run, try func(ctx context.Context) error) error {
	for {
		r.attempt++
		err := try(ctx)
		if err == nil {
			s.budget.succeeded()
			return nil
		}
		r.unknown = r.unknown || errors.Is(err, objectstore.ErrOutcomeUnknown)
		if final(err) {
			return err
		}
		if ctxErr := ctx.Err(); ctxErr != nil {
			if !errors.Is(err, ctxErr) {
				err = fmt.Errorf("%w: %w", ctxErr, err)
			}
			return err
		}
		if r.attempt >= s.opts.MaxAttempts {
			return fmt.Errorf("after %d attempts: %w", r.attempt, err)
		}
		if !s.budget.take(time.Now()) {
			s.metrics.denied(ctx, r.op)
			return fmt.Errorf("after %d attempts, with no retries left in the budget: %w", r.attempt, err)
		}
		s.metrics.retried(ctx, r.op, err)
		if !pause(ctx, s.backoff(r.attempt, errors.Is(err, objectstore.ErrThrottled))) {
			return fmt.Errorf("%w while waiting to try again after: %w", ctx.Err(), err)
		}
	}
}

// timed runs one attempt that transfers so many bytes under the timeout. When it is the timeout that ends it, the error is
// not the caller's ctx's.
func (s *store) timed(ctx context.Context, sizeBytes int64, try func(ctx context.Context) error) error {
	timeout := s.opts.AttemptTimeout + time.Duration(float64(sizeBytes)/float64(s.opts.SlowestBytesPerSecond)*float64(time.Second))
	attemptCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return explain(ctx, attemptCtx, try(attemptCtx), timeout)
}

// explain replaces the error of an attempt that ran out of time, because for the caller's ctx time is not up.
func explain(ctx, attemptCtx context.Context, err error, timeout time.Duration) error {
	if err == nil || attemptCtx.Err() == nil || ctx.Err() != nil {
		return err
	}
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, objectstore.ErrOutcomeUnknown) {
		return fmt.Errorf("no answer within %v: %w", timeout, objectstore.ErrOutcomeUnknown)
	}
	return fmt.Errorf("no answer within %v", timeout)
}

func final(err error) bool {
	return errors.Is(err, objectstore.ErrNotFound) || errors.Is(err, objectstore.ErrPreconditionFailed) || errors.Is(err, objectstore.ErrRejected)
}

// throttledFactor stretches the backoff where the store asks for fewer requests.
const throttledFactor = 4

func (s *store) backoff(attempt int, throttled bool) time.Duration {
	limit := s.opts.MinBackoff
	if throttled {
		limit *= throttledFactor
	}
	for i := 1; i < attempt && limit < s.opts.MaxBackoff; i++ {
		limit *= 2
	}
	return time.Duration(s.opts.Jitter() * float64(min(limit, s.opts.MaxBackoff)))
}

// pause waits and says whether ctx let it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *store) GetRange(ctx context.Context, key string, p []byte, offset int64) (n int, err error) {
	var eof error
	err = s.do(ctx, &run{op: "get"}, func(ctx context.Context) error {
		return s.timed(ctx, int64(len(p)), func(ctx context.Context) (err error) {
			n, err = s.inner.GetRange(ctx, key, p, offset)
			if eof = nil; err == io.EOF { //nolint:errorlint // the contract says: itself; a wrapped one is a failure
				eof, err = err, nil // a success
			}
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	return n, eof
}

func (s *store) Head(ctx context.Context, key string) (info objectstore.Info, err error) {
	err = s.do(ctx, &run{op: "head"}, func(ctx context.Context) error {
		return s.timed(ctx, 0, func(ctx context.Context) (err error) {
			info, err = s.inner.Head(ctx, key)
			return err
		})
	})
	return info, err
}

// VerifySums passes on objectstore.Verifier.
func (s *store) VerifySums(ctx context.Context, key string) error {
	return s.do(ctx, &run{op: "verify"}, func(ctx context.Context) error {
		return s.timed(ctx, 0, func(ctx context.Context) error { return objectstore.VerifySums(ctx, s.inner, key) })
	})
}

// deleteBytes is what a key to be deleted counts in an attempt's timeout.
const deleteBytes = 4 << 10

// Delete repeats the whole delete, which does no harm.
func (s *store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objectstore.CheckKey(key); err != nil {
			return err
		}
	}
	r := &run{op: "delete"}
	err := s.do(ctx, r, func(ctx context.Context) error {
		return s.timed(ctx, int64(len(keys))*deleteBytes, func(ctx context.Context) error { return s.inner.Delete(ctx, keys...) })
	})
	return r.keepUnknown(err)
}

// keepUnknown marks the error of a call of which an earlier attempt had an unknown outcome.
func (r *run) keepUnknown(err error) error {
	if err == nil || !r.unknown || errors.Is(err, objectstore.ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w by an earlier attempt: %w", objectstore.ErrOutcomeUnknown, err)
}
