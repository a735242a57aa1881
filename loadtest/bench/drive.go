package bench

import (
	"context"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/pace"
)

// laneRate is how many records/s one goroutine paces; above, there are several.
const laneRate = 150_000

// drive lets the producers send until the stop time, each as fast as it may or all at the set rate, and flushes them. What was due
// before the stop time is sent even if that has passed: a server that stalled at the end must not be spared.
func (r *run) drive(ctx context.Context, producers []producer) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if r.spec.Rate == 0 {
		for _, p := range producers {
			wg.Go(func() { r.finish(ctx, []producer{p}, r.atFullSpeed(ctx, p)) })
		}
		return
	}
	lanes := min(len(producers), max(1, int(math.Ceil(r.spec.Rate/laneRate))))
	start := r.clock.Now()
	for lane := range lanes {
		var own []producer
		for i := lane; i < len(producers); i += lanes {
			own = append(own, producers[i])
		}
		schedule := pace.Schedule{
			Start: start, Phase: float64(lane) / float64(lanes),
			Rate: r.spec.Rate * float64(len(own)) / float64(len(producers)) / float64(own[0].perSend()),
		}
		wg.Go(func() { r.finish(ctx, own, r.paced(ctx, own, schedule)) })
	}
}

func (r *run) finish(ctx context.Context, producers []producer, err error) {
	for _, p := range producers {
		if err == nil {
			err = p.flush(ctx)
		}
	}
	if err != nil {
		r.fail(err)
	}
}

func (r *run) atFullSpeed(ctx context.Context, p producer) error {
	for {
		now := r.clock.Now()
		if now >= r.stopAt.Load() || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := p.send(ctx, now); err != nil {
			return err
		}
	}
}

// paced sends to the producers in turn. The thread is its own, because it sleeps in the system.
func (r *run) paced(ctx context.Context, producers []producer, schedule pace.Schedule) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := int64(0); ; i++ {
		due := schedule.Due(i)
		for now := r.clock.Now(); now < due; now = r.clock.Now() {
			if due >= r.stopAt.Load() || ctx.Err() != nil {
				break
			}
			// In pieces, because the stop time may come while this waits.
			if err := r.clock.Until(ctx, min(due, now+int64(50*time.Millisecond))); err != nil {
				return err
			}
		}
		if due >= r.stopAt.Load() || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := producers[i%int64(len(producers))].send(ctx, due); err != nil {
			return err
		}
	}
}
