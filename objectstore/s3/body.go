package s3

import (
	"errors"
	"sync/atomic"

	"github.com/tidemarkmq/tidemark/objectstore"
)

var errClosedBody = errors.New("the put has returned")

// sentBody reads a put's body for the HTTP client, watches how far it got, and shuts it off when the put returns: net/http
// may go on reading for a moment after a canceled request, when the caller has reused the bytes.
type sentBody struct {
	body   objectstore.Body
	turn   chan struct{} // held while reading; a channel, since reading may be I/O
	closed bool          // under turn
	sent   atomic.Int64  // one past the last byte that was read
	failed atomic.Pointer[error]
}

func newSentBody(body objectstore.Body) *sentBody {
	return &sentBody{body: body, turn: make(chan struct{}, 1)}
}

func (b *sentBody) ReadAt(p []byte, offset int64) (int, error) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if b.closed {
		return 0, errClosedBody
	}
	n, err := b.body.ReadAt(p, offset)
	end := offset + int64(n)
	if err != nil && end < b.body.Size() {
		b.failed.Store(&err)
	}
	b.sent.Store(max(b.sent.Load(), end))
	return n, err
}

// close waits for a read that is under way; there will be no other.
func (b *sentBody) close() {
	b.turn <- struct{}{}
	b.closed = true
	<-b.turn
}

// sentAll says whether the HTTP client was given the last byte.
func (b *sentBody) sentAll() bool { return b.sent.Load() >= b.body.Size() }

// failure is the error of the body itself, if it had one.
func (b *sentBody) failure() error {
	if err := b.failed.Load(); err != nil {
		return *err
	}
	return nil
}
