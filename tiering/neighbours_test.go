package tiering

import (
	"bytes"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// TestReplayOfManySlowPartitionsReadsTogether replays partitions that have a few hundred bytes in each of many shared objects.
func TestReplayOfManySlowPartitionsReadsTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		const partitions, objects = 300, 6
		p := w.topic("t", partitions)
		f := faulty.New(w.bucket)
		w.store = f
		w.up()
		for range objects {
			for _, id := range p {
				w.append(id, 2, 100)
			}
			w.upload()
		}
		for _, absorbed := range []bool{false, true} {
			if absorbed {
				w.check(w.maintainer.Absorb(w.ctx))
			}
			before := gets(f, w.cluster(), segment.Shared)
			r := NewReader(w.catalog, ReaderOptions{CacheBytes: 32 << 20})
			for _, id := range p {
				var want []byte
				for _, b := range w.log[id] {
					want = append(want, b.bytes...)
				}
				if got := w.readAll(r, id, 0, w.log[id][objects-1].next); !bytes.Equal(got, want) {
					t.Fatalf("%v: not what was written, from byte %d on", id, firstDifference(got, want))
				}
			}
			r.Close()
			if n := gets(f, w.cluster(), segment.Shared) - before; n > partitions*objects/20 {
				t.Errorf("absorbed %v: %d requests for %d partitions in %d objects", absorbed, n, partitions, objects)
			}
		}
	})
}

// TestReaderOfOnePartitionGetsNoOthers reads one of the partitions: what the others have in the same objects stays there.
func TestReaderOfOnePartitionGetsNoOthers(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 50)
		w.up()
		for _, id := range p {
			w.append(id, 20, 1000)
		}
		w.upload()
		r := NewReader(w.catalog, ReaderOptions{})
		defer r.Close()
		for range 2 {
			c, err := r.Read(w.ctx, p[7], 0, 1<<20)
			w.check(err)
			c.Release()
		}
		r.blocks.mu.Lock()
		defer r.blocks.mu.Unlock()
		if n := len(r.blocks.blocks); n != 1 {
			t.Errorf("%d blocks are in memory, one was asked for", n)
		}
	})
}

// TestNeighboursAreBounded visits more objects than are remembered.
func TestNeighboursAreBounded(t *testing.T) {
	var n neighbours
	x := &segment.Index{Parts: make([]segment.Part, 100)}
	for i := range x.Parts {
		x.Parts[i].Blocks = make([]segment.Block, neighbourBlocks/800)
	}
	for seq := range uint64(3 * neighbourObjects) {
		id := segment.ID{Seq: seq}
		for part := range int32(neighbourAfter) {
			_, wanted := n.visit(id, metadata.PartitionID{Partition: part})
			if wanted != (part == neighbourAfter-1) {
				t.Fatalf("object %d: after %d readers %v", seq, part+1, wanted)
			}
		}
		n.learn(id, x)
		if len(n.objects) != len(n.recent) || len(n.objects) > neighbourObjects || n.blocks > neighbourBlocks {
			t.Fatalf("%d objects, %d recent, %d blocks", len(n.objects), len(n.recent), n.blocks)
		}
	}
}
