package retry

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// foreign is the result of a conditional put that met an object which is certainly not the caller's. While it is there, no
// attempt that is still under way can take effect.
type foreign struct{ error }

func (f foreign) Unwrap() error { return f.error }

func (s *store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	if err := objectstore.CheckPut(key, body, opts); err != nil {
		return err
	}
	r := &run{op: "put"}
	err := s.do(ctx, r, func(ctx context.Context) error {
		err := s.timed(ctx, body.Size(), func(ctx context.Context) error { return s.inner.Put(ctx, key, body, opts) })
		if err == nil || !opts.IfAbsent || opts.Nonce == "" {
			return err
		}
		if errors.Is(err, objectstore.ErrPreconditionFailed) || errors.Is(err, objectstore.ErrOutcomeUnknown) {
			return s.settle(ctx, key, body.Size(), opts.Nonce, err)
		}
		return err
	})
	if errors.As(err, new(foreign)) {
		return err
	}
	return r.keepUnknown(err)
}

// settle looks whose object is there after a conditional put has returned putErr, which says that there is one or that
// there may be.
func (s *store) settle(ctx context.Context, key string, size int64, nonce string, putErr error) error {
	info, err := s.Head(ctx, key)
	switch {
	case err == nil && info.Nonce == nonce && info.SizeBytes == size:
		s.metrics.recognized(ctx)
		return nil
	case err == nil && errors.Is(putErr, objectstore.ErrPreconditionFailed):
		return foreign{putErr}
	case err == nil:
		return foreign{fmt.Errorf("put %s: found another's object after an unknown outcome: %w", key, objectstore.ErrPreconditionFailed)}
	case !errors.Is(putErr, objectstore.ErrPreconditionFailed):
		// Either it is not there, or there is no telling: the next attempt is conditional too, and does no harm.
		return putErr
	case errors.Is(err, objectstore.ErrNotFound):
		return fmt.Errorf("put %s: the object that was in its way is gone", key)
	}
	return fmt.Errorf("put %s: %w: %w, and whose object that is could not be asked: %w",
		key, objectstore.ErrOutcomeUnknown, objectstore.ErrPreconditionFailed, err)
}
