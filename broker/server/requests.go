package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

var be = binary.BigEndian

var errNoAnswer = errors.New("handler returned neither answer nor error")

// produce decodes a Produce request while it arrives and hands it over. The frame lives until the handler returns.
func (c *Conn) produce(size int, start time.Duration) error {
	s := c.srv
	budget := s.produceBudget
	if size > largeFrameBytes {
		budget = s.largeBudget
	}
	held, err := c.take(budget, size)
	if err != nil {
		return err
	}
	defer func() { budget.release(held) }()
	f := s.frames.Get(size)
	r := s.newReply(c, replyProduce, start)
	have, _ := c.br.Read(f.B[:wire.PrefixBytes]) // buffered since Conn.next
	h, err := c.dec.Decode(c.br, f.B, have, &r.produce)
	if err != nil {
		s.frames.Put(f)
		r.discard()
		return c.readError(err)
	}
	c.clientID = h.ClientID
	r.header = h
	queued := 0
	if n := len(r.produce.Parts); n > smallParts { // keep a part of the frame's memory for the partitions, until they are answered
		r.weight = min(held, int64(n)*partBytes)
		held -= r.weight
		r.budget = budget
		queued = n * partBytes
	}
	c.busy()
	c.enqueueCall(r, queued)
	s.opts.Handler.Produce(c.ctx, c, h, &r.call)
	c.idle() // r may be gone already
	s.frames.Put(f)
	budget.release(held) // before writing: a client that does not read must not hold it
	held = 0
	c.mu.Lock()
	c.current = nil
	c.mu.Unlock()
	return c.flush()
}

// control reads a whole frame, decodes it with kmsg and answers it.
func (c *Conn) control(h wire.Header, size int, start time.Duration) error {
	s := c.srv
	var frame *wire.Frame
	held := int64(0)
	if size > smallFrameBytes {
		var err error
		if held, err = c.take(s.controlBudget, size); err != nil {
			return err
		}
	}
	defer func() { s.controlBudget.release(held) }()
	var b []byte
	if h.Key == wire.KeyFetch { // holds no bytes of the frame after decoding
		frame = s.frames.Get(size)
		b = frame.B
	} else {
		b = make([]byte, size)
	}
	if _, err := io.ReadFull(c.br, b); err != nil {
		return c.readError(err)
	}
	h, body, err := wire.ParseHeader(b, c.clientID)
	if err != nil {
		return &closeError{kindMalformed, err}
	}
	c.clientID = h.ClientID
	if !wire.Accepts(h.Key, h.Version) { // only ApiVersions gets here
		r := s.newReply(c, replyBytes, start)
		r.header = h
		r.buf = wire.AppendUnsupportedApiVersions(r.buf[:0], h.CorrelationID)
		return c.answer(r, len(r.buf))
	}
	req, cost, err := c.decode(h, body)
	if err != nil {
		return err
	}
	if frame != nil {
		s.frames.Put(frame)
	}
	s.controlBudget.release(held)
	held = 0
	defer s.decodedBudget.release(cost)
	err = c.handle(h, req, start)
	if len(body) > keepFetchBytes || len(c.fetch.Topics) > keepFetchTopics {
		c.fetch = kmsg.FetchRequest{}
	}
	return err
}

// decode checks what decoding costs, takes that from the budget and decodes. cost is what the caller has to release.
func (c *Conn) decode(h wire.Header, body []byte) (req kmsg.Request, cost int64, err error) {
	s := c.srv
	estimate, err := wire.Check(h.Key, h.Version, body, s.opts.MaxDecodedBytes)
	if err != nil {
		return nil, 0, &closeError{kindMalformed, fmt.Errorf("API key %d version %d: %w", h.Key, h.Version, err)}
	}
	if estimate > smallDecodedBytes {
		if cost, err = c.take(s.decodedBudget, estimate); err != nil {
			return nil, 0, err
		}
	}
	if h.Key == wire.KeyFetch {
		req, err = &c.fetch, wire.DecodeFetch(&c.fetch, h.Version, body)
	} else {
		req = kmsg.RequestForKey(h.Key)
		req.SetVersion(h.Version)
		err = req.ReadFrom(body)
	}
	if err != nil {
		s.decodedBudget.release(cost)
		return nil, 0, &closeError{kindMalformed, fmt.Errorf("API key %d version %d: %w", h.Key, h.Version, err)}
	}
	return req, cost, nil
}

// handle calls the handler for a decoded request, on the reader goroutine, and answers.
func (c *Conn) handle(h wire.Header, req kmsg.Request, start time.Duration) error {
	s := c.srv
	c.busy()
	defer c.idle()
	if fetch, ok := req.(*kmsg.FetchRequest); ok {
		resp, err := s.opts.Handler.Fetch(c.waitCtx, c, h, fetch)
		if err != nil {
			return c.handlerError(h, err)
		}
		if resp == nil {
			return c.handlerError(h, errNoAnswer)
		}
		r := s.newReply(c, replyFetch, start)
		r.header, r.fetch = h, resp
		var size int
		r.vec, size = r.encoder.Encode(resp, h.Version, h.CorrelationID)
		return c.answer(r, size)
	}
	if av, ok := req.(*kmsg.ApiVersionsRequest); ok && h.Version >= 3 {
		if wire.ValidSoftware(av.ClientSoftwareName) && wire.ValidSoftware(av.ClientSoftwareVersion) {
			c.software.Store(&Software{Name: av.ClientSoftwareName, Version: av.ClientSoftwareVersion})
		}
	}
	resp, err := s.opts.Handler.Handle(c.waitCtx, c, h, req)
	if err != nil {
		return c.handlerError(h, err)
	}
	if resp == nil {
		return c.handlerError(h, errNoAnswer)
	}
	r := s.newReply(c, replyBytes, start)
	r.header = h
	resp.SetVersion(h.Version)
	r.buf = resp.AppendTo(wire.AppendResponseHeader(r.buf[:0], h))
	wire.FinishResponse(r.buf, 0, 0)
	return c.answer(r, len(r.buf))
}

// handlerError is why a handler gave up: because it was told to, or for a reason of its own.
func (c *Conn) handlerError(h wire.Header, err error) error {
	if c.waitCtx.Err() != nil {
		return context.Cause(c.waitCtx)
	}
	return &closeError{kindHandler, fmt.Errorf("%s: %w", kmsg.NameForKey(h.Key), err)}
}
