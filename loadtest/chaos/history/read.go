package history

import "fmt"

func (c *Checker) cursor(op *Op) *cursor {
	key := cursorKey{op.Reader, op.Partition}
	at := c.cursors[key]
	if at == nil {
		at = &cursor{-1, -1}
		c.cursors[key] = at
	}
	return at
}

// poll checks what a reader got, record by record.
func (c *Checker) poll(op *Op, r *reader, p *partition) error {
	c.result.Read += int64(len(op.Records))
	final := r.flags&Final != 0
	if final {
		c.result.FinalRead += int64(len(op.Records))
	}
	for i := range op.Records {
		rec := &op.Records[i]
		if rec.Offset < 0 || rec.Sequence >= 1<<sequenceBits {
			return fmt.Errorf("%s got offset %d, sequence %d", r.name, rec.Offset, rec.Sequence)
		}
		c.advance(op, r, p, rec.Offset)
		n, known := c.byKey[trackKey{rec.Producer, op.Partition}]
		slot := p.contents.slot(rec.Offset)
		if !known || rec.Sequence >= uint64(len(c.tracks[n].state)) {
			c.found(Phantom, "%s offset %d: %s got record %d of %s, which nobody had sent there", p.name, rec.Offset, r.name, rec.Sequence, c.producerName(rec.Producer))
			*slot = entryPhantom
			continue
		}
		t, e := c.tracks[n], entry(n, rec.Sequence)
		switch *slot {
		case entryNone:
			*slot = e
			c.first(t, rec, r, p)
		case e:
		default:
			c.found(Inconsistent, "%s offset %d: %s got %s where there was %s", p.name, rec.Offset, r.name, c.describe(e), c.describe(*slot))
		}
		if r.flags&ReadCommitted != 0 {
			c.readCommitted(t, rec, r, p)
		}
		if final {
			c.finally(t, rec, p)
		}
	}
	return nil
}

// first notes that a record was found at an offset for the first time.
func (c *Checker) first(t *track, rec *Record, r *reader, p *partition) {
	switch at := t.seen[rec.Sequence]; {
	case at < 0:
		t.seen[rec.Sequence] = rec.Offset
	case t.flags&Idempotent != 0:
		c.found(Duplicate, "%s: record %d of %s is at %d and, as %s got it, at %d", p.name, rec.Sequence, c.producerName(t.producer), at, r.name, rec.Offset)
	default:
		c.result.Repeated++
	}
}

// finally checks the order of a producer's records, in the order of offsets: a final reader that goes back is found elsewhere. A record
// that is there twice counts where it is first. What a plain producer gave up may land after what it sent next.
func (c *Checker) finally(t *track, rec *Record, p *partition) {
	state := &t.state[rec.Sequence]
	if *state&finallyRead != 0 {
		return
	}
	*state |= finallyRead
	if outcome := *state & outcomeMask; t.flags&Idempotent == 0 && outcome != outcomeAcked {
		return
	}
	if int64(rec.Sequence) < t.lastFinal {
		c.found(Reordered, "%s offset %d: record %d of %s follows its record %d", p.name, rec.Offset, rec.Sequence, c.producerName(t.producer), t.lastFinal)
	}
	t.lastFinal = max(t.lastFinal, int64(rec.Sequence))
}

// advance moves a reader to an offset, and says whether it went back or skipped something.
func (c *Checker) advance(op *Op, r *reader, p *partition, offset int64) {
	at := c.cursor(op)
	switch {
	case at.next < 0:
	case offset < at.next:
		c.found(Nonmonotonic, "%s: %s got offset %d after %d", p.name, r.name, offset, at.next-1)
	case offset > at.next:
		c.gaps = append(c.gaps, skipped{cursorKey{op.Reader, op.Partition}, at.next, offset})
	}
	at.next = offset + 1
	if r.group == "" {
		return
	}
	if g := c.group(r.group, op.Partition); offset <= g.covered {
		g.covered = max(g.covered, offset+1)
	} else if g.covered < 0 && offset == 0 {
		g.covered = 1
	}
}

type (
	groupKey struct {
		group     string
		partition Partition
	}
	// groupOffsets is what a group committed in a partition and has read of it.
	groupOffsets struct {
		covered int64           // all offsets below were read by some member; -1: nobody began
		acked   int64           // highest offset whose commit was acknowledged; -1: none
		highest int64           // highest offset that anybody tried to commit; -1: none
		open    map[int64]int32 // commits without an acknowledgement: they may take effect at any time
	}
)

func (c *Checker) group(name string, partition Partition) *groupOffsets {
	key := groupKey{name, partition}
	g := c.groups[key]
	if g == nil {
		g = &groupOffsets{covered: -1, acked: -1, highest: -1, open: map[int64]int32{}}
		c.groups[key] = g
	}
	return g
}

func (c *Checker) commit(op *Op, r *reader) {
	g := c.group(r.group, op.Partition)
	if op.Kind == CommitInvoke {
		g.open[op.Offset]++
		g.highest = max(g.highest, op.Offset)
		return
	}
	c.result.Commits++
	if g.open[op.Offset]--; g.open[op.Offset] <= 0 {
		delete(g.open, op.Offset)
	}
	g.acked = max(g.acked, op.Offset)
}

// position notes where a reader goes on. A negative offset says that its group has none and that it starts at the log's beginning.
func (c *Checker) position(op *Op, r *reader, p *partition) {
	at := c.cursor(op)
	at.next = max(op.Offset, -1)
	if r.group == "" {
		return
	}
	c.result.Transitions++
	g := c.group(r.group, op.Partition)
	_, open := g.open[op.Offset]
	switch {
	case g.acked >= 0 && op.Offset < g.acked && !open:
		c.found(OffsetLost, "%s: group %s goes on at %d though its commit of %d was acknowledged", p.name, r.group, op.Offset, g.acked)
	case op.Offset > g.highest && op.Offset >= 0:
		c.found(OffsetLost, "%s: group %s goes on at %d though nobody committed more than %d", p.name, r.group, op.Offset, g.highest)
	}
	switch {
	case g.covered < 0:
		g.covered = max(0, op.Offset)
	case op.Offset > g.covered:
		c.found(Gap, "%s: group %s goes on at %d; no member has read beyond %d", p.name, r.group, op.Offset, g.covered)
		g.covered = op.Offset
	}
}
