package null

import (
	"encoding/binary"
	"errors"
	"net"
)

var be = binary.BigEndian

// readBytes is what one read takes at most, which stays in the second-level cache.
const readBytes = 256 << 10

const maxFrameBytes = 128 << 20

var errProtocol = errors.New("unexpected bytes")

// conn reads a request, throws it away and answers, on one goroutine. Answers are gathered until it would have to wait for more input.
type conn struct {
	b         *Broker
	nc        net.Conn
	in        []byte
	from, to  int    // in[from:to] is read and not consumed
	remaining int    // of the frame, beyond from
	out       []byte // answers not yet written
	aside     []byte // the answer that is being built
	vec       net.Buffers
	err       error
	last      *topic
}

// need makes n bytes available at from; n is small.
func (c *conn) need(n int) bool {
	for c.err == nil && c.to-c.from < n {
		c.fill()
	}
	return c.err == nil
}

func (c *conn) fill() {
	if len(c.out) > 0 {
		if _, c.err = c.nc.Write(c.out); c.err != nil {
			return
		}
		c.out = c.out[:0]
	}
	if c.from == c.to {
		c.from, c.to = 0, 0
	} else if c.from > len(c.in)-(4<<10) {
		c.to = copy(c.in, c.in[c.from:c.to])
		c.from = 0
	}
	var n int
	n, c.err = c.nc.Read(c.in[c.to:])
	c.to += n
	if n > 0 {
		c.err = nil
	}
}

// span takes n bytes of the frame; valid until the next call.
func (c *conn) span(n int) []byte {
	if n < 0 || n > c.remaining || n > 2<<10 {
		c.err = errProtocol
	}
	if !c.need(n) {
		return nil
	}
	s := c.in[c.from : c.from+n]
	c.from += n
	c.remaining -= n
	return s
}

// skip throws n bytes of the frame away.
func (c *conn) skip(n int) {
	if n < 0 || n > c.remaining {
		c.err = errProtocol
	}
	for n > 0 && c.err == nil {
		if c.from == c.to {
			c.fill()
			continue
		}
		k := min(n, c.to-c.from)
		c.from += k
		c.remaining -= k
		n -= k
	}
}

func (c *conn) int16() int16 {
	if s := c.span(2); s != nil {
		return int16(be.Uint16(s))
	}
	return 0
}

func (c *conn) int32() int32 {
	if s := c.span(4); s != nil {
		return int32(be.Uint32(s))
	}
	return 0
}

func (c *conn) uvarint() int {
	v := 0
	for shift := 0; shift < 35; shift += 7 {
		s := c.span(1)
		if s == nil {
			return 0
		}
		v |= int(s[0]&0x7f) << shift
		if s[0] < 0x80 {
			return v
		}
	}
	c.err = errProtocol
	return 0
}

func (c *conn) tags() {
	for n := c.uvarint(); n > 0 && c.err == nil; n-- {
		c.uvarint()
		c.skip(c.uvarint())
	}
}

// length reads a length: −1 for null.
func (c *conn) length(compact bool, wide bool) int {
	switch {
	case compact:
		return c.uvarint() - 1
	case wide:
		return int(c.int32())
	}
	return int(c.int16())
}

func (c *conn) serve() {
	for c.err == nil {
		c.remaining = 12
		head := c.span(12)
		if head == nil {
			return
		}
		size := int(be.Uint32(head)) - 8
		key, version, correlation := int16(be.Uint16(head[4:])), int16(be.Uint16(head[6:])), be.Uint32(head[8:])
		if size < 0 || size > maxFrameBytes {
			return
		}
		c.remaining = size
		switch key {
		case keyProduce:
			c.produce(version, correlation)
		default:
			c.other(key, version, correlation)
		}
		if c.err == nil {
			c.skip(c.remaining)
		}
	}
}
