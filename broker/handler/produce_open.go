package handler

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// openers look into compressed batches. There are as many as there are processors, so that what decompression may take is
// bounded however many connections send: a request waits for one, on its connection's goroutine and without any lock. What
// needs large windows or blocks goes one at a time, in a lane of its own, and keeps nothing.
type openers struct {
	small, large chan *batch.Opener
}

func newOpeners() openers {
	n := runtime.GOMAXPROCS(0)
	o := openers{small: make(chan *batch.Opener, n), large: make(chan *batch.Opener, 1)}
	for range n {
		o.small <- batch.NewOpener(batch.SmallOpenerBytes)
	}
	o.large <- batch.NewOpener(batch.LargeOpenerBytes)
	return o
}

// prepare is batch.Prepare with the memory that b needs. It waits until ctx is done at most.
func (o *openers) prepare(ctx context.Context, b []byte, rules *batch.Rules) ([]byte, batch.Header, error) {
	records, h, err := batch.Prepare(b, rules, nil)
	if err == nil || !errors.Is(err, batch.ErrMemory) {
		return records, h, err
	}
	if records, h, err = open(ctx, o.small, b, rules); errors.Is(err, batch.ErrMemory) {
		return openLarge(ctx, o.large, b, rules)
	}
	return records, h, err
}

func open(ctx context.Context, lane chan *batch.Opener, b []byte, rules *batch.Rules) ([]byte, batch.Header, error) {
	opener, err := take(ctx, lane)
	if err != nil {
		return nil, batch.Header{}, err
	}
	defer func() { lane <- opener }()
	return batch.Prepare(b, rules, opener)
}

func openLarge(ctx context.Context, lane chan *batch.Opener, b []byte, rules *batch.Rules) ([]byte, batch.Header, error) {
	opener, err := take(ctx, lane)
	if err != nil {
		return nil, batch.Header{}, err
	}
	defer func() { lane <- batch.NewOpener(batch.LargeOpenerBytes) }()
	return batch.Prepare(b, rules, opener)
}

func take(ctx context.Context, lane chan *batch.Opener) (*batch.Opener, error) {
	select {
	case opener := <-lane:
		return opener, nil
	default: // ctx.Done would start a timer
	}
	select {
	case opener := <-lane:
		return opener, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to open a compressed batch: %w", context.Cause(ctx))
	}
}
