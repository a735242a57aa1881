package peer

import (
	"context"
	"fmt"

	"github.com/tidemarkmq/tidemark/wal"
)

// do sends a request over the connection that there is.
func (c *Client) do(ctx context.Context, ask kind, fill func([]byte) []byte, bulk []byte, want kind, dst []byte) (*call, error) {
	k, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	return k.do(ctx, ask, fill, bulk, want, dst)
}

// Open is wal.Replicas.Open on the other broker. The stream needs Close unless it has ended.
func (c *Client) Open(ctx context.Context, stream uint64, h wal.StreamHeader, oldest wal.SegmentRef, create bool) (*Stream, wal.Tail, error) {
	k, err := c.connection(ctx)
	if err != nil {
		return nil, wal.Tail{}, err
	}
	m := openMessage{Stream: stream, Header: h, Oldest: oldest, Create: create}
	a, err := k.do(ctx, kindOpen, m.put, nil, kindTail, nil)
	if err != nil {
		return nil, wal.Tail{}, err
	}
	tail, err := getTail(a.head)
	return a.open, tail, err
}

// Fence is wal.Replicas.Fence on the other broker, or, for a stream of its own, Own.Fence.
func (c *Client) Fence(ctx context.Context, stream, epoch uint64) (wal.Tail, error) {
	a, err := c.do(ctx, kindFence, func(b []byte) []byte { return putTwo(b, stream, epoch) }, nil, kindTail, nil)
	if err != nil {
		return wal.Tail{}, err
	}
	return getTail(a.head)
}

// Read is wal.Replicas.Read on the other broker, or, for a stream of its own, Own.ReadGroups; at most 8 MiB at once. The groups are not checked: see
// wal.Chain. They are in dst if that is large enough, which is the caller's again on return.
func (c *Client) Read(ctx context.Context, stream uint64, from wal.Position, maxBytes int, dst []byte) (wal.Chunk, error) {
	maxBytes = max(0, min(maxBytes, maxReadBytes))
	a, err := c.do(ctx, kindRead, func(b []byte) []byte { return putRead(b, stream, from, maxBytes) }, nil, kindChunk, dst)
	if err != nil {
		return wal.Chunk{}, err
	}
	k := wal.Chunk{Bytes: a.bulk}
	k.Segment, k.Position = getPlace(a.head)
	return k, nil
}

// Trim is wal.Replicas.Trim on the other broker.
func (c *Client) Trim(ctx context.Context, stream uint64, to wal.Position) error {
	_, err := c.do(ctx, kindTrim, func(b []byte) []byte { return putTwo(b, stream, uint64(to)) }, nil, kindDone, nil)
	return err
}

// Remove is wal.Replicas.Remove on the other broker.
func (c *Client) Remove(ctx context.Context, stream, epoch uint64) error {
	_, err := c.do(ctx, kindRemove, func(b []byte) []byte { return putTwo(b, stream, epoch) }, nil, kindDone, nil)
	return err
}

// Streams is wal.Replicas.Streams on the other broker: its own streams are not among them.
func (c *Client) Streams(ctx context.Context) ([]uint64, error) {
	a, err := c.do(ctx, kindStreams, nil, nil, kindList, nil)
	if err != nil {
		return nil, err
	}
	ids := make([]uint64, 0, len(a.bulk)/8)
	for b := a.bulk; len(b) > 0; b = b[8:] {
		ids = append(ids, le.Uint64(b))
	}
	return ids, nil
}

// Call asks the other broker's Handler of that kind. Payload and answer are at most MaxPayloadBytes; the answer is the caller's. When ctx is done
// the handler's context is cancelled.
func (c *Client) Call(ctx context.Context, of uint16, payload []byte) ([]byte, error) {
	if len(payload) > MaxPayloadBytes {
		return nil, fmt.Errorf("peer: a payload of %d bytes", len(payload))
	}
	a, err := c.do(ctx, kindCall, func(b []byte) []byte { return le.AppendUint16(b, of) }, payload, kindAnswer, nil)
	if err != nil {
		return nil, err
	}
	return a.bulk, nil
}
