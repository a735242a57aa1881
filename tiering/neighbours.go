package tiering

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

const (
	// neighbourBytes is what a read of a shared object brings at least where others read it too.
	neighbourBytes = 1 << 20
	// neighbourAfter is how many different partitions of an object must have been read one by one before.
	neighbourAfter = 4
	// neighbourObjects bounds how many objects' block lists are in memory; neighbourBlocks how long they are altogether.
	neighbourObjects = 64
	neighbourBlocks  = 256 << 10
)

// neighbours finds out who reads many partitions of one object. An object that 10,000 slow partitions share has a few KiB of each, and who
// replays them all would ask for each by itself. What lies behind a wanted block then comes with it, whichever partition's it
// is. One reader of one partition gets no more than it asked for.
type neighbours struct {
	mu      sync.Mutex
	objects map[segment.ID]*neighbourhood
	recent  []segment.ID // of objects, least recently used first
	blocks  int          // sum over objects
}

// neighbourhood is an object that is read.
type neighbourhood struct {
	readers []metadata.PartitionID // until there are enough
	blocks  []segment.Block        // all of the object by position, once there are
}

// widen returns the list of blocks, and the index in it, that a read of l.blocks[i] shall go by, and how many bytes it shall bring: l's
// own and run, or all of the object's.
func (r *Reader) widen(ctx context.Context, p metadata.PartitionID, l *located, i, run int) (blocks []segment.Block, at, runBytes int) {
	if !l.object.Kind.Many() || l.index == nil || r.blocks.has(l.object, l.blocks[i].Position) || ownRun(l.blocks, i) >= neighbourBytes/4 {
		return l.blocks, i, run
	}
	all, wanted := r.near.visit(l.object, p)
	if wanted && all == nil {
		x, err := l.index(ctx)
		if err != nil {
			return l.blocks, i, run // the read itself does not need it
		}
		all = r.near.learn(l.object, x)
	}
	k, ok := slices.BinarySearchFunc(all, l.blocks[i].Position, func(b segment.Block, at int64) int { return cmp.Compare(b.Position, at) })
	if !ok {
		return l.blocks, i, run
	}
	return all, k, min(run, neighbourBytes)
}

// ownRun is how many bytes of the partition's own lie together from block i on, as far as it matters here.
func ownRun(blocks []segment.Block, i int) int {
	n := int(blocks[i].Length)
	for j := i + 1; j < len(blocks) && n < neighbourBytes && blocks[j].Position == blocks[j-1].End(); j++ {
		n += int(blocks[j].Length)
	}
	return n
}

// visit notes that p is read from the object. wanted tells that enough others are; blocks are the object's, if they are known.
func (n *neighbours) visit(object segment.ID, p metadata.PartitionID) (blocks []segment.Block, wanted bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.objects[object]
	if h == nil {
		if n.objects == nil {
			n.objects = map[segment.ID]*neighbourhood{}
		}
		h = &neighbourhood{}
		n.objects[object] = h
		n.recent = append(n.recent, object)
		n.shedLocked()
	} else if at := slices.Index(n.recent, object); at < len(n.recent)-1 {
		n.recent = append(slices.Delete(n.recent, at, at+1), object)
	}
	if len(h.readers) < neighbourAfter && !slices.Contains(h.readers, p) {
		h.readers = append(h.readers, p)
	}
	return h.blocks, len(h.readers) >= neighbourAfter
}

// learn keeps the blocks of the object, and returns them by position.
func (n *neighbours) learn(object segment.ID, x *segment.Index) []segment.Block {
	var blocks []segment.Block
	for i := range x.Parts {
		blocks = append(blocks, x.Parts[i].Blocks...)
	}
	slices.SortFunc(blocks, func(a, b segment.Block) int { return cmp.Compare(a.Position, b.Position) })
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.objects[object]; h != nil && h.blocks == nil {
		h.blocks = blocks
		n.blocks += len(blocks)
		n.shedLocked()
	}
	return blocks
}

// shedLocked forgets the objects that were not read for longest.
func (n *neighbours) shedLocked() {
	for len(n.recent) > 1 && (len(n.recent) > neighbourObjects || n.blocks > neighbourBlocks) {
		n.blocks -= len(n.objects[n.recent[0]].blocks)
		delete(n.objects, n.recent[0])
		n.recent = slices.Delete(n.recent, 0, 1)
	}
}
