package broker

import (
	"sync"
	"testing"
	"time"
)

// script is a short life with everything in it: two topics, producers with and without idempotence, consumers that commit, time for
// seals and manifests. It returns when everything that can be acked is.
func (w *world) script() *history {
	h := newHistory(w)
	w.createTopic("a", 2)
	w.createTopic("b", 1)
	quit := make(chan struct{})
	var consumers, producers sync.WaitGroup
	for _, c := range []*simConsumer{{h: h, p: tp{"a", 0}, group: "g", quit: quit}, {h: h, p: tp{"b", 0}, group: "g", quit: quit}} {
		consumers.Go(c.run)
	}
	for _, p := range []*producer{
		{h: h, name: "p1", parts: []tp{{"a", 0}, {"a", 1}}, idempotent: true, batches: 8, records: 2, valueBytes: 300, pause: 100 * time.Millisecond},
		{h: h, name: "p2", parts: []tp{{"a", 1}, {"b", 0}}, idempotent: true, batches: 3, records: 3, valueBytes: 9000, pause: time.Second},
		{h: h, name: "p3", parts: []tp{{"a", 0}, {"b", 0}}, batches: 5, records: 1, valueBytes: 50, pause: 700 * time.Millisecond},
	} {
		producers.Go(p.run)
	}
	late := time.AfterFunc(10*time.Minute, func() {
		w.errorf("the producers do not get through")
		w.lose()
	})
	producers.Wait()
	late.Stop()
	close(quit)
	consumers.Wait()
	return h
}

func (w *world) oneCrash(point crashPoint) (crashed bool) {
	stop := w.keepRunning(func(n int) crashPoint {
		if n == 0 {
			return point
		}
		return crashPoint{}
	}, nil)
	h := w.script()
	h.checkAll(stop())
	return w.crashes.Load() > 0
}

// TestSimNoCrash is the script in fair weather.
func TestSimNoCrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		if w.oneCrash(crashPoint{}) {
			t.Error("crashed")
		}
		r := w.current()
		t.Logf("%v of its own time; %d disk, %d store, %d etcd operations", time.Since(began), r.disk.Ops(), r.storeOps.Load(), r.kvOps.Load())
	})
}

// TestSimEveryCrashPoint crashes the broker once in the script, at every operation that changes something.
func TestSimEveryCrashPoint(t *testing.T) {
	kinds := []struct {
		name   string
		points func(n int) []crashPoint
	}{
		{"disk", func(n int) []crashPoint {
			return []crashPoint{{disk: n}, {disk: n, loss: 50, seed: uint64(n)}, {disk: n, loss: 100}}
		}},
		{"store", func(n int) []crashPoint {
			return []crashPoint{{store: n, loss: 100}, {store: n, applied: true, loss: 100}}
		}},
		{"kv", func(n int) []crashPoint { return []crashPoint{{kv: n, loss: 100}, {kv: n, applied: true, loss: 100}} }},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			runs := 0
			for n, more := 1, true; more && !t.Failed(); n++ {
				for _, point := range kind.points(n) {
					bubble(t, func(t *testing.T) {
						w := newWorld(t)
						crashed := w.oneCrash(point)
						more = more && crashed
						if w.failed.Load() {
							t.Errorf("crash point: %+v", point)
						}
					})
					runs++
				}
			}
			t.Logf("%d runs", runs)
		})
	}
}
