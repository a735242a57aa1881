package tiering

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// life is a life of a few partitions in which every kind of step happens: seals with shared and single objects, absorbing, merging,
// retention by log start, a deleted topic, reaping.
func life(ctx context.Context, w *world, a, b []metadata.PartitionID) error {
	write := func(n int) {
		for i := range n {
			for _, p := range a {
				w.append(p, 3, 100+50*i)
			}
		}
	}
	maintain := func() error {
		if err := w.maintainer.Pass(ctx); err != nil {
			return err
		}
		return ctx.Err()
	}
	for round := range 4 {
		write(2)
		if round == 1 {
			w.append(a[0], 4, 400<<10) // in an object of its own
		}
		if round < 2 {
			for _, p := range b {
				w.append(p, 1, 10)
			}
		}
		if err := w.tryUpload(ctx); err != nil {
			return err
		}
		if round%2 == 1 {
			if err := maintain(); err != nil {
				return err
			}
		}
	}
	log := w.log[a[1]]
	if err := w.AdvanceLogStart(ctx, a[1], log[4].base+1); err != nil {
		return err
	}
	if err := w.meta.DeleteTopic(ctx, b[0].Topic); err != nil && ctx.Err() == nil {
		return err
	}
	for range 3 {
		write(1)
		if err := w.tryUpload(ctx); err != nil {
			return err
		}
		if err := maintain(); err != nil {
			return err
		}
		time.Sleep(6 * time.Minute)
		if err := w.maintainer.ReapOrphans(ctx); err != nil {
			return err
		}
	}
	return nil
}

// TestCrashBetweenAnyTwoSteps lets the process die before and after every single mutation of store and etcd, starts a new one, and
// checks that every committed record is there once, and that in the end nothing unnamed is left.
func TestCrashBetweenAnyTwoSteps(t *testing.T) {
	run := func(t *testing.T, left int, after bool) (mutations int) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.close()
			ctx, cancel := context.WithCancel(w.ctx)
			defer cancel()
			c := &crashing{Store: w.meta, left: left, after: after, cancel: cancel}
			w.keeper, w.store = c, crashingStore{w.bucket, c}
			w.change = func(o *MaintainerOptions) { o.MergeCount, o.PackBytes = 3, 300 }
			a, b := w.topic("a", 3), w.topic("b", 2)
			w.up()
			err := life(ctx, w, a, b)
			mutations = c.count
			if left >= 1<<30 {
				w.check(err)
				w.oracle()
			}
			w.keeper, w.store = w.meta, w.bucket
			w.restart()
			w.oracle()
			w.verify(false)
			for _, p := range a {
				w.append(p, 2, 77)
			}
			w.upload()
			w.settle()
			w.oracle()
			w.verify(true)
			if n := w.catalog.pendingCount(); n != 0 {
				t.Fatalf("%d objects are still pending", n)
			}
		})
		return mutations
	}
	total := run(t, 1<<30, false)
	if total < 40 {
		t.Fatalf("only %d mutations: the life is too short", total)
	}
	t.Logf("%d mutations", total)
	step := 1
	if testing.Short() {
		step = 7
	}
	for left := 0; left < total; left += step {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d-%t", left, after), func(t *testing.T) { run(t, left, after) })
		}
	}
}

func TestLifeUsesEveryKindOfObject(t *testing.T) {
	inWorld(t, func(w *world) {
		w.change = func(o *MaintainerOptions) { o.MergeCount, o.Grace = 3, 100*time.Hour }
		a, b := w.topic("a", 3), w.topic("b", 2)
		w.up()
		w.check(life(w.ctx, w, a, b))
		for _, k := range []segment.Kind{segment.Shared, segment.Single, segment.Merged, segment.Regrouped, segment.Manifests} {
			if w.objects(k) == 0 {
				t.Errorf("no %v object", k)
			}
		}
	})
}
