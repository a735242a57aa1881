package tiering

import (
	"errors"
	"testing"

	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

func TestRegroupIsBoundedByProducerState(t *testing.T) {
	inWorld(t, func(w *world) {
		const partitions = 40
		ids := w.topic("t", partitions)
		w.maintain(func(o *MaintainerOptions) { o.MergeCount = 2 })
		w.up()
		for range 3 {
			for _, p := range ids {
				w.append(p, 1, 1000)
			}
			w.upload()
		}
		w.check(w.maintainer.Absorb(w.ctx))
		q, _ := w.meta.Partition(ids[0])
		m, err := w.catalog.manifest(w.ctx, ids[0], q.Manifest)
		w.check(err)
		w.maintainer.o.StateBytes = int64(10 * len(m.Producers))
		w.check(w.maintainer.Merge(w.ctx))
		if n := w.objects(segment.Regrouped); n < partitions/10 || n > partitions/8 {
			t.Errorf("%d objects for %d partitions of which 10 fit together", n, partitions)
		}
		w.maintainer.o.StateBytes = 1 // less than anybody's
		for range 3 {
			for _, p := range ids {
				w.append(p, 1, 1000)
			}
			w.upload()
		}
		w.check(w.maintainer.Pass(w.ctx))
		w.oracle()
		w.settle()
		w.verify(true)
	})
}

func TestTooLargeManifestStopsNobodyElse(t *testing.T) {
	inWorld(t, func(w *world) {
		ids := w.topic("t", 3)
		w.up()
		for _, p := range ids {
			w.append(p, 1, 100)
		}
		w.upload()
		var changes []*change
		for _, o := range w.Owned() {
			c, err := w.maintainer.planAbsorb(w.ctx, o)
			w.check(err)
			changes = append(changes, c)
		}
		changes[1].manifest.Producers = make([]byte, manifest.MaxBlobBytes)
		if err := w.maintainer.publish(w.ctx, changes); !errors.Is(err, manifest.ErrTooLarge) {
			t.Errorf("published with %v", err)
		}
		for i, p := range ids {
			q, _ := w.meta.Partition(p)
			if want := uint64(1 - i%2); q.Manifest.Generation != want {
				t.Errorf("partition %d has generation %d, want %d", i, q.Manifest.Generation, want)
			}
		}
		w.check(w.maintainer.Absorb(w.ctx)) // from what is committed, it fits
		w.oracle()
		w.settle()
		w.verify(true)
	})
}

func TestSealIsBoundedByItsIndex(t *testing.T) {
	inWorld(t, func(w *world) {
		ids := w.topic("t", 40)
		w.up()
		for _, p := range ids {
			w.append(p, 1, 100)
		}
		u := NewUploader(w.uploaderOptions())
		u.indexBytes = 10 * 300
		s, err := u.collect(w.ctx, 0, w.stream.Durable(), 1<<30)
		w.check(err)
		if n := len(s.ranges); n < 5 || n > 15 || s.to >= w.stream.Durable() {
			t.Errorf("a seal of %d partitions, up to %d of %d", n, s.to, w.stream.Durable())
		}
	})
}
