package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/chaos/cluster"
)

// spares are the brokers that scale adds.
const spares = 2

// scale adds two brokers, then lets all but two leave, one after the other or together, and puts the first ones back. Whoever leaves loses its
// disk: nothing may be left on it that anybody needs.
func scale(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
	all := slices.Concat(n.c.Brokers, n.c.Spares)
	order, together := rng.Perm(len(all)), rng.IntN(2) == 0
	var errs error
	for _, b := range n.c.Spares {
		errs = errors.Join(errs, n.restart(ctx, b))
	}
	n.hold(ctx, rng, 3*time.Second, 12*time.Second)
	leaving := make([]*cluster.Server, 0, len(all))
	for _, i := range order[:len(all)-2] {
		leaving = append(leaving, all[i])
	}
	errs = errors.Join(errs, n.leave(ctx, leaving, together))
	n.hold(ctx, rng, time.Second, 8*time.Second)
	for _, b := range n.c.Brokers {
		if !b.Running() {
			errs = errors.Join(errs, n.restart(ctx, b))
		}
	}
	errs = errors.Join(errs, n.leave(ctx, n.c.Spares, false))
	how := "one after the other"
	if together {
		how = "together"
	}
	names := make([]string, len(leaving))
	for i, b := range leaving {
		names[i] = b.Node.Name
	}
	return fmt.Sprintf("%d brokers, then two: %v left %s, disks emptied; then %d", len(all), names, how, len(n.c.Brokers)), errs
}

// leave stops brokers in order and empties their disks.
func (n *nemesis) leave(ctx context.Context, brokers []*cluster.Server, together bool) error {
	errs := make([]error, len(brokers))
	var all sync.WaitGroup
	for i, b := range brokers {
		if !b.Running() && b.Ended() == "" {
			continue // it has left before
		}
		out := func() {
			if !b.Running() { // it has stepped down, because of another fault; its next run leaves in order
				errs[i] = n.restart(ctx, b)
			}
			if errs[i] = errors.Join(errs[i], stopInOrder(b)); errs[i] == nil {
				errs[i] = b.Wipe()
			}
		}
		if together {
			all.Go(out)
		} else {
			out()
		}
	}
	all.Wait()
	return errors.Join(errs...)
}
