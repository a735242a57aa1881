package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every error about request bytes that do not follow the protocol. Kafka closes the connection then.
var ErrMalformed = errors.New("malformed request")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

var errShort = malformed("ends too early")

// uvarint decodes an unsigned varint of up to 32 bits; n = 0 when b is too short, n < 0 when it is too long.
func uvarint(b []byte) (v uint32, n int) {
	var x uint64
	for i, c := range b {
		x |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if x > 1<<32-1 {
				return 0, -1
			}
			return uint32(x), i + 1
		}
		if i == 4 {
			return 0, -1
		}
	}
	return 0, 0
}

// cursor walks over bytes that are all there. The first failure sticks.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

// span takes n bytes.
func (c *cursor) span(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.fail(errShort)
		return nil
	}
	s := c.b[:n:n]
	c.b = c.b[n:]
	return s
}

func (c *cursor) int16() int16 {
	if s := c.span(2); s != nil {
		return int16(binary.BigEndian.Uint16(s))
	}
	return 0
}

func (c *cursor) int32() int32 {
	if s := c.span(4); s != nil {
		return int32(binary.BigEndian.Uint32(s))
	}
	return 0
}

func (c *cursor) uvarint() uint32 {
	v, n := uvarint(c.b)
	if n <= 0 {
		c.fail(errShort)
		return 0
	}
	c.b = c.b[n:]
	return v
}

// length reads the length of a string, byte array or array: −1 for null.
func (c *cursor) length(compact, wide bool) int {
	n := 0
	switch {
	case compact:
		n = int(c.uvarint()) - 1
	case wide:
		n = int(c.int32())
	default:
		n = int(c.int16())
	}
	if c.err == nil && n < -1 {
		c.fail(malformed("length %d", n))
	}
	return n
}
