package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/quorum"
)

// replicate makes the run's replicas known to the others, and theirs to it.
func (r *run) replicate(replicas *wal.Replicas) (replicaNetwork, error) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.replicas = replicas
	return simNetwork{r}, nil
}

type simNetwork struct{ r *run }

func (n simNetwork) Address() string                  { return fmt.Sprintf("replicas-%d:1", n.r.broker.nodeID) }
func (n simNetwork) Dial(m quorum.Member) quorum.Peer { return simPeer{from: n.r, to: m} }
func (n simNetwork) Register(uint64, *wal.Log)        {}
func (n simNetwork) Run(ctx context.Context) error    { <-ctx.Done(); return nil }

var errNotReached = errors.New("the replica is not reached")

// simPeer is the way from a run to the newest one that has a member's disk.
type simPeer struct {
	from *run
	to   quorum.Member
	app  *wal.Appender
	at   *run // of app
}

// reach returns the run there, after the time that the way takes.
func (p simPeer) reach() (*run, *wal.Replicas, error) {
	time.Sleep(100 * time.Microsecond)
	w := p.from.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.ports {
		if int32(r.broker.nodeID) == p.to.Broker && r.token == p.to.Disk && r.replicas != nil && !r.dead.Load() && !p.from.dead.Load() && !r.cut.Load() && !p.from.cut.Load() {
			select {
			case <-r.done:
			default:
				return r, r.replicas, nil
			}
		}
	}
	return nil, nil, errNotReached
}

func (p simPeer) Open(ctx context.Context, stream uint64, h wal.StreamHeader, oldest wal.SegmentRef, create bool) (quorum.Appender, wal.Tail, error) {
	at, rs, err := p.reach()
	if err != nil {
		return nil, wal.Tail{}, err
	}
	var tail wal.Tail
	p.at = at
	p.app, tail, err = rs.Open(ctx, stream, h, oldest, create)
	return p, tail, err
}

func (p simPeer) Append(ctx context.Context, k wal.Chunk) (wal.Position, error) {
	if at, _, err := p.reach(); err != nil || at != p.at {
		return 0, errNotReached
	}
	return p.app.Append(ctx, k)
}

func (p simPeer) Fence(ctx context.Context, stream, epoch uint64) (wal.Tail, error) {
	_, rs, err := p.reach()
	if err != nil {
		return wal.Tail{}, err
	}
	return rs.Fence(ctx, stream, epoch)
}

func (p simPeer) Read(ctx context.Context, stream uint64, from wal.Position, maxBytes int, dst []byte) (wal.Chunk, error) {
	_, rs, err := p.reach()
	if err != nil {
		return wal.Chunk{}, err
	}
	return rs.Read(ctx, stream, from, maxBytes, dst)
}

func (p simPeer) Trim(ctx context.Context, stream uint64, to wal.Position) error {
	_, rs, err := p.reach()
	if err != nil {
		return err
	}
	return rs.Trim(ctx, stream, to)
}

func (p simPeer) Remove(ctx context.Context, stream, epoch uint64) error {
	_, rs, err := p.reach()
	if err != nil {
		return err
	}
	return rs.Remove(ctx, stream, epoch)
}
