package server

import (
	"time"
)

// clean looks after all connections until stop is closed: deadlines, clients that left during a long poll, stuck writes, unused frames.
// One timer for all costs the hot path two stores per request; a deadline per connection would cost a timer update per read and write.
func (s *Server) clean(stop <-chan struct{}) {
	every := min(time.Second, s.opts.IdleTimeout/4, s.opts.FrameTimeout/4, s.opts.WriteTimeout/4)
	tick := time.NewTicker(max(every, 10*time.Millisecond))
	defer tick.Stop()
	var conns []*Conn
	trimAt := s.now() + warnEvery
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		now := s.now()
		conns = s.snapshot(conns[:0])
		for _, c := range conns {
			c.inspect(now)
		}
		clear(conns)
		if now >= trimAt {
			s.frames.Trim()
			trimAt = now + warnEvery
		}
	}
}

// inspect is the janitor's look at one connection.
func (c *Conn) inspect(now time.Duration) {
	if at := c.deadline.Load(); at != 0 && int64(now) > at {
		c.overdue(now)
	}
	if c.stalled(now) {
		c.kill(&closeError{kindSlowFrame, nil})
	}
	if since := c.busySince.Load(); since != 0 && int64(now)-since > int64(peerCheckAfter) && peerLeft(c.nc) {
		c.endWaits(errPeerLeft)
	}
	if since := c.writeSince.Load(); since > 0 && int64(now)-since > int64(slowWriteAfter) && c.writeSince.CompareAndSwap(since, interrupted) {
		_ = c.nc.SetWriteDeadline(time.Unix(1, 0)) // the writer goes on in pieces
	}
}

// stalled tells whether the client has begun a frame and sent no byte of it for long: it holds memory for nothing.
func (c *Conn) stalled(now time.Duration) bool {
	n := c.arriving.bytes.Load()
	if n != c.seenBytes || !c.inFrame.Load() || c.deadline.Load() == 0 { // the last: the reader is busy with something of ours
		c.seenBytes, c.seenAt = n, int64(now)
		return false
	}
	return int64(now)-c.seenAt > int64(stallAfter)
}

// overdue closes a connection that has been silent for too long, unless it waits for answers of ours.
func (c *Conn) overdue(now time.Duration) {
	if !c.inFrame.Load() {
		c.mu.Lock()
		waiting := len(c.queue) > c.head
		c.mu.Unlock()
		if waiting {
			c.deadline.Store(int64(now + c.srv.opts.IdleTimeout))
			return
		}
		c.kill(&closeError{kindIdle, nil})
		return
	}
	c.kill(&closeError{kindSlowFrame, nil})
}
