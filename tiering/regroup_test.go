package tiering

import (
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// TestManySlowPartitionsAreMergedTogether counts the requests that merging costs where thousands of partitions get a few records per
// seal: they must not grow with partitions times seals.
func TestManySlowPartitionsAreMergedTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		const partitions, seals = 400, 10
		ids := w.topic("t", partitions)
		w.up()
		for range seals {
			for _, p := range ids {
				w.append(p, 1, 1000)
			}
			w.upload()
		}
		f := faulty.New(w.bucket)
		w.maintainer.store, w.catalog.o.Store = f, f
		w.check(w.maintainer.Pass(w.ctx))
		reads, puts := 0, 0
		for _, c := range f.Calls() {
			switch c.Op {
			case faulty.Get:
				reads++
			case faulty.Put:
				puts++
			}
		}
		if n := w.objects(segment.Regrouped); n != 1 {
			t.Errorf("%d regrouped objects", n)
		}
		if reads > 2*seals || puts > 5 {
			t.Errorf("%d reads and %d puts for %d partitions in %d objects", reads, puts, partitions, seals)
		}
		for _, p := range ids {
			q, _ := w.meta.Partition(p)
			m, err := w.catalog.manifest(w.ctx, p, q.Manifest)
			w.check(err)
			if len(m.Segments) != 1 || len(m.Segments[0].Blocks) != 1 {
				t.Fatalf("%v has %d segments, the first with %d blocks", p, len(m.Segments), len(m.Segments[0].Blocks))
			}
		}
		w.oracle()
		w.settle()
		w.verify(true)
		if n := w.objects(segment.Shared); n != 0 {
			t.Errorf("%d shared objects are left", n)
		}
	})
}

// TestRegroupedObjectLivesAsLongAsAnyPartitionNeedsIt drops it from one partition after the other, across restarts.
func TestRegroupedObjectLivesAsLongAsAnyPartitionNeedsIt(t *testing.T) {
	inWorld(t, func(w *world) {
		ids := w.topic("t", 3)
		w.maintain(func(o *MaintainerOptions) { o.MergeCount = 2 })
		w.up()
		for range 3 {
			for _, p := range ids {
				w.append(p, 2, 1000)
			}
			w.upload()
		}
		w.settle()
		for i, p := range ids {
			if n := w.objects(segment.Regrouped); n != 1 {
				t.Fatalf("%d regrouped objects when %d of 3 partitions dropped it", n, i)
			}
			if i == 1 {
				w.restart()
			}
			w.check(w.AdvanceLogStart(w.ctx, p, metadata.Offset(6)))
			w.settle()
			w.oracle()
			w.verify(true)
		}
		if n := w.objects(segment.Regrouped); n != 0 {
			t.Errorf("%d regrouped objects that nobody needs", n)
		}
	})
}
