package tiering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// backoff yields growing waits with full jitter.
type backoff struct {
	base, max time.Duration
	attempt   int
}

func (b *backoff) next() time.Duration {
	d := b.max
	if b.attempt < 20 {
		d = min(b.max, b.base<<b.attempt)
	}
	b.attempt++
	return d/2 + rand.N(d/2+1)
}

// wait sleeps for the next wait or until ctx is done, and then returns ctx's cause.
func (b *backoff) wait(ctx context.Context) error {
	t := time.NewTimer(b.next())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

var errAttemptTimeout = errors.New("attempt timed out")

// attempt runs f with a time limit of its own, so that no single call can hang for ever.
func attempt(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	actx, cancel := context.WithTimeoutCause(ctx, limit, errAttemptTimeout)
	defer cancel()
	err := f(actx)
	if err != nil && ctx.Err() == nil && actx.Err() != nil {
		return fmt.Errorf("%w after %v: %w", errAttemptTimeout, limit, err)
	}
	return err
}

// transferLimit is the time limit of one attempt to move n bytes: ten seconds and a second per MiB.
func transferLimit(nBytes int64) time.Duration {
	return 10*time.Second + time.Duration(nBytes>>20)*time.Second
}

// getRange reads exactly len(p) bytes, again and again until ctx is done or the store says that it is useless to go on.
func getRange(ctx context.Context, store objectstore.Store, key string, p []byte, offset int64) error {
	return getAtLeast(ctx, store, key, p, len(p), offset)
}

// getAtLeast is getRange for a p that may reach past the object's end, which is at offset + atLeast or behind.
func getAtLeast(ctx context.Context, store objectstore.Store, key string, p []byte, atLeast int, offset int64) error {
	b := backoff{base: 20 * time.Millisecond, max: 2 * time.Second}
	for {
		var n int
		err := attempt(ctx, transferLimit(int64(len(p))), func(ctx context.Context) (err error) {
			n, err = store.GetRange(ctx, key, p, offset)
			return err
		})
		switch {
		case n >= atLeast && (err == nil || isEOF(err)):
			return nil
		case err == nil || isEOF(err):
			return fmt.Errorf("%w: %s ends at %d, want %d", ErrCorrupt, key, offset+int64(n), offset+int64(atLeast))
		case errors.Is(err, objectstore.ErrNotFound) || errors.Is(err, objectstore.ErrRejected):
			return fmt.Errorf("get %s [%d, +%d): %w", key, offset, len(p), err)
		}
		if werr := b.wait(ctx); werr != nil {
			return fmt.Errorf("get %s [%d, +%d): %w: %w", key, offset, len(p), werr, err)
		}
	}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// settlePut puts an object under a key that nobody else uses (its id has a nonce), and finds out what became of puts whose
// outcome is unknown. It goes on until the object is there or ctx is done; retried is called before each further attempt.
func settlePut(ctx context.Context, store objectstore.Store, key string, nonce uint64, body objectstore.Body, limit time.Duration, retried func(error)) error {
	b := backoff{base: 50 * time.Millisecond, max: 10 * time.Second}
	opts := objectstore.PutOptions{IfAbsent: true, Nonce: fmt.Sprintf("%016x", nonce)}
	for {
		err := attempt(ctx, limit, func(ctx context.Context) error { return store.Put(ctx, key, body, opts) })
		if err == nil {
			return nil
		}
		// After a put of unknown outcome the next one may meet one's own object; the nonce tells.
		if errors.Is(err, objectstore.ErrPreconditionFailed) || errors.Is(err, objectstore.ErrOutcomeUnknown) {
			var info objectstore.Info
			herr := attempt(ctx, 10*time.Second, func(ctx context.Context) (err error) {
				info, err = store.Head(ctx, key)
				return err
			})
			if herr == nil && info.Nonce == opts.Nonce && info.SizeBytes == body.Size() {
				return nil
			}
			if herr == nil {
				return fmt.Errorf("put %s: the key is taken by another object of %d bytes: %w", key, info.SizeBytes, err)
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("put %s: %w: %w", key, context.Cause(ctx), err)
		}
		retried(err)
		if werr := b.wait(ctx); werr != nil {
			return fmt.Errorf("put %s: %w: %w", key, werr, err)
		}
	}
}
