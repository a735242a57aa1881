package tiering

import (
	"testing"

	"github.com/tidemarkmq/tidemark/objectstore/faulty"
)

// TestMaintenanceReadsManifestsTogether counts what a pass reads when the cache holds only a few of the partitions' manifests.
func TestMaintenanceReadsManifestsTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		const partitions = 400
		p := w.topic("t", partitions)
		write := func() {
			for _, id := range p {
				w.append(id, 2, 100)
			}
			w.upload()
		}
		w.up()
		for range 3 { // several generations: their order in objects is that of partitions
			write()
			w.check(w.maintainer.Pass(w.ctx))
		}
		w.restart()
		f := faulty.New(w.bucket)
		small := NewCatalog(CatalogOptions{Store: f, Partitions: w.meta, Cluster: w.cluster(), CacheBytes: 256 << 10})
		defer small.Close()
		write()
		w.check(small.Load(w.ctx, w.meta))
		before := len(f.Calls())
		m := NewMaintainer(MaintainerOptions{Catalog: small, Meta: w.meta, Owner: w, Broker: 1, Incarnation: w.inc})
		w.check(m.Absorb(w.ctx))
		for _, id := range p {
			if q, _ := w.meta.Partition(id); q.Manifest.End != 8 {
				t.Fatalf("the manifest of %v ends at %d", id, q.Manifest.End)
			}
		}
		gets := 0
		for _, c := range f.Calls()[before:] {
			if c.Op == faulty.Get {
				gets++
			}
		}
		if gets < 2 || gets > partitions/8 {
			t.Errorf("%d reads for the manifests of %d partitions", gets, partitions)
		}
	})
}
