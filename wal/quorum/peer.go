package quorum

import (
	"context"

	"github.com/tidemarkmq/tidemark/wal"
)

// Peer is access to the replicas on one member's disk. Errors are those of wal.Replicas; any other says that the member was not reached, and the request
// may or may not have been carried out.
type Peer interface {
	// Open is the writer's: see wal.Replicas.Open.
	Open(ctx context.Context, stream uint64, h wal.StreamHeader, oldest wal.SegmentRef, create bool) (Appender, wal.Tail, error)
	// Fence is a recoverer's: see wal.Replicas.Fence.
	Fence(ctx context.Context, stream, epoch uint64) (wal.Tail, error)
	// Read is wal.Replicas.Read.
	Read(ctx context.Context, stream uint64, from wal.Position, maxBytes int, dst []byte) (wal.Chunk, error)
	// Trim is wal.Replicas.Trim.
	Trim(ctx context.Context, stream uint64, to wal.Position) error
	// Remove is wal.Replicas.Remove.
	Remove(ctx context.Context, stream, epoch uint64) error
}

// Appender is a writer's access to its stream's replica; *wal.Appender is one.
type Appender interface {
	// Append makes the groups durable and returns the position before which everything is. The chunk stays the caller's.
	Append(ctx context.Context, k wal.Chunk) (wal.Position, error)
}

// Dial returns access to a member. It may be called again and again, for members that are not there as well; it does not wait for them.
type Dial func(Member) Peer
