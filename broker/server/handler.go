// Package server owns the listeners and connections: it reads bounded frames, calls a Handler and writes the answers in the order of the
// requests. It knows bytes and budgets, nothing of topics.
package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

// Handler answers requests. All calls for one connection come one after the other from its reader goroutine, so a call that blocks stops
// the connection's further requests (as Kafka mutes a channel), but not the answers of earlier ones. A panic closes the connection.
type Handler interface {
	// Produce must not block beyond admission to the log. Records must be consumed before it returns. call.Done is to be called exactly
	// once, by any goroutine, when all parts are answered; it may happen before Produce returns. ctx ends with the connection, not when
	// the client has left after sending: with acks=0 it is not interested in an answer.
	Produce(ctx context.Context, c *Conn, h wire.Header, call *ProduceCall)
	// Fetch may block (long poll) until ctx is done: the client went away or the server is shutting down; then it answers with what it
	// has. The request is the handler's until it returns; topic names may be kept. An error closes the connection.
	Fetch(ctx context.Context, c *Conn, h wire.Header, req *kmsg.FetchRequest) (*wire.FetchResponse, error)
	// Handle answers everything else and may block until ctx is done. The request and all its bytes belong to the handler. The answer's
	// version is set by the server. An error closes the connection.
	Handle(ctx context.Context, c *Conn, h wire.Header, req kmsg.Request) (kmsg.Response, error)
}

// ProduceCall carries one Produce request and its answer.
type ProduceCall struct {
	Req *wire.Produce

	done func()
}

// NewProduceCall makes a call outside of a server, for tests of handlers: done is called by Done.
func NewProduceCall(req *wire.Produce, done func()) *ProduceCall {
	return &ProduceCall{Req: req, done: done}
}

// Done says that all parts of Req are answered; the caller must not touch Req afterwards. It never blocks and may be called by any
// goroutine, exactly once. With acks=0 nothing is written, and an error in any part closes the connection, as Kafka does.
func (c *ProduceCall) Done() { c.done() }
