package tiering

import (
	"context"
	"fmt"
	"sync"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/codec"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// gathered is the blocks of an object whose batches lie where the log has them in memory, in slabs that its seal holds. They are
// copied when a store asks for them, a little at a time, and checked on the way. A put that takes long must not keep the slabs: then the
// blocks move into an image, from which the put goes on. It is what segment.Layout.Body reads.
type gathered struct {
	cancel context.CancelCauseFunc // of the put: corrupt bytes get no better by trying again

	mu     sync.Mutex
	cursor cursor
	image  *image // once the batches have been copied
	err    error  // of the bytes; it stays
}

// ReadAt implements io.ReaderAt. Reading in order is fast.
func (g *gathered) ReadAt(p []byte, off int64) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.err != nil:
		return 0, g.err
	case g.image != nil:
		return g.image.ReadAt(p, off)
	}
	err := g.cursor.seek(off)
	if err == nil {
		err = g.cursor.read(p, len(p))
	}
	if err != nil {
		g.failLocked(err)
		return 0, err
	}
	return len(p), nil
}

func (g *gathered) failLocked(err error) {
	if g.err == nil {
		g.err = err
		g.cancel(err)
	}
}

// move makes the put go on from the image, or end with err.
func (g *gathered) move(m *image, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.failLocked(err)
	}
	g.image, g.cursor = m, cursor{}
}

// cursor reads the blocks of an object in order, and checks the CRC of each.
type cursor struct {
	object      *sealed
	entries     []sealEntry
	at          int64 // in the object
	part, block int   // that at is in
	entry       int32
	within      int // the entry's batch
	crc         uint32
}

// seek goes to the position, by way of the start of its block, whose CRC it needs.
func (c *cursor) seek(off int64) error {
	if off == c.at {
		return nil
	}
	*c = cursor{object: c.object, entries: c.entries, at: segment.HeaderBytes}
	c.enter()
	for c.part < len(c.object.parts) && c.current().End() <= off {
		for left := int(c.current().Length); left > 0; {
			e := &c.entries[c.entry]
			left, c.entry = left-len(e.data), e.next
		}
		c.at = c.current().End()
		c.nextBlock()
	}
	return c.read(nil, int(off-c.at))
}

func (c *cursor) current() *segment.Block { return &c.object.parts[c.part].Blocks[c.block] }

func (c *cursor) enter() {
	if c.part < len(c.object.from) {
		c.entry, c.within = c.object.from[c.part].first, 0
	}
}

func (c *cursor) nextBlock() {
	c.crc = 0
	if c.block++; c.block == len(c.object.parts[c.part].Blocks) {
		c.part, c.block = c.part+1, 0
		c.enter()
	}
}

// read copies the next n bytes to p, or only looks at them if p is nil.
func (c *cursor) read(p []byte, n int) error {
	for n > 0 {
		if c.part == len(c.object.parts) {
			return fmt.Errorf("read %d bytes behind the blocks of %s", n, c.object.key)
		}
		e := &c.entries[c.entry]
		src := e.data[c.within:]
		src = src[:min(n, len(src), crcStepBytes)]
		if p != nil {
			// What is summed is the copy.
			k := copy(p, src)
			src, p = p[:k], p[k:]
		}
		c.crc = codec.UpdateCRC(c.crc, src)
		n, c.within, c.at = n-len(src), c.within+len(src), c.at+int64(len(src))
		if c.within == len(e.data) {
			c.entry, c.within = e.next, 0
		}
		if b := c.current(); c.at == b.End() {
			if c.crc != b.CRC {
				return fmt.Errorf("%w: WAL position %d: %v: the block of offsets [%d, %d) that ends here has CRC %08x, want %08x", ErrCorrupt, e.pos,
					c.object.parts[c.part].Partition, b.BaseOffset, b.NextOffset, c.crc, b.CRC)
			}
			c.nextBlock()
		}
	}
	return nil
}

// body is what a store is to put. A put that begins with the image takes its memory as it is.
func (o *sealed) body() objectstore.Body {
	if o.image == nil {
		return o.layout.Body(o.gathered)
	}
	return o.image
}

// bring copies a gathered object into an image.
func (o *sealed) bring(s *staging, entries []sealEntry) {
	m := newImage(s, o.end)
	c := cursor{object: o, entries: entries}
	err := c.seek(segment.HeaderBytes)
	for err == nil && c.at < o.end {
		p := m.Stretch(c.at)
		err = c.read(p, len(p))
	}
	m.finish(o.layout)
	o.image = m
	o.gathered.move(m, err)
}

// bring copies what the seal has gathered into images and lets go of the slabs. It reports whether there was anything.
func (s *seal) bring(staging *staging) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		return false
	}
	for _, o := range s.objects {
		o.bring(staging, *s.entries)
	}
	s.letGoLocked()
	return true
}

func (s *seal) letGoLocked() {
	if s.entries != nil {
		putEntryList(s.entries)
	}
	releasePins(s.pins)
	s.entries, s.pins = nil, nil
}

// release gives the memory of the objects back, and the slabs; they must not be used any more.
func (s *seal) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letGoLocked()
	for _, o := range s.objects {
		if o.image != nil {
			o.image.release()
		}
		o.gathered, o.image = nil, nil
	}
}
