package broker

import (
	"context"
	"runtime/metrics"
	"time"
)

const (
	// idleEvery and idleLooks: the heap is given back after 40 s of quiet. By then the pools have let go of what they do not need.
	idleEvery = 5 * time.Second
	idleLooks = 8
	// A look finds quiet when so little was allocated and appended since the one before. Etcd, metrics and health checks allocate some.
	idleAllocBytes  = 4 << 20
	idleAppendBytes = 1 << 20
)

// freeIdleHeap gives the memory that a burst left behind, cached blocks included, back to the system once it is over. The runtime does so by itself only
// after a collection, and where nothing is allocated none comes for two minutes, nor would it return what is below the heap's
// goal. The collection costs some milliseconds, at a time when nobody waits for them.
func (s *serving) freeIdleHeap(ctx context.Context) error {
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	allocated := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var w idleWatch
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			metrics.Read(allocated)
			if w.look(allocated[0].Value.Uint64(), uint64(s.log.Stats().Appended)) {
				s.reader.DropUnused()
				s.broker.seams.freeHeap()
			}
		}
	}
}

// idleWatch tells once per quiet time that it has lasted.
type idleWatch struct {
	allocated, appended uint64
	quiet               int
}

// look takes the totals so far.
func (w *idleWatch) look(allocated, appended uint64) bool {
	if allocated-w.allocated < idleAllocBytes && appended-w.appended < idleAppendBytes {
		w.quiet++
	} else {
		w.quiet = 0
	}
	w.allocated, w.appended = allocated, appended
	return w.quiet == idleLooks
}
