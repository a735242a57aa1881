package server

import (
	"errors"
	"net"
	"time"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

var errSlowReader = errors.New("client does not read its answers")

// writeBatch writes c.batch in one gathered write and recycles it. The caller has c.writing. A Produce request with acks=0 writes
// nothing; one that failed closes the connection, which is how its client gets to know.
func (c *Conn) writeBatch() error {
	c.vec = c.vec[:0]
	err := c.gather()
	if len(c.vec) > 0 {
		if werr := c.write(); werr != nil {
			err = werr
		}
	}
	c.endBatch(err)
	c.endWrite()
	return err
}

// gather puts what c.batch has to say into c.vec: the answers to Produce that follow one another as one piece.
func (c *Conn) gather() error {
	c.answers = c.answers[:0]
	for i := 0; i < len(c.batch); i++ {
		switch r := c.batch[i]; r.kind {
		case replyFetch:
			c.vec = append(c.vec, r.vec...)
		case replyBytes:
			c.vec = append(c.vec, r.buf)
		case replyProduce:
			at := len(c.answers)
			var err error
			for err == nil && i < len(c.batch) && c.batch[i].kind == replyProduce {
				err = c.addAnswer(c.batch[i])
				i++
			}
			i--
			if at < len(c.answers) { // if it moves when it grows later, what is here stays as it is
				c.vec = append(c.vec, c.answers[at:])
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// addAnswer appends the answer to a Produce request to c.answers, or says that the connection has to be closed instead.
func (c *Conn) addAnswer(r *reply) error {
	switch {
	case r.produce.Acks != 0:
		c.answers = wire.AppendProduceResponse(c.answers, r.header.CorrelationID, &r.produce)
	case r.produce.HasError():
		return &closeError{kindAcks0, errors.New("produce with acks=0 failed")}
	}
	return nil
}

// endBatch counts and recycles the replies of c.batch.
func (c *Conn) endBatch(err error) {
	now := c.srv.now()
	for i, r := range c.batch {
		if err == nil {
			c.srv.metrics.answered(r.header.Key, now-r.start)
		}
		r.discard()
		c.batch[i] = nil
	}
	c.batch = c.batch[:0]
}

// endWrite lets go of what was written, and of scratch that grew large.
func (c *Conn) endWrite() {
	clear(c.vec)
	c.buffer = nil
	if cap(c.vec) > 4096 {
		c.vec = nil
	}
	if cap(c.answers) > keepReplyBytes {
		c.answers = nil
	}
}

// write writes c.vec. While it lasts, the janitor may interrupt it; it then goes on in pieces.
func (c *Conn) write() error {
	size := 0
	for _, b := range c.vec {
		size += len(b)
	}
	c.writeSince.Store(int64(c.srv.now()))
	var err error
	if len(c.vec) == 1 {
		var n int
		n, err = c.nc.Write(c.vec[0])
		c.vec[0] = c.vec[0][n:]
		c.buffer = c.vec
	} else {
		c.buffer = c.vec
		_, err = c.buffer.WriteTo(c.nc)
	}
	if isTimeout(err) { // only the janitor sets a deadline here, perhaps a moment too late for the write that it meant
		err = c.writeSlowly()
	}
	if c.writeSince.Swap(0) == interrupted {
		_ = c.nc.SetWriteDeadline(time.Time{})
	}
	if err == nil {
		c.srv.metrics.bytesOut.Add(int64(size))
	}
	return err
}

// writeSlowly continues an interrupted write. Records are pinned in memory that the log wants back, so what is left of them is copied
// first, which the memory budget must allow. Then every piece has WriteTimeout for some progress. (A TLS connection could not be
// continued after an interrupted write.)
func (c *Conn) writeSlowly() error {
	s := c.srv
	if pinned := c.pinned(); pinned {
		left := 0
		for _, b := range c.buffer {
			left += len(b)
		}
		if !s.decodedBudget.try(s.decodedBudget.cap(left)) {
			return &closeError{kindSlowReader, errSlowReader}
		}
		defer s.decodedBudget.release(s.decodedBudget.cap(left))
		rest := make([]byte, 0, left)
		for _, b := range c.buffer {
			rest = append(rest, b...)
		}
		c.buffer = net.Buffers{rest}
		for _, r := range c.batch {
			r.releaseFetch()
		}
	}
	for _, b := range c.buffer {
		for len(b) > 0 {
			n, err := c.writePiece(b[:min(len(b), slowPieceBytes)])
			if err != nil {
				return err
			}
			b = b[n:]
		}
	}
	return nil
}

func (c *Conn) pinned() bool {
	for _, r := range c.batch {
		if r.fetch != nil && r.fetch.Release != nil {
			return true
		}
	}
	return false
}

// writePiece writes some of p within WriteTimeout.
func (c *Conn) writePiece(p []byte) (int, error) {
	timeout := c.srv.opts.WriteTimeout
	began := c.srv.now()
	for {
		if err := c.nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return 0, err
		}
		n, err := c.nc.Write(p)
		switch {
		case n > 0 && (err == nil || isTimeout(err)):
			return n, nil
		case err == nil || !isTimeout(err):
			return n, err
		case c.srv.now()-began >= timeout:
			return 0, &closeError{kindSlowReader, errSlowReader}
		}
		// The janitor's interruption came late and hit this piece.
	}
}
