package partition

import (
	"context"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/wal"
)

// gate holds appends back while a partition is being handed over.
type gate struct{ open chan struct{} }

// Pause holds new appends back until Resume or Close. When it returns no append is between its check and the log any more: the end of
// the log stands still. What is under way is still made durable and answered; reads go on. Pausing again does nothing.
func (p *Partition) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate.CompareAndSwap(nil, &gate{open: make(chan struct{})})
}

// Resume lets appends go on. Whoever paused must call it, or Close the partition, soon: connections are waiting.
func (p *Partition) Resume() {
	if g := p.gate.Swap(nil); g != nil {
		close(g.open)
	}
}

// Settled returns the end of the log once everything before it is durable. On a partition that is not paused that is the end as
// it was at the call, or later. Errors: ErrFailed, ctx's.
func (p *Partition) Settled(ctx context.Context) (metadata.Offset, error) {
	p.mu.Lock()
	end := p.log.end
	p.mu.Unlock()
	w := NewWaiter()
	defer w.Disarm()
	w.Watch(p, -1)
	for {
		w.Arm(1)
		if hw := p.hw.Load(); hw >= end {
			return metadata.Offset(hw), nil
		}
		if p.state.Load() == stateFailed {
			return 0, p.set.failure()
		}
		select {
		case <-w.C():
		case <-ctx.Done():
			return 0, fmt.Errorf("%s-%d waits for its log: %w", p.topic, p.id.Partition, context.Cause(ctx))
		}
	}
}

// enter returns with nBytes of the log admitted and p.mu held, as soon as an append may be made. With an error neither is so.
func (p *Partition) enter(ctx context.Context, nBytes int) (wal.Admission, error) {
	for {
		if err := p.usable(); err != nil {
			return wal.Admission{}, err
		}
		if g := p.gate.Load(); g != nil {
			select {
			case <-g.open:
				continue
			case <-ctx.Done():
				return wal.Admission{}, fmt.Errorf("%s-%d is being handed over: %w", p.topic, p.id.Partition, context.Cause(ctx))
			}
		}
		admission, err := p.stream.WAL.Admit(ctx, nBytes)
		if err != nil {
			return wal.Admission{}, fmt.Errorf("admission to the log of %s-%d: %w", p.topic, p.id.Partition, err)
		}
		p.mu.Lock()
		if err = p.usable(); err == nil && p.gate.Load() == nil {
			return admission, nil
		}
		p.mu.Unlock()
		admission.Cancel()
		if err != nil {
			return wal.Admission{}, err
		}
	}
}
