package tiering

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// ownerOf is an owner of some of the world's partitions.
type ownerOf struct {
	*world
	keep func(metadata.PartitionID) bool
}

func (o ownerOf) Owned() []Owned {
	var out []Owned
	for _, q := range o.world.Owned() {
		if o.keep(q.Partition) {
			out = append(out, q)
		}
	}
	return out
}

func (w *world) logStart(p metadata.PartitionID) metadata.Offset {
	w.Helper()
	q, ok := w.meta.Partition(p)
	if !ok {
		w.Fatalf("no partition %v", p)
	}
	return q.LogStart
}

func TestRetentionByTime(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 2)
		w.retentionMs = time.Hour.Milliseconds()
		w.up()
		for range 50 {
			w.append(p[0], 1, 100)
			w.append(p[1], 1, 100)
			w.upload()
			time.Sleep(time.Second)
		}
		w.check(w.maintainer.Pass(w.ctx))
		w.append(p[0], 1, 100)
		w.upload()
		time.Sleep(time.Hour - 51*time.Second)
		w.check(w.maintainer.Pass(w.ctx))
		if got := w.logStart(p[0]); got != 0 {
			t.Fatalf("log start %d before the time", got)
		}
		time.Sleep(51 * time.Second)
		// All that is too old goes in one pass: retention never falls behind producing.
		w.check(w.maintainer.Pass(w.ctx))
		if a, b := w.logStart(p[0]), w.logStart(p[1]); a != 50 || b != 50 {
			t.Fatalf("log starts %d and %d, want 50", a, b)
		}
		w.oracle()
		w.verify(false)
		w.settle()
		if n := w.objects(segment.Shared, segment.Merged); n != 0 {
			t.Errorf("%d objects of deleted data are left", n)
		}
		w.verify(true)
		w.oracle()
	})
}

func TestRetentionBySizeCountsEachByteOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 10, 1, 25_000) // ten segments of 100 KB
		size, err := w.catalog.SizeBytes(w.ctx, p)
		w.check(err)
		w.retentionBytes = size
		w.check(w.maintainer.Pass(w.ctx))
		w.check(w.maintainer.Pass(w.ctx)) // merged meanwhile: the copy does not count beside its sources
		if got := w.logStart(p); got != 0 {
			t.Fatalf("log start %d though everything fits", got)
		}
		w.fill(p, 10, 1, 25_000) // pending counts too
		w.retentionBytes = size
		w.maintainer.o.MergeCount = 1000
		w.check(w.maintainer.Pass(w.ctx))
		if got := w.logStart(p); got != 40 {
			t.Fatalf("log start %d, want 40: the older half", got)
		}
		w.retentionBytes = 0
		w.check(w.maintainer.Pass(w.ctx))
		if got := w.logStart(p); got != 80 {
			t.Fatalf("log start %d, want 80", got)
		}
		w.settle()
		if n := w.objects(segment.Single, segment.Shared, segment.Merged); n != 0 {
			t.Errorf("%d objects are left", n)
		}
		w.verify(true)
		// The next offsets follow on, and the producer is still known.
		w.retentionBytes = -1
		w.fill(p, 1, 2, 100)
		w.oracle()
		w.restart()
		w.oracle()
	})
}

// TestReadersHaveTheirGrace: data below the log start is deleted only Grace after the manifest stopped naming it.
func TestReadersHaveTheirGrace(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 2, 1, 1000)
		w.check(w.maintainer.Pass(w.ctx))
		w.check(w.AdvanceLogStart(w.ctx, p, 4))
		w.check(w.maintainer.Pass(w.ctx))
		time.Sleep(w.maintainer.o.Grace - time.Second)
		w.check(w.maintainer.Pass(w.ctx))
		if n := w.objects(segment.Single); n != 2 {
			t.Fatalf("%d objects within the grace", n)
		}
		time.Sleep(2 * time.Second)
		w.check(w.maintainer.Pass(w.ctx))
		if n := w.objects(segment.Single); n != 1 {
			t.Fatalf("%d objects after the grace", n)
		}
		w.verify(true)
	})
}

// TestPendingStaysUntilEveryPartitionCoversIt: other partitions of an object may have other owners.
func TestPendingStaysUntilEveryPartitionCoversIt(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 3)
		w.up()
		for _, id := range p {
			w.append(id, 2, 100)
		}
		w.upload()
		w.maintainer.o.Owner = ownerOf{w, func(id metadata.PartitionID) bool { return id != p[1] }}
		w.settle()
		pending, err := w.meta.PendingObjects(w.ctx)
		w.check(err)
		if len(pending) != 1 || w.catalog.pendingCount() != 1 {
			t.Fatalf("%d pending objects while a partition needs them", len(pending))
		}
		w.oracle()
		w.verify(true)
		w.maintainer.o.Owner = w
		w.check(w.maintainer.Pass(w.ctx))
		if n := w.catalog.pendingCount(); n != 0 {
			t.Fatalf("%d pending", n)
		}
		w.oracle()
		w.settle()
		w.verify(true)
	})
}

// TestLostSwapChangesNothing: another broker took a partition over between the plan and the swap.
func TestLostSwapChangesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 2)
		w.up()
		w.fill(p[0], 3, 1, 100)
		w.fill(p[1], 3, 1, 100)
		stale := staleOwner{w, w.Owned()}
		for i := range stale.owned {
			if stale.owned[i].Partition == p[0] {
				stale.owned[i].LeaderEpoch = 5
			}
		}
		w.maintainer.o.Owner = stale
		w.maintainer.o.MergeCount = 2
		w.settle()
		if q, _ := w.meta.Partition(p[0]); q.Manifest.Generation != 0 {
			t.Errorf("a manifest was swapped under an old epoch: %+v", q.Manifest)
		}
		if q, _ := w.meta.Partition(p[1]); q.Manifest.End != 12 {
			t.Errorf("the other partition's manifest: %+v", q.Manifest)
		}
		w.oracle()
		w.verify(false) // the manifests of the last pass wait for their grace
		w.maintainer.o.Owner = w
		w.settle()
		w.oracle()
		w.verify(true)
	})
}

type staleOwner struct {
	*world
	owned []Owned
}

func (o staleOwner) Owned() []Owned { return o.owned }

// TestUnknownSwapOutcome loses the answers of etcd while manifests are swapped.
func TestUnknownSwapOutcome(t *testing.T) {
	for name, fault := range map[string]memkv.Fault{"lost": {Lost: true}, "applied": {Unknown: true}, "late": {Late: 2 * time.Second}} {
		inWorld(t, func(w *world) {
			p := w.topic("t", 3)
			w.maintain(func(o *MaintainerOptions) { o.MergeCount = 2 })
			w.up()
			for range 3 {
				for _, id := range p {
					w.append(id, 2, 1000)
				}
				w.upload()
				w.kv.SetFaults(func(c memkv.Call) memkv.Fault {
					if rand.IntN(3) == 0 {
						return fault
					}
					return memkv.Fault{}
				})
				_ = w.maintainer.Pass(w.ctx)
				w.kv.SetFaults(nil)
				time.Sleep(time.Minute)
				w.oracle()
			}
			w.settle()
			w.oracle()
			if w.verify(true); t.Failed() {
				t.Log(name)
			}
		})
	}
}

func (w *world) maintain(change func(*MaintainerOptions)) { w.change = change }

func TestDeletedTopicLeavesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.maintain(func(o *MaintainerOptions) { o.MergeCount = 3 })
		a, b := w.topic("a", 2), w.topic("b", 2)
		w.up()
		write := func() {
			for _, p := range append(a[:2:2], b...) {
				w.append(p, 2, 100)
			}
			w.append(b[1], 2, 600<<10)
			w.upload()
		}
		write()
		w.check(w.maintainer.Pass(w.ctx))
		write() // pending when the topic goes
		w.check(w.meta.DeleteTopic(w.ctx, b[0].Topic))
		write2 := func() {
			for _, p := range a {
				w.append(p, 2, 100)
			}
			w.upload()
		}
		write2()
		w.settle()
		if topics, err := w.meta.DeletedTopics(w.ctx); err != nil || len(topics) != 0 {
			t.Fatalf("tombstones: %+v, %v", topics, err)
		}
		w.oracle()
		w.verify(true)
		if n := w.objects(segment.Single); n != 0 {
			t.Errorf("%d single objects of the deleted topic are left", n)
		}
		// Shared objects go when the topic that is left merges.
		write2()
		write2()
		w.settle()
		w.oracle()
		w.verify(true)
		if n := w.objects(segment.Shared); n > 2 {
			t.Errorf("%d shared objects are left", n)
		}
	})
}

func TestOrphansOfDeadWritersOnly(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 1, 1, 100)
		dead := w.state.ID
		w.restart()
		w.fill(p, 1, 1, 100)
		put := func(id segment.ID) string {
			key := id.Key(w.cluster())
			w.check(w.bucket.Put(w.ctx, key, bytes.NewReader([]byte("x")), objectstore.PutOptions{}))
			return key
		}
		other := uint64(1 << 50) // a broker that was never heard of: long dead
		gone := []string{put(segment.ID{Kind: segment.Shared, Epoch: uint64(dead), Nonce: 1}), put(segment.ID{Kind: segment.Merged, Epoch: other, Nonce: 2}),
			put(segment.ID{Kind: segment.Manifests, Epoch: uint64(w.inc), Nonce: 3})}
		kept := []string{put(segment.ID{Kind: segment.Single, Epoch: uint64(w.state.ID), Nonce: 4})}
		w.check(w.bucket.Put(w.ctx, "foreign/thing", bytes.NewReader([]byte("x")), objectstore.PutOptions{}))
		kept = append(kept, "foreign/thing")
		w.check(w.maintainer.ReapOrphans(w.ctx))
		for _, key := range append(gone, kept...) {
			if _, err := w.bucket.Head(w.ctx, key); err != nil {
				t.Errorf("%s is gone at once", key)
			}
		}
		time.Sleep(w.maintainer.o.Grace)
		w.check(w.maintainer.ReapOrphans(w.ctx))
		for _, key := range gone {
			if _, err := w.bucket.Head(w.ctx, key); !errors.Is(err, objectstore.ErrNotFound) {
				t.Errorf("%s is still there: %v", key, err)
			}
		}
		for _, key := range kept {
			if _, err := w.bucket.Head(w.ctx, key); err != nil {
				t.Errorf("%s is gone: %v", key, err)
			}
		}
		w.check(w.bucket.Delete(w.ctx, kept...))
		w.oracle()
		w.verify(true)
	})
}

// TestRestartReadsLittle counts the requests of a restart: one per pending object and one per partition with a manifest.
func TestRestartReadsLittle(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 5)
		w.maintain(func(o *MaintainerOptions) { o.MergeCount = 1000 })
		w.up()
		write := func(n int) {
			for range n {
				for _, id := range p {
					w.append(id, 2, 100)
				}
				w.upload()
			}
		}
		write(40)
		w.check(w.maintainer.Pass(w.ctx))
		write(7)
		w.restart()
		f := faulty.New(w.bucket)
		c := NewCatalog(CatalogOptions{Store: f, Partitions: w.meta, Cluster: w.cluster()})
		defer c.Close()
		w.check(c.Load(w.ctx, w.meta))
		if n := len(f.Calls()); n != 7 {
			t.Errorf("%d requests for 7 pending objects", n)
		}
		for _, id := range p {
			s, err := c.State(w.ctx, id)
			w.check(err)
			if s.End != 94 {
				t.Errorf("%v ends at %d", id, s.End)
			}
		}
		if n := len(f.Calls()); n != 7+5 {
			t.Errorf("%d requests for 7 pending objects and 5 manifests, whatever the number of segments", n)
		}
	})
}

// TestLoadSurvives503 lets every request fail once while a broker starts.
func TestLoadSurvives503(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 2)
		w.up()
		w.fill(p[0], 3, 1, 100)
		w.check(w.maintainer.Pass(w.ctx))
		w.fill(p[1], 3, 1, 100)
		w.store = faulty.New(w.bucket, faulty.Rule{Op: faulty.Any, Count: 12, Fault: faulty.Throttled})
		w.restart()
		w.oracle()
	})
}

func TestLongManifestSpills(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 2)
		w.maintain(func(o *MaintainerOptions) { o.MergeCount, o.InlineBytes = 1<<30, 8<<10 })
		w.up()
		const seals = 600
		for i := range seals {
			w.append(p[0], 1, 1)
			w.append(p[1], 1, 1)
			w.upload()
			if i%50 == 49 {
				w.check(w.maintainer.Absorb(w.ctx))
			}
		}
		m := func() *manifest.Manifest {
			q, _ := w.meta.Partition(p[0])
			m, err := w.catalog.manifest(w.ctx, p[0], q.Manifest)
			w.check(err)
			if q.Manifest.SizeBytes > 10_000 {
				t.Errorf("manifest of %d bytes", q.Manifest.SizeBytes)
			}
			return m
		}
		children := len(m().Children)
		if children < 2 {
			t.Fatalf("%d children", children)
		}
		r := NewReader(w.catalog, ReaderOptions{})
		defer r.Close()
		for _, offset := range []metadata.Offset{0, 1, 100, 299, 300, 500, seals - 1} {
			c, err := r.Read(w.ctx, p[0], offset, 1)
			w.check(err)
			if !bytes.Equal(c.Batches[0], w.log[p[0]][offset].bytes) {
				t.Errorf("offset %d: wrong batch", offset)
			}
			c.Release()
		}
		// The log start within a child, then beyond it.
		for _, start := range []metadata.Offset{100, m().Children[0].End + 5, seals - 3} {
			for _, id := range p {
				w.check(w.AdvanceLogStart(w.ctx, id, start))
			}
			w.settle()
			if got := m().Start(); got != start {
				t.Errorf("manifest starts at %d, log start %d", got, start)
			}
			if n := w.objects(segment.Shared); n != seals-int(start) {
				t.Errorf("%d objects are left for %d segments", n, seals-int(start))
			}
		}
		w.verify(true)
		w.oracle()
	})
}

func TestPlanMerge(t *testing.T) {
	const mb = 1 << 20
	cases := []struct {
		name  string
		sizes []int64
		i, j  int
	}{
		{"nothing", nil, 0, 0},
		{"one", []int64{1}, 0, 0},
		{"few", []int64{1, 1, 1}, 0, 0},
		{"enough small ones", []int64{1, 1, 1, 1, 1, 1, 1, 1}, 0, 8},
		{"large ones stay", []int64{64 * mb, 100 * mb, 256 * mb}, 0, 0},
		{"between large ones", []int64{64 * mb, 20 * mb, 50 * mb, 64 * mb, 1}, 1, 3},
		{"one dominates", []int64{32 * mb, 1, 1, 1, 1, 1, 1, 1}, 0, 0},
		{"behind one that dominates", []int64{32 * mb, 1, 1, 1, 1, 1, 1, 1, 1}, 1, 9},
		{"two that make a large one", []int64{32 * mb, 32 * mb}, 0, 2},
		{"not beyond the largest", []int64{60 * mb, 60 * mb, 60 * mb, 60 * mb, 60 * mb}, 0, 4},
	}
	for _, c := range cases {
		var segments []manifest.Segment
		for _, n := range c.sizes {
			segments = append(segments, manifest.Segment{SizeBytes: n})
		}
		if i, j := planMerge(segments, 64*mb, 256*mb, 8); i != c.i || j != c.j {
			t.Errorf("%s: [%d, %d), want [%d, %d)", c.name, i, j, c.i, c.j)
		}
	}
}

// TestMergingCopiesEachByteFewTimes lets a partition grow by small seals and adds up what merging copied.
func TestMergingCopiesEachByteFewTimes(t *testing.T) {
	var segments []manifest.Segment
	var copied, total int64
	for range 20_000 {
		segments = append(segments, manifest.Segment{SizeBytes: 100 << 10})
		total += 100 << 10
		for {
			i, j := planMerge(segments, 64<<20, 256<<20, 8)
			if i == j {
				break
			}
			var size int64
			for _, s := range segments[i:j] {
				size += s.SizeBytes
			}
			copied += size
			segments = append(append(segments[:i:i], manifest.Segment{SizeBytes: size}), segments[j:]...)
		}
	}
	if factor := float64(copied) / float64(total); factor > 5 || len(segments) > 60 {
		t.Errorf("each byte was copied %.1f times into %d segments", factor, len(segments))
	}
}

func TestMergeRefusesCorruptSources(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 4, 1, 1000)
		w.check(w.maintainer.Absorb(w.ctx))
		w.maintainer.o.MergeCount = 2
		clear(w.maintainer.outlooks)
		w.maintainer.store = faulty.New(w.bucket, faulty.Rule{Op: faulty.Get, Nth: 2, Fault: faulty.Corrupt})
		if err := w.maintainer.Merge(w.ctx); !errors.Is(err, ErrCorrupt) {
			t.Errorf("merge: %v", err)
		}
		w.oracle()
		w.check(w.maintainer.Merge(w.ctx))
		w.oracle()
		w.settle()
		w.verify(true)
	})
}

func TestRunMaintains(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		ctx, cancel := context.WithCancel(w.ctx)
		done := make(chan error, 1)
		go func() { done <- w.maintainer.Run(ctx) }()
		w.fill(p, 3, 1, 100)
		time.Sleep(61 * time.Second)
		if n := w.catalog.pendingCount(); n != 0 {
			t.Errorf("%d pending after a minute", n)
		}
		w.catalog.o.SoftPending = 2
		w.fill(p, 3, 1, 100)
		time.Sleep(time.Second)
		if n := w.catalog.pendingCount(); n != 0 {
			t.Errorf("%d pending over the soft cap", n)
		}
		cancel()
		w.check(<-done)
	})
}
