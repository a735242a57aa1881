package txn

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tidemarkmq/tidemark/metadata"
)

// attemptTime bounds one attempt to write markers on one broker; a partition may have moved by then.
const attemptTime = 10 * time.Second

// parallelAttempts is how many brokers are written to at once, for all transactions together.
const parallelAttempts = 64

// Owners tells where a partition is served. exists is false for one whose topic is deleted; owner is metadata.NoBroker where nobody serves it now.
type Owners func(p metadata.PartitionID) (owner metadata.BrokerID, exists bool)

// Writer writes markers on one broker: this one, or another by WriteTxnMarkers. What it does not return as left has its marker.
type Writer func(ctx context.Context, on metadata.BrokerID, m Marker, partitions []metadata.PartitionID) (left []metadata.PartitionID)

// Router is Markers over brokers: each partition's owner is asked for anew at each attempt, so markers follow partitions that move.
type Router struct {
	owners Owners
	write  Writer
	slots  *semaphore.Weighted
}

// NewRouter returns Markers; owners and write must be safe for concurrent use.
func NewRouter(owners Owners, write Writer) *Router {
	return &Router{owners: owners, write: write, slots: semaphore.NewWeighted(parallelAttempts)}
}

// Write implements Markers. Brokers are written to beside each other; one that does not answer holds up only its own partitions.
func (r *Router) Write(ctx context.Context, m Marker, partitions []metadata.PartitionID) []metadata.PartitionID {
	var left []metadata.PartitionID
	by := map[metadata.BrokerID][]metadata.PartitionID{}
	for _, p := range partitions {
		owner, exists := r.owners(p)
		switch {
		case !exists:
		case owner == metadata.NoBroker:
			left = append(left, p)
		default:
			by[owner] = append(by[owner], p)
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for owner, mine := range by {
		if r.slots.Acquire(ctx, 1) != nil {
			mu.Lock()
			left = append(left, mine...)
			mu.Unlock()
			continue
		}
		all.Go(func() {
			defer r.slots.Release(1)
			attempt, cancel := context.WithTimeout(ctx, attemptTime)
			defer cancel()
			missed := r.write(attempt, owner, m, mine)
			mu.Lock()
			left = append(left, missed...)
			mu.Unlock()
		})
	}
	all.Wait()
	slices.SortFunc(left, metadata.ComparePartitions)
	return left
}
