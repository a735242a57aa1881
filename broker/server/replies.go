package server

import (
	"time"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

type replyKind uint8

const (
	replyProduce replyKind = iota
	replyFetch
	replyBytes
)

// reply is a place in a connection's queue of answers. It is pooled; whoever takes it off the queue recycles it.
type reply struct {
	conn   *Conn
	kind   replyKind
	header wire.Header
	start  time.Duration
	size   int // queued bytes that it stands for

	ready   bool    // guarded by conn.mu
	counted bool    // as in flight
	weight  int64   // held of budget until written; guarded by conn.mu while queued
	budget  *budget // nil = nothing held

	call    ProduceCall
	produce wire.Produce
	fetch   *wire.FetchResponse
	encoder wire.FetchEncoder
	vec     [][]byte
	buf     []byte
}

func (s *Server) newReply(c *Conn, kind replyKind, start time.Duration) *reply {
	r, ok := s.replies.Get().(*reply)
	if !ok {
		r = &reply{}
		r.call = ProduceCall{Req: &r.produce, done: r.done}
	}
	r.conn, r.kind, r.start = c, kind, start
	return r
}

// abandon is for a Produce call that is not done when its connection ends; conn.mu is held.
func (r *reply) abandon() {
	r.count(-1)
	r.letGo()
}

// count keeps the number of requests in flight.
func (r *reply) count(by int64) {
	if r.counted != (by > 0) {
		r.counted = by > 0
		r.conn.srv.metrics.inFlight.Add(by)
	}
}

// letGo gives back what r holds of the memory budget.
func (r *reply) letGo() {
	if r.budget != nil {
		r.budget.release(r.weight)
		r.budget, r.weight = nil, 0
	}
}

// releaseFetch lets go of the records, once.
func (r *reply) releaseFetch() {
	if f := r.fetch; f != nil {
		r.fetch, r.vec = nil, nil
		r.encoder.Reset()
		if f.Release != nil {
			f.Release()
		}
	}
}

// discard ends r: written, or never to be.
func (r *reply) discard() {
	s := r.conn.srv
	r.count(-1)
	r.letGo()
	r.releaseFetch()
	r.produce.Reset()
	r.conn, r.ready, r.size, r.header = nil, false, 0, wire.Header{}
	if cap(r.buf) > keepReplyBytes {
		r.buf = nil
	}
	s.replies.Put(r)
}

// done is ProduceCall.Done: on any goroutine, must not block.
func (r *reply) done() {
	c := r.conn
	c.mu.Lock()
	if r.ready {
		c.mu.Unlock()
		panic("server: ProduceCall.Done called twice")
	}
	r.ready = true
	if c.closed {
		c.mu.Unlock()
		r.discard()
		return
	}
	if c.queue[c.head] != r || r == c.current || c.writing {
		c.mu.Unlock()
		return
	}
	if c.flusher != nil {
		c.mu.Unlock()
		c.flusher.push(c)
		return
	}
	c.wakeWriter()
	c.mu.Unlock()
}

// wakeWriter has the writer goroutine look at the queue; c.mu is held and the connection is not closed.
func (c *Conn) wakeWriter() {
	if !c.writer { // idle consumers have none
		c.writer = true
		c.srv.wg.Add(1)
		go c.writeLoop()
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// enqueueCall gives a Produce request its place before the handler may call Done.
func (c *Conn) enqueueCall(r *reply, queuedBytes int) {
	r.size = queuedBytes
	c.mu.Lock()
	c.push(r)
	c.current = r
	c.mu.Unlock()
}

// answer queues a ready reply and writes it at once if nothing is outstanding before it.
func (c *Conn) answer(r *reply, sizeBytes int) error {
	r.size = sizeBytes
	c.mu.Lock()
	r.ready = true
	c.push(r)
	c.mu.Unlock()
	return c.flush()
}

// push appends to the queue; c.mu is held.
func (c *Conn) push(r *reply) {
	if c.head > 0 && len(c.queue) == cap(c.queue) {
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
	r.count(1)
	c.queue = append(c.queue, r)
	c.queuedBytes += r.size
}

// popReady moves the ready head of the queue to c.batch, or only the answers to Produce in it; c.mu is held and c.writing is the caller's.
func (c *Conn) popReady(onlyProduce bool) {
	c.batch = c.batch[:0]
	for c.head < len(c.queue) && c.queue[c.head].ready && len(c.batch) < maxBatch {
		if onlyProduce && c.queue[c.head].kind != replyProduce {
			break
		}
		c.batch = append(c.batch, c.queue[c.head])
		c.queue[c.head] = nil
		c.head++
	}
	if c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	}
}

// flush writes all ready replies at the head of the queue, unless somebody else is at it, who then does it. On an error the connection is
// of no use any more.
func (c *Conn) flush() error {
	c.mu.Lock()
	for !c.writing && !c.closed {
		c.writing = true
		c.popReady(false)
		if len(c.batch) == 0 {
			c.writing = false
			break
		}
		c.mu.Unlock()
		queued := c.batchBytes()
		err := c.writeBatch()
		c.mu.Lock()
		c.writing = false
		c.queuedBytes -= queued
		c.signalRoom()
		if err != nil {
			c.mu.Unlock()
			return err
		}
	}
	c.mu.Unlock()
	return nil
}

// batchBytes is what the replies in c.batch stand for in queuedBytes.
func (c *Conn) batchBytes() int {
	n := 0
	for _, r := range c.batch {
		n += r.size
	}
	return n
}

// signalRoom tells the reader goroutine that the queue got shorter.
func (c *Conn) signalRoom() {
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// writeLoop is the writer goroutine: it writes what became ready while the reader goroutine does something else, where no flusher does.
func (c *Conn) writeLoop() {
	defer c.srv.wg.Done()
	for {
		select {
		case <-c.wake:
			err := c.resume()
			if err == nil {
				err = c.flush()
			}
			if err != nil {
				c.kill(err)
			}
		case <-c.dead:
			return
		}
	}
}

// resume writes what a flusher has left, if anything.
func (c *Conn) resume() error {
	c.mu.Lock()
	rest := c.rest
	c.rest = nil
	c.mu.Unlock()
	if rest == nil {
		return nil
	}
	c.vec = append(c.vec[:0], rest)
	err := c.write()
	c.endWrite()
	c.mu.Lock()
	c.writing = false
	c.signalRoom()
	c.mu.Unlock()
	return err
}
