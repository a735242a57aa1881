package tiering

import (
	"context"
	"errors"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// putAll puts the objects of a seal side by side. While the store is quick they are copied from the slabs; where a put takes long, or
// the last one did, they are brought into memory of the uploader's own, so that writers are not kept waiting for slabs.
func (u *Uploader) putAll(ctx context.Context, s *seal) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, o := range s.objects {
		if o.gathered != nil {
			o.gathered.cancel = cancel
		}
	}
	slow := u.slow.Load()
	if slow {
		s.bring(&u.staging)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // of corrupt bytes too
	}
	bodies := make([]objectstore.Body, len(s.objects))
	for i, o := range s.objects {
		bodies[i] = o.body()
	}
	if !slow {
		overdue := time.AfterFunc(u.o.HoldSlabs, func() { s.bring(&u.staging) })
		defer overdue.Stop()
	}
	errs := make(chan error, len(s.objects))
	for i, o := range s.objects {
		go func() {
			select {
			case u.puts <- struct{}{}:
				err := u.put(ctx, o, bodies[i])
				<-u.puts
				errs <- err
			case <-ctx.Done():
				errs <- context.Cause(ctx)
			}
		}()
	}
	started := u.now()
	var err error
	for range s.objects {
		err = errors.Join(err, <-errs)
	}
	if len(s.objects) > 0 {
		u.slow.Store(u.now().Sub(started) > u.o.HoldSlabs)
	}
	return err
}

func (u *Uploader) put(ctx context.Context, o *sealed, body objectstore.Body) error {
	started := u.now()
	size := o.layout.SizeBytes()
	failures := 0
	err := settlePut(ctx, u.o.Store, o.key, o.layout.Header.ID.Nonce, body, u.o.PutTimeout(size), func(err error) {
		failures++
		u.metrics.uploadRetries.Add(ctx, 1)
		if failures&(failures-1) == 0 { // 1, 2, 4, 8 …
			u.o.Logger.Warn("object store does not take an object, trying again", "key", o.key, "bytes", size, "failures", failures,
				"waiting", u.now().Sub(started), "error", err)
		}
	})
	if err != nil {
		return err
	}
	if failures > 0 {
		u.o.Logger.Info("object store took the object after failures", "key", o.key, "failures", failures, "waited", u.now().Sub(started))
	}
	u.metrics.uploadSeconds.Record(ctx, u.now().Sub(started).Seconds())
	return nil
}
