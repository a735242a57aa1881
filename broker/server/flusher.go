package server

import (
	"runtime"
	"sync/atomic"
)

// flusher writes answers to Produce requests, which become ready on the log's committer, for many connections: one after the other with
// writes that never wait, so that a group of a thousand requests costs the committer one wake-up instead of a thousand, and the scheduler
// one goroutine. What a socket does not take at once is left to the connection's own writer goroutine. There is one flusher per processor,
// and each connection keeps to one.
type flusher struct {
	head atomic.Pointer[Conn] // a stack, linked by Conn.nextFlush
	wake chan struct{}
	_    [48]byte // a cache line for each
}

func newFlushers() []flusher {
	f := make([]flusher, runtime.GOMAXPROCS(0))
	for i := range f {
		f[i].wake = make(chan struct{}, 1)
	}
	return f
}

// push has c flushed soon. It does not block.
func (f *flusher) push(c *Conn) {
	if !c.onFlusher.CompareAndSwap(false, true) {
		return // on the stack: its flush is still to come
	}
	for {
		first := f.head.Load()
		c.nextFlush = first
		if !f.head.CompareAndSwap(first, c) {
			continue
		}
		if first == nil {
			select {
			case f.wake <- struct{}{}:
			default:
			}
		}
		return
	}
}

// run flushes until stop is closed.
func (f *flusher) run(stop <-chan struct{}) {
	for {
		select {
		case <-f.wake:
			f.flush()
		case <-stop:
			f.flush()
			return
		}
	}
}

// flush takes all connections off the stack and writes their answers, first come first served.
func (f *flusher) flush() {
	var first *Conn
	for c := f.head.Swap(nil); c != nil; {
		next := c.nextFlush
		c.nextFlush = first
		first, c = c, next
	}
	for c := first; c != nil; {
		next := c.nextFlush
		c.nextFlush = nil
		c.onFlusher.Store(false) // before looking: what becomes ready from now on comes again
		if err := c.flushNow(); err != nil {
			c.kill(err)
		}
		c = next
	}
}

// flushNow is flush without waiting: for answers to Produce, as far as the socket takes them. The rest, and other answers, are for the
// writer goroutine.
func (c *Conn) flushNow() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.writing && !c.closed {
		c.popReady(true)
		if len(c.batch) == 0 {
			if c.head < len(c.queue) && c.queue[c.head].ready {
				c.wakeWriter()
			}
			return nil
		}
		c.writing = true
		c.mu.Unlock()
		queued := c.batchBytes()
		rest, err := c.tryBatch()
		c.mu.Lock()
		c.queuedBytes -= queued
		if len(rest) > 0 && err == nil && !c.closed {
			c.rest = rest
			c.wakeWriter()
			return nil
		}
		c.writing = false
		c.signalRoom()
		if err != nil {
			return err
		}
	}
	return nil
}

// tryBatch writes c.batch, which holds only answers to Produce, as far as the socket takes it, recycles it and returns what is left.
func (c *Conn) tryBatch() (rest []byte, err error) {
	c.answers = c.answers[:0]
	for _, r := range c.batch {
		if err = c.addAnswer(r); err != nil {
			break
		}
	}
	n := 0
	if len(c.answers) > 0 {
		var werr error
		if n, werr = c.sock.try(c.answers); werr != nil {
			err = werr
		}
		c.srv.metrics.bytesOut.Add(int64(n))
	}
	c.endBatch(err)
	rest = c.answers[n:]
	if len(rest) == 0 {
		c.endWrite()
	}
	return rest, err
}
