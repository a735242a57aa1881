package retry

import (
	"sync"
	"time"
)

// refundPerSuccess is what a call that succeeds gives back: where more than one call in ten needs a retry, the budget
// shrinks.
const refundPerSuccess = 0.1

// budget is a bucket of retries, shared by all calls.
type budget struct {
	mu        sync.Mutex
	tokens    float64
	max       float64
	perSecond float64
	refilled  time.Time
}

func newBudget(tokens int, perSecond float64) *budget {
	return &budget{tokens: float64(tokens), max: float64(tokens), perSecond: perSecond}
}

// take takes one retry out, if there is one.
func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.refilled.IsZero() {
		b.tokens = min(b.max, b.tokens+b.perSecond*max(0, now.Sub(b.refilled).Seconds()))
	}
	b.refilled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// succeeded gives a little back.
func (b *budget) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.max, b.tokens+refundPerSuccess)
}
