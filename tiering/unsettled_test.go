package tiering

import (
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

// TestUnsettledSwapKeepsItsManifest loses the answer of a swap that etcd performed, and then etcd itself for longer than the
// grace: the image still shows the old pointers, which are no ground for deleting what the new ones name.
func TestUnsettledSwapKeepsItsManifest(t *testing.T) {
	for name, step := range map[string]func(w *world){
		"reap":    func(w *world) { _ = w.maintainer.Pass(w.ctx) },
		"orphans": func(w *world) { _ = w.maintainer.Reap(w.ctx); _ = w.maintainer.ReapOrphans(w.ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				p := w.topic("t", 2)
				w.up()
				w.fill(p[0], 2, 1, 1000)
				w.fill(p[1], 2, 1, 1000)
				w.kv.StallWatches(true)
				w.kv.SetFaults(func(c memkv.Call) memkv.Fault { return memkv.Fault{Unknown: c.Kind == memkv.OpTxn} })
				_ = w.maintainer.Pass(w.ctx)
				w.kv.SetFaults(func(c memkv.Call) memkv.Fault { return memkv.Fault{Lost: c.Kind == memkv.OpTxn} })
				for range 5 {
					time.Sleep(w.maintainer.o.Grace)
					step(w)
				}
				w.kv.SetFaults(nil)
				w.kv.StallWatches(false)
				time.Sleep(time.Minute)
				if q, _ := w.meta.Partition(p[0]); q.Manifest.Generation == 0 {
					t.Fatal("the swap was not performed: the test shows nothing")
				}
				w.catalog.Close()
				w.assemble()
				w.oracle()
				w.settle()
				w.oracle()
				w.verify(true)
			})
		})
	}
}
