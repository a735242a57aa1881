package server

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// budget counts bytes, first come first served: a big request is not overtaken by small ones.
type budget struct {
	size  int64
	sem   *semaphore.Weighted
	used  atomic.Int64
	waits atomic.Int64
}

func newBudget(size int64) *budget {
	return &budget{size: size, sem: semaphore.NewWeighted(size)}
}

// cap is what a request of n bytes takes: a request that is bigger than the whole budget takes all of it.
func (b *budget) cap(n int) int64 { return min(int64(n), b.size) }

// try takes n bytes if nobody waits and they are free.
func (b *budget) try(n int64) bool {
	if !b.sem.TryAcquire(n) {
		return false
	}
	b.used.Add(n)
	return true
}

// wait takes n bytes when its turn comes, or returns the cause of ctx's end.
func (b *budget) wait(ctx context.Context, n int64) error {
	b.waits.Add(1)
	if err := b.sem.Acquire(ctx, n); err != nil {
		return context.Cause(ctx)
	}
	b.used.Add(n)
	return nil
}

// release gives back n bytes that were taken.
func (b *budget) release(n int64) {
	if n > 0 {
		b.used.Add(-n)
		b.sem.Release(n)
	}
}
