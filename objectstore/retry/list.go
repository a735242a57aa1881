package retry

import (
	"context"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// List goes on after the last object that fn got, so that fn gets none twice. The attempts count anew whenever it gets on,
// and fn's own time does not count as waiting.
func (s *store) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	r := &run{op: "list"}
	var stopped error // by fn
	err := s.do(ctx, r, func(ctx context.Context) error {
		pageCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		patience := time.AfterFunc(s.opts.AttemptTimeout, cancel)
		defer patience.Stop()
		err := s.inner.List(pageCtx, prefix, after, func(info objectstore.Info) error {
			patience.Stop()
			defer patience.Reset(s.opts.AttemptTimeout)
			after, r.attempt = info.Key, 1
			stopped = fn(info)
			return stopped
		})
		if stopped != nil {
			return nil
		}
		return explain(ctx, pageCtx, err, s.opts.AttemptTimeout)
	})
	if stopped != nil {
		return stopped
	}
	return err
}
