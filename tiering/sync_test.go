package tiering

import (
	"context"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
)

// TestSyncFollowsAnotherBroker compares the catalog of a broker that only looks on with that of the one that writes.
func TestSyncFollowsAnotherBroker(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 3)
		w.up()
		f := faulty.New(w.bucket)
		other := NewCatalog(CatalogOptions{Store: f, Partitions: w.meta, Cluster: w.cluster(), SoftPending: 1})
		defer other.Close()
		w.check(other.Load(w.ctx, w.meta))
		agree := func(when string) {
			t.Helper()
			w.check(other.Sync(w.ctx, w.meta))
			if n, want := other.pendingCount(), w.catalog.pendingCount(); n != want {
				t.Fatalf("%s: %d pending objects, want %d", when, n, want)
			}
			for _, id := range p {
				got, err := other.State(w.ctx, id)
				w.check(err)
				want, err := w.catalog.State(w.ctx, id)
				w.check(err)
				if got.End != want.End || got.SizeBytes != want.SizeBytes || got.Producers.Len() != want.Producers.Len() {
					t.Errorf("%s: %v is %+v, want %+v", when, id, got, want)
				}
			}
		}
		write := func() {
			for _, id := range p {
				w.append(id, 2, 100)
			}
			w.upload()
		}
		for range 3 {
			write()
		}
		agree("after three uploads")
		before := len(f.Calls())
		w.check(other.Sync(w.ctx, w.meta))
		if n := len(f.Calls()) - before; n != 0 {
			t.Errorf("%d requests though nothing is new", n)
		}
		w.check(w.maintainer.Absorb(w.ctx))
		write()
		agree("after absorbing and one more")
		select {
		case <-other.pressed:
			t.Error("what another broker committed is for that one to absorb")
		default:
		}
		if other.indexBytes <= 0 || other.own != 0 || other.ownBytes != 0 {
			t.Errorf("counts: %d bytes, %d own objects of %d bytes", other.indexBytes, other.own, other.ownBytes)
		}
		w.check(w.maintainer.Absorb(w.ctx))
		agree("after all is absorbed")
		if other.indexBytes != 0 {
			t.Errorf("%d bytes of indexes of no objects", other.indexBytes)
		}
	})
}

// TestSyncBesideTheUploader lets commits and absorbs happen while the list is read: nothing may be known twice nor be forgotten.
func TestSyncBesideTheUploader(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		late := &lateList{Committer: w.meta}
		for i := range 20 {
			w.append(p, 1, 100)
			late.after = func() { w.upload() } // committed and added after the list was read
			if i%5 == 4 {
				late.after = func() {
					w.upload()
					w.check(w.maintainer.Absorb(w.ctx))
				}
			}
			w.check(w.catalog.Sync(w.ctx, late))
			w.oracle()
		}
		late.after = func() {}
		w.check(w.catalog.Sync(w.ctx, late))
		records, err := w.meta.PendingObjects(w.ctx)
		w.check(err)
		if n := w.catalog.pendingCount(); n != len(records) {
			t.Errorf("%d pending objects are known, etcd has %d", n, len(records))
		}
	})
}

// lateList does something between reading the list and returning it.
type lateList struct {
	Committer
	after func()
	lists int
}

func (l *lateList) PendingObjects(ctx context.Context) ([]metadata.PendingObject, error) {
	l.lists++
	out, err := l.Committer.PendingObjects(ctx)
	l.after()
	return out, err
}

// TestSyncListsAnewWhenAnObjectIsGone has the list outlive an object of it.
func TestSyncListsAnewWhenAnObjectIsGone(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.maintain(func(o *MaintainerOptions) { o.Grace = time.Second; o.MergeBytes = 1 })
		w.up()
		w.append(p, 1, 100)
		w.upload()
		other := NewCatalog(CatalogOptions{Store: w.bucket, Partitions: w.meta, Cluster: w.cluster()})
		defer other.Close()
		late := &lateList{Committer: w.meta, after: func() {
			w.check(w.maintainer.Absorb(w.ctx))
			w.check(w.meta.SetLogStart(w.ctx, p, 0, 1))
			for range 3 {
				time.Sleep(2 * time.Second)
				w.check(w.maintainer.Pass(w.ctx))
			}
		}}
		w.check(other.Sync(w.ctx, late))
		if n := other.pendingCount(); n != 0 || late.lists != 2 {
			t.Errorf("%d pending objects after %d lists, want none after 2", n, late.lists)
		}
		if s, err := other.State(w.ctx, p); err != nil || s.End != 1 {
			t.Errorf("state ends at %d: %v", s.End, err)
		}
	})
}
