package tiering

import (
	"sync/atomic"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// vanishing shows a partition a number of times, and then no more: its topic is deleted in between.
type vanishing struct {
	Keeper
	Committer
	partition metadata.PartitionID
	left      atomic.Int32
}

func (v *vanishing) Partition(p metadata.PartitionID) (*metadata.Partition, bool) {
	if p == v.partition && v.left.Add(-1) < 0 {
		return nil, false
	}
	return v.Keeper.Partition(p)
}

func TestTopicDeletedWhileItIsSealed(t *testing.T) {
	for looks := range int32(6) {
		inWorld(t, func(w *world) {
			p := w.topic("t", 2)
			w.up()
			w.fill(p[0], 1, 1, 100)
			w.append(p[0], 1, 100)
			w.append(p[1], 1, 100)
			v := &vanishing{Keeper: w.meta, Committer: w.meta, partition: p[0]}
			v.left.Store(looks)
			w.catalog.o.Partitions = v
			w.upload()
			if end := w.catalog.End(p[1]); end != 1 {
				t.Errorf("with %d looks: the other partition ends at %d", looks, end)
			}
		})
	}
}

func TestSealOfManyLargePartitionsFitsOneTransaction(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 140)
		w.up()
		for i, id := range p {
			w.append(id, 1, 200+i)
		}
		o := w.uploaderOptions()
		o.SingleBytes = 100
		w.check(DrainRecovered(w.ctx, w.stream, w.stream.Durable(), o))
		if single, shared := w.objects(segment.Single), w.objects(segment.Shared); single != maxSingles || shared != 1 {
			t.Errorf("%d single objects and %d shared", single, shared)
		}
		w.oracle()
	})
}
