package tiering

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
)

// pace is how soon to look again at the size of what waits when missing bytes of a seal are not there yet: before a fast log can have
// brought them, because what is sealed late is no longer in memory and has to be read back from the disk.
func pace(missing int64) time.Duration {
	const bytesPerSecond = 4 << 30
	return min(max(time.Duration(missing)*time.Second/bytesPerSecond, time.Millisecond), 25*time.Millisecond)
}

// sealAll decides what to seal when. It returns nil when ctx is done.
func (u *Uploader) sealAll(ctx context.Context, queue chan<- *seal) error {
	at := u.o.From
	var since time.Time
	for ctx.Err() == nil {
		durable := u.o.Stream.Durable()
		if durable <= at {
			since = time.Time{}
			if !u.idle(ctx) {
				return nil
			}
			continue
		}
		if since.IsZero() {
			since = u.now()
			u.oldest.CompareAndSwap(0, since.UnixMilli())
		}
		maxBytes, maxAge := u.limits()
		waited := u.now().Sub(since)
		if int64(durable-at) < maxBytes && waited < maxAge && u.drainTarget() <= at {
			u.pause(ctx, min(pace(maxBytes-int64(durable-at)), maxAge-waited))
			continue
		}
		select {
		case u.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		s, err := u.collect(ctx, at, durable, maxBytes)
		if err != nil {
			<-u.slots
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("seal from %d: %w", at, err)
		}
		at = s.to
		since = time.Time{}
		u.launch(ctx, s, queue)
	}
	return nil
}

// limits are when to seal. Many pending objects mean that absorbing is behind: bigger seals make fewer of them.
func (u *Uploader) limits() (maxBytes int64, maxAge time.Duration) {
	age := u.o.SealAge
	if u.o.Awaited != nil && u.o.Awaited() {
		age = min(age, u.o.AwaitedAge)
	}
	if u.o.Catalog.pendingCount() >= u.o.Catalog.o.HardPending {
		return 2 * u.o.SealBytes, 8 * age
	}
	return u.o.SealBytes, age
}

// idle waits until something is durable; false when ctx is done. Idle memory is given back after a while.
func (u *Uploader) idle(ctx context.Context) bool {
	t := time.NewTimer(10 * time.Second)
	defer t.Stop()
	select {
	case <-u.o.Stream.Advanced():
	case <-u.kick:
	case <-t.C:
		u.staging.shrink(1)
		select {
		case <-u.o.Stream.Advanced():
		case <-u.kick:
		case <-ctx.Done():
			return false
		}
	case <-ctx.Done():
		return false
	}
	return true
}

func (u *Uploader) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-u.kick:
	case <-ctx.Done():
	}
}

// launch starts the puts of a seal and hands it to the committing goroutine.
func (u *Uploader) launch(ctx context.Context, s *seal, queue chan<- *seal) {
	u.nextFrom = s.to
	if w, ok := u.o.Stream.(interface{ Want(wal.Position) }); ok {
		w.Want(s.to)
	}
	if len(s.objects) > 0 {
		u.endsMu.Lock()
		for _, r := range s.ranges {
			u.ends[r.Partition] = r.End
		}
		u.endsMu.Unlock()
	}
	go func() {
		s.err = u.putAll(ctx, s)
		s.release()
		<-u.slots
		close(s.done)
	}()
	queue <- s
}
