package wal

import (
	"sync"
	"time"
)

// committer is the state of the one goroutine that writes groups and completes them in order.
type committer struct {
	l        *Log
	depth    depth
	inflight []*group // oldest first; at most maxInFlight
	held     *group   // waits for its segment
	probing  bool     // the group in flight is to stay alone

	seg      *segment   // last written to
	open     []*segment // that can be written to, oldest first; seg is the last
	sequence uint64
	link     uint32

	jobs    chan *group // nil until more than one write was in flight
	results chan *group
	writers sync.WaitGroup

	awaiting []*group // durable here, to be acknowledged once they are replicated; oldest first
	retired  []*group // completed, to be reused
}

// run returns when the stream is closing or failed and nothing is left to complete.
func (c *committer) run() {
	defer c.stopWriters()
	for {
		for len(c.inflight) > 0 && c.inflight[0].written {
			c.complete(c.inflight[0])
		}
		c.acknowledge()
		if c.mayStart() {
			g, finished := c.next()
			if finished && len(c.inflight) == 0 && len(c.awaiting) == 0 {
				return
			}
			if g != nil {
				c.start(g)
				continue
			}
		}
		select {
		case g := <-c.results:
			g.written = true
		case <-c.l.wake:
		}
	}
}

func (c *committer) mayStart() bool {
	n := len(c.inflight)
	if n >= c.depth.limit || c.probing && n > 0 {
		return false
	}
	return n == 0 || !c.depth.probeDue()
}

// next returns a group that is filled and has its segment, or nil; finished says that none will come any more.
func (c *committer) next() (g *group, finished bool) {
	g = c.held
	if g == nil {
		g, finished = c.l.takeGroup(c)
		if g == nil {
			return nil, finished
		}
		<-g.ready
	}
	c.held = nil
	if c.l.failure() != nil {
		return g, false
	}
	for c.seg == nil || c.seg.Sequence < g.seq {
		seg := c.l.takePrepared()
		if seg == nil {
			c.held = g
			c.l.hungry.Store(true)
			if c.l.giveUpIfFull() {
				return c.next()
			}
			return nil, false
		}
		c.l.hungry.Store(false)
		c.seg = seg
		c.open = append(c.open, seg)
	}
	g.segment = c.seg
	return g, false
}

// start writes the group, or lets a writer do so. In a failed stream nothing is written.
func (c *committer) start(g *group) {
	c.inflight = append(c.inflight, g)
	if err := c.l.failure(); err != nil {
		g.err, g.written = err, true
		return
	}
	c.seal(g)
	g.solo = len(c.inflight) == 1
	c.probing = g.solo && c.depth.probeDue()
	if !g.solo {
		for _, o := range c.inflight {
			o.solo = false
		}
	}
	if c.l.o.Replicated {
		c.l.publish(g)
	} else if c.depth.limit == 1 { // nothing else to do meanwhile
		c.write(g)
		g.written = true
		return
	}
	if c.jobs == nil {
		c.startWriters()
	}
	c.jobs <- g
}

// seal writes padding and header of the group.
func (c *committer) seal(g *group) {
	b := g.bytes()
	clear(b[g.length:])
	c.sequence++
	h := groupHeader{
		Link: c.link, Epoch: c.l.segs.epoch, Sequence: c.sequence, Position: g.pos, Length: uint32(len(b)),
		Entries: uint32(len(g.completions)), EntriesCRC: entriesCRC(b, g.length), Content: uint32(g.length),
	}
	if c.l.mode != SyncNone {
		h.Promised = c.l.Written()
	}
	c.link = h.put(b, c.l.segs.seed)
}

// write makes the group durable. Called by the committer or one of its writers.
func (c *committer) write(g *group) {
	start := time.Now()
	_, err := g.segment.w.WriteAt(g.bytes(), g.segment.offset(g.pos))
	if err == nil && c.l.mode == SyncData {
		err = g.segment.w.SyncData()
	}
	g.took, g.err = time.Since(start), err
}

func (c *committer) startWriters() {
	c.jobs = make(chan *group, maxInFlight)
	for range c.l.o.MaxInFlight {
		c.writers.Go(func() {
			for g := range c.jobs {
				c.write(g)
				c.results <- g
			}
		})
	}
}

func (c *committer) stopWriters() {
	if c.jobs != nil {
		close(c.jobs)
	}
	c.writers.Wait()
	c.closeBefore(nil)
}

// closeBefore closes the files before seg for writing; nil: all of them. Their writes are durable, or have failed.
func (c *committer) closeBefore(seg *segment) {
	for len(c.open) > 0 && c.open[0] != seg {
		c.l.closeFile(c.open[0])
		c.open = c.open[1:]
	}
}

func (l *Log) closeFile(seg *segment) {
	if err := seg.w.Close(); err != nil {
		l.o.Logger.Warn("wal: closing a written segment failed", "path", seg.path, "error", err)
	}
	seg.w = nil
}

// complete tells the outcome of the oldest group. After the first failure nothing is acknowledged, even if written.
func (c *committer) complete(g *group) {
	l := c.l
	c.inflight = append(c.inflight[:0], c.inflight[1:]...)
	if len(c.inflight) == 0 {
		c.probing = false
	}
	if g.err == nil && g.segment != nil {
		c.depth.observe(g.took, len(g.bytes()), g.solo)
		if c.l.mode != SyncDirect {
			c.depth.limit = 1 // one fdatasync would report, and clear, the error of another's write
		}
		l.depthLimit.Store(int32(c.depth.limit))
		c.closeBefore(g.segment)
		l.metrics.synced(g.took)
	}
	if l.o.Replicated {
		l.landed(g)
		c.awaiting = append(c.awaiting, g)
		return
	}
	c.tell(g)
}

// tell calls the completions of a group whose outcome is known.
func (c *committer) tell(g *group) {
	err := c.l.finish(g)
	for i, done := range g.completions {
		if done != nil {
			done.Committed(err)
		}
		g.completions[i] = nil
	}
	g.completions = g.completions[:0]
	c.retired = append(c.retired, g)
}

// takeGroup closes and returns the oldest group with entries. Otherwise it notes that the committer is idle and says
// whether the stream is at its end.
func (l *Log) takeGroup(c *committer) (g *group, finished bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = append(l.spare, c.retired...)
	c.retired = c.retired[:0]
	if len(l.closed) > 0 {
		g = l.closed[0]
		l.closed = append(l.closed[:0], l.closed[1:]...)
		return g, false
	}
	if l.cur != nil {
		return l.closeGroup(), false
	}
	l.idle.Store(true)
	return nil, (l.closing || l.err != nil) && l.admissions == 0
}

// finish does the accounting of a written group and returns what its completions shall be told.
func (l *Log) finish(g *group) error {
	l.mu.Lock()
	if g.err != nil {
		l.failLocked(g.err)
	}
	err := l.err
	if err == nil {
		if !l.o.Replicated {
			g.segment.committed(g.pos, g.end())
			l.extents.add(g)
		}
		l.groups.Add(1)
		l.entries.Add(uint64(len(g.completions)))
		l.bytes.Add(uint64(len(g.bytes())))
		l.durable.Store(uint64(g.end()))
	}
	g.slab.unwritten--
	g.slab.end, g.slab.lastUse = g.end(), time.Now()
	l.grantLocked()
	l.mu.Unlock()
	if err == nil {
		l.signal()
	}
	return err
}

func (l *Log) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// takePrepared returns the next segment if it is ready, and has another one made.
func (l *Log) takePrepared() *segment {
	l.mu.Lock()
	seg := l.prepared
	l.prepared = nil
	l.mu.Unlock()
	if seg != nil {
		l.segs.add(seg)
		select {
		case l.prepareWake <- struct{}{}:
		default:
		}
	}
	return seg
}

// giveUpIfFull ends a closing stream that has no room for its last groups.
func (l *Log) giveUpIfFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing && l.fullErr != nil {
		l.failLocked(l.fullErr)
	}
	return l.err != nil
}

// fail ends the stream from outside the committer.
func (l *Log) fail(cause error) {
	l.mu.Lock()
	l.failLocked(cause)
	l.mu.Unlock()
	l.notify()
}

// notify makes the committer look around.
func (l *Log) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
