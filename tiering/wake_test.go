package tiering

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
	"github.com/tidemarkmq/tidemark/tiering/codec"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// TestWokenWaiterThatFindsItsBlockPassesTheTurnOn: two waiters want one block and a third another, when room for all comes
// back. The second finds what the first has started.
func TestWokenWaiterThatFindsItsBlockPassesTheTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 64 << 10
		ctx := t.Context()
		catalog := NewCatalog(CatalogOptions{Store: memory.New(), Cluster: "c"})
		defer catalog.Close()
		id := segment.ID{Kind: segment.Single, Epoch: 1, Seq: 1}
		body := make([]byte, 7*size)
		if err := catalog.o.Store.Put(ctx, id.Key("c"), bytes.NewReader(body), objectstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		var blocks []segment.Block
		for i := range int64(7) {
			blocks = append(blocks, segment.Block{Position: i * size, Length: size, CRC: codec.CRC(body[:size]),
				BaseOffset: metadata.Offset(i), NextOffset: metadata.Offset(i + 1)})
		}
		c := newBlockCache(catalog, ctx, 5*size, 4, catalog.metrics)
		pin := func(i, n int) (*extent, error) {
			e, err := c.pin(ctx, id, blocks[i:i+n], 0, n*size, time.Hour)
			if err == nil {
				err = c.wait(ctx, e)
			}
			return e, err
		}
		held, err := pin(0, 5)
		if err != nil {
			t.Fatal(err)
		}
		pinned := make(chan *extent, 3)
		for _, i := range []int{5, 5, 6} {
			go func() {
				e, err := pin(i, 1)
				if err != nil {
					t.Error(err)
				}
				pinned <- e
			}()
			synctest.Wait()
		}
		c.release(held)
		synctest.Wait()
		if n := len(pinned); n != 3 {
			t.Errorf("%d of 3 waiters got their block, with room for all", n)
		}
		for range len(pinned) {
			c.release(<-pinned)
		}
		c.wg.Wait()
	})
}

// TestPiecesInHandStayAsTheyAre: what a reader took from the catalog does not change when an older object is added late.
func TestPiecesInHandStayAsTheyAre(t *testing.T) {
	c := NewCatalog(CatalogOptions{Store: memory.New(), Cluster: "c"})
	defer c.Close()
	p := metadata.PartitionID{Topic: metadata.TopicID{1}}
	add := func(seq uint64, start metadata.Offset) {
		x := &segment.Index{Parts: []segment.Part{{Partition: p, Start: start, End: start + 1}}}
		c.add([]*pendingObject{newPending(metadata.PendingObject{Seq: seq}, segment.ID{Seq: seq}, x, segment.Footer{})})
	}
	for i := range 5 { // the slice has room to spare
		add(uint64(10+i), metadata.Offset(10+i))
	}
	inHand := c.pieces(p, 0)
	add(1, 1)
	for i, q := range inHand {
		if want := metadata.Offset(10 + i); q.part.Start != want {
			t.Errorf("piece %d starts at %d, it was %d", i, q.part.Start, want)
		}
	}
	if got := c.pieces(p, 0); len(got) != 6 || got[0].part.Start != 1 {
		t.Errorf("%d pieces, the first at %d", len(got), got[0].part.Start)
	}
}
