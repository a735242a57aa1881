package s3

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

var errClosedBody = errors.New("the put has returned")

const (
	// writeBytes is how much of a body in memory one write takes; StallTimeout is for each.
	writeBytes = 1 << 20
	// bufferBytes is how much of any other body is copied for a write.
	bufferBytes = 256 << 10
)

var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// sentBody reads a put's body for the HTTP client, watches how far it got, and shuts it off when the put returns: net/http
// may go on sending for a moment after a canceled request, when the caller has reused the bytes.
type sentBody struct {
	body   objectstore.Body
	size   int64
	turn   chan struct{} // held while the body's bytes are in use; a channel, since that may be I/O
	sent   atomic.Int64  // one past the last byte that was read
	failed atomic.Pointer[error]

	mu     sync.Mutex // held for a moment only
	closed bool
	conn   *stallConn // that the body's own memory is being written to, if any
}

func newSentBody(body objectstore.Body) *sentBody {
	return &sentBody{body: body, size: body.Size(), turn: make(chan struct{}, 1)}
}

func (b *sentBody) ReadAt(p []byte, offset int64) (int, error) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if !b.use(nil) {
		return 0, errClosedBody
	}
	n, err := b.body.ReadAt(p, offset)
	end := offset + int64(n)
	if err != nil && end < b.size {
		b.failed.Store(&err)
	}
	b.sent.Store(max(b.sent.Load(), end))
	return n, err
}

// use says whether the body is still open, and notes the connection that will be given its memory.
func (b *sentBody) use(conn *stallConn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	if b.conn = conn; conn != nil {
		_ = conn.extend() // a connection that takes no deadline takes no bytes either
	}
	return true
}

// writeStretch writes some bytes from offset on, at least one, straight from the body's memory.
func (b *sentBody) writeStretch(conn *stallConn, memory objectstore.Stretches, offset, limit int64) (int, error) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if !b.use(conn) {
		return 0, errClosedBody
	}
	defer b.use(nil)
	p := memory.Stretch(offset)
	p = p[:min(int64(len(p)), limit, writeBytes)]
	// Before the write, since the server may have the bytes before this goroutine goes on.
	b.sent.Store(max(b.sent.Load(), offset+int64(len(p))))
	return conn.Conn.Write(p)
}

// close waits for a use that is under way, breaking off a write; there will be no other.
func (b *sentBody) close() {
	b.mu.Lock()
	b.closed = true
	if b.conn != nil {
		_ = b.conn.SetWriteDeadline(time.Unix(1, 0)) // the write fails at once
	}
	b.mu.Unlock()
	b.turn <- struct{}{}
	<-b.turn
}

// sentAll says whether the HTTP client was given the last byte.
func (b *sentBody) sentAll() bool { return b.sent.Load() >= b.size }

// failure is the error of the body itself, if it had one.
func (b *sentBody) failure() error {
	if err := b.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// stream is a sentBody from its front to its end. The HTTP client gets it as a request's body, and stallConn.ReadFrom knows it
// again: what lies in memory then goes from there to the kernel, without a copy.
type stream struct {
	body   *sentBody
	offset int64
}

// Read copies. It is for the start of the body, which shares a write with the request's head, and for TLS.
func (s *stream) Read(p []byte) (int, error) {
	if s.offset >= s.body.size {
		return 0, io.EOF
	}
	n, err := s.body.ReadAt(p[:min(int64(len(p)), s.body.size-s.offset)], s.offset)
	s.offset += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Seek is for minio-go, which goes back to the start before it sends.
func (s *stream) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart || offset < 0 || offset > s.body.size {
		return 0, fmt.Errorf("seek a body to %d, whence %d", offset, whence)
	}
	s.offset = offset
	return offset, nil
}

// Close does nothing: a body is closed when its put returns.
func (s *stream) Close() error { return nil }

// send writes at most limit of the bytes that are left to the connection.
func (s *stream) send(conn *stallConn, limit int64) (sent int64, err error) {
	limit = min(limit, s.body.size-s.offset)
	memory, _ := s.body.body.(objectstore.Stretches)
	var buffer *[bufferBytes]byte
	if memory == nil && limit > 0 {
		buffer = buffers.Get().(*[bufferBytes]byte)
		defer buffers.Put(buffer)
	}
	for sent < limit && err == nil {
		var n int
		if memory != nil {
			n, err = s.body.writeStretch(conn, memory, s.offset, limit-sent)
			s.offset += int64(n)
		} else {
			n, err = s.Read(buffer[:min(int64(len(buffer)), limit-sent)])
			if n > 0 && err == nil {
				n, err = conn.Write(buffer[:n])
			}
		}
		sent += int64(n)
		if n == 0 && err == nil {
			err = io.ErrNoProgress
		}
	}
	return sent, err
}
