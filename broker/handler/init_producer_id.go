package handler

import (
	"context"
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// producerIDBlock is how many ids are taken from the metadata at once, as in Kafka. Those that are left at the end of the
// process are never used.
const producerIDBlock = 1000

// initProducerID answers InitProducerId (22) for idempotent producers. With a transactional id it answers UNSUPPORTED_VERSION,
// which is what Kafka says of a feature that a cluster has not switched on: clients take it as final, where a
// coordinator's error would have them try for ever.
func (b *Broker) initProducerID(ctx context.Context, _ *server.Conn, _ wire.Header, req *kmsg.InitProducerIDRequest) (kmsg.Response, error) {
	b.startLog()
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	switch {
	case (req.ProducerID == -1) != (req.ProducerEpoch == -1):
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp, nil
	case req.TransactionalID != nil && *req.TransactionalID == "":
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp, nil
	case req.TransactionalID != nil:
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		return resp, nil
	}
	id, err := b.log.producers.next(ctx, b.Meta.AllocateProducerIDs)
	if err != nil {
		// Kafka's answer while it has no block of ids; clients try again.
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		if !errors.Is(err, metadata.ErrUnavailable) && ctx.Err() == nil {
			b.logger.Error("no producer ids", "error", err)
		}
		return resp, nil
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return resp, nil
}

// producerIDs hands out ids from a block.
type producerIDs struct {
	refill chan struct{} // capacity 1: held by who fetches the next block

	mu         sync.Mutex
	first, end int64
}

func (p *producerIDs) take() (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == p.end {
		return 0, false
	}
	p.first++
	return p.first - 1, true
}

func (p *producerIDs) next(ctx context.Context, allocate func(ctx context.Context, n int64) (int64, error)) (int64, error) {
	for {
		if id, ok := p.take(); ok {
			return id, nil
		}
		select {
		case p.refill <- struct{}{}:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		id, err := p.refillLocked(ctx, allocate)
		<-p.refill
		if err != nil || id >= 0 {
			return id, err
		}
	}
}

// refillLocked fetches a block and takes its first id, or takes one of a block that somebody else fetched meanwhile. The
// caller holds refill.
func (p *producerIDs) refillLocked(ctx context.Context, allocate func(ctx context.Context, n int64) (int64, error)) (int64, error) {
	if id, ok := p.take(); ok {
		return id, nil
	}
	first, err := allocate(ctx, producerIDBlock)
	if err != nil {
		return -1, err
	}
	p.mu.Lock()
	p.first, p.end = first+1, first+producerIDBlock
	p.mu.Unlock()
	return first, nil
}
