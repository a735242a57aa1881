// Package raw speaks just enough of the Kafka protocol to load a broker with little work of its own: producers patch and send
// batches that were built beforehand, consumers check batches where they lie in the frame. It follows no leader that moves and
// retries nothing: such a run fails.
package raw

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/tidemarkmq/tidemark/loadtest/bench/access"
)

// Versions of the requests that are sent; every broker since Kafka 2.8 knows them.
const (
	produceVersion = 9
	fetchVersion   = 12
)

const (
	maxFrameBytes  = 1 << 30
	readBytes      = 64 << 10
	setupTimeout   = 30 * time.Second
	clientID       = "tidemark-bench"
	correlationLen = 4
)

var be = binary.BigEndian

// conn is a connection; one goroutine may write while another reads.
type conn struct {
	nc     net.Conn
	r      *bufio.Reader
	format *kmsg.RequestFormatter
}

func dial(ctx context.Context, a access.Access, address string) (*conn, error) {
	nc, err := a.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	c := &conn{nc, bufio.NewReaderSize(nc, readBytes), kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID))}
	if a.SASL != nil {
		if err := c.authenticate(ctx, a.SASL, address); err != nil {
			_ = nc.Close() // the error says more
			return nil, fmt.Errorf("authenticate at %s: %w", address, err)
		}
	}
	return c, nil
}

func (c *conn) authenticate(ctx context.Context, m sasl.Mechanism, address string) error {
	shake := kmsg.NewPtrSASLHandshakeRequest()
	shake.Version, shake.Mechanism = 1, m.Name()
	shook := kmsg.NewPtrSASLHandshakeResponse()
	shook.Version = 1
	if err := c.ask(shake, shook); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(shook.ErrorCode); err != nil {
		return err
	}
	session, message, err := m.Authenticate(ctx, address)
	for done := false; err == nil && !done; {
		auth := kmsg.NewPtrSASLAuthenticateRequest()
		auth.Version, auth.SASLAuthBytes = 1, message
		answer := kmsg.NewPtrSASLAuthenticateResponse()
		answer.Version = 1
		if err := c.ask(auth, answer); err != nil {
			return err
		}
		if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
			return err
		}
		if done, message, err = session.Challenge(answer.SASLAuthBytes); done && message == nil {
			return err
		}
	}
	return err
}

// ask sends a request and waits for its answer. For the time before load begins.
func (c *conn) ask(req kmsg.Request, resp kmsg.Response) error {
	if err := c.nc.SetDeadline(time.Now().Add(setupTimeout)); err != nil {
		return err
	}
	if _, err := c.nc.Write(c.format.AppendRequest(nil, req, 0)); err != nil {
		return err
	}
	frame, err := c.frame(nil)
	if err != nil {
		return err
	}
	body := frame[correlationLen:]
	if resp.IsFlexible() {
		if len(body) == 0 {
			return io.ErrUnexpectedEOF
		}
		body = body[1:] // no tags
	}
	if err := resp.ReadFrom(body); err != nil {
		return err
	}
	return c.nc.SetDeadline(time.Time{})
}

// frame reads the next frame, into buf if that is large enough.
func (c *conn) frame(buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, err
	}
	n := int(be.Uint32(head[:]))
	if n < correlationLen || n > maxFrameBytes {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	if cap(buf) < n {
		buf = make([]byte, n+n/4)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(c.r, buf); err != nil {
		return nil, err
	}
	return buf, nil
}

// closedByUs tells whether a connection failed only because its owner closed it.
func closedByUs(err error) bool { return errors.Is(err, net.ErrClosed) }
