package history

import (
	"cmp"
	"slices"
)

// Finish checks what only the whole history shows and returns the result. Nothing may be added afterwards.
func (c *Checker) Finish() *Result {
	c.result.Partitions = len(c.partitions)
	c.finishReads()
	committedOnly := c.finalCommitted()
	for _, t := range c.tracks[firstTrack:] {
		if p := c.partitions[t.partition]; p.bounds {
			c.finishTrack(t, p, committedOnly)
		}
	}
	c.result.Unknown = c.result.Sent - c.result.Acked - c.result.Failed
	c.transactions()
	for _, g := range c.gaps {
		c.explain(g)
	}
	slices.SortStableFunc(c.result.Findings, func(a, b Finding) int { return cmp.Compare(a.Anomaly, b.Anomaly) })
	return &c.result
}

// finishReads wants a final reader to have read each partition to the end that it saw.
func (c *Checker) finishReads() {
	for key, at := range c.cursors {
		if at.end >= 0 && at.next < at.end {
			c.gaps = append(c.gaps, skipped{key, at.next, at.end})
		}
	}
	slices.SortFunc(c.gaps, func(a, b skipped) int {
		return cmp.Or(cmp.Compare(a.key.partition, b.key.partition), cmp.Compare(a.from, b.from), cmp.Compare(a.key.reader, b.key.reader))
	})
	for _, p := range c.partitions {
		if !p.bounds {
			c.found(Unread, "%s", p.name)
		}
	}
}

// finishTrack compares what a producer was told with what final readers got.
func (c *Checker) finishTrack(t *track, p *partition, committedOnly bool) {
	for s, state := range t.state {
		read, outcome := state&finallyRead != 0, state&outcomeMask
		hidden := committedOnly && len(t.txns) > 0 && c.mayBeHidden(t, uint64(s))
		switch outcome {
		case outcomeAcked:
			c.finishAcked(t, p, s, read, hidden)
		case outcomeFailed:
			if t.seen[s] >= 0 {
				c.found(Phantom, "%s offset %d: record %d of %s, whose send failed for good", p.name, t.seen[s], s, c.producerName(t.producer))
			}
		default:
			if read {
				c.result.Recovered++
			}
		}
		if t.seen[s] >= 0 && !read && !hidden && outcome != outcomeAcked {
			c.found(Vanished, "%s: record %d of %s was read at %d and is not there", p.name, s, c.producerName(t.producer), t.seen[s])
		}
	}
}

func (c *Checker) finishAcked(t *track, p *partition, s int, read, hidden bool) {
	name, at := c.producerName(t.producer), t.acked[s]
	switch {
	case read:
		c.result.Checked++
	case hidden:
	case t.flags&Durable != 0:
		c.found(Lost, "%s: record %d of %s was acknowledged at %d and is not there (a reader got it at %d)", p.name, s, name, at, t.seen[s])
	case t.seen[s] >= 0:
		c.found(Vanished, "%s: record %d of %s was read at %d and is not there", p.name, s, name, t.seen[s])
	}
	if at < 0 || !read && t.flags&Durable == 0 {
		return
	}
	if got := *p.contents.slot(at); got != entry(c.byKey[trackKey{t.producer, t.partition}], uint64(s)) && got != entryNone {
		c.found(Inconsistent, "%s offset %d: record %d of %s was acknowledged there, and there is %s", p.name, at, s, name, c.describe(got))
	} else if got == entryNone && read {
		c.found(Inconsistent, "%s: record %d of %s was acknowledged at %d, where nobody found anything, and is at %d", p.name, s, name, at, t.seen[s])
	}
}

// explain says that a gap is one unless each of its offsets holds a marker or a record that its reader must not see.
func (c *Checker) explain(g skipped) {
	p, r := c.partitions[g.key.partition], c.readers[g.key.reader]
	for o := g.from; o < g.to; o++ {
		e := *p.contents.slot(o)
		if e == entryMarker {
			continue
		}
		if t := e >> sequenceBits; r.flags&ReadCommitted != 0 && t >= firstTrack && c.mayBeHidden(c.tracks[t], e&(1<<sequenceBits-1)) {
			continue
		}
		c.found(Gap, "%s: %s got no offset from %d up to %d; at %d there is %s", p.name, r.name, g.from, g.to, o, c.describe(e))
		return
	}
	c.result.Explained++
}
