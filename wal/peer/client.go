package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	redialFirst = 50 * time.Millisecond
	redialMost  = time.Second
)

// ClientOptions configure a Client.
type ClientOptions struct {
	Self   Identity
	Broker int32  // whom to reach
	Disk   string // of that broker; another one refuses
	// Dial is called by Run for each attempt; ctx ends with the attempt.
	Dial   func(ctx context.Context) (net.Conn, error)
	TLS    *tls.Config // with a certificate and ServerName; nil: none
	Timing Timing
	Logger *slog.Logger // nil: discard
}

// Client is access to one other broker's replicas. Run keeps a connection and redials with backoff, 50 ms to 1 s; requests are not repeated. A request
// waits until there is a connection; when an attempt to make one fails meanwhile, it fails with the attempt's error. Methods may be called
// concurrently.
//
// Errors of requests: those of wal.Replicas, as *RemoteError; ErrRefused (no use in trying until something changes); ErrDisconnected and anything else
// of the network; the cause of ctx. After the latter two the request may or may not have been carried out.
type Client struct {
	o ClientOptions

	mu      sync.Mutex
	cur     *conn
	changed chan struct{} // closed when an attempt is over
	failed  error         // of the latest attempt
	ended   bool
}

// NewClient checks the options. It starts nothing.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		return nil, errors.New("peer client: Dial is needed")
	}
	wanted := Identity{Cluster: o.Self.Cluster, Broker: o.Broker, Disk: o.Disk}
	if err := errors.Join(o.Self.check(), wanted.check(), o.Timing.setDefaults()); err != nil {
		return nil, err
	}
	return &Client{o: o, changed: make(chan struct{})}, nil
}

// Run keeps the connection until ctx is done. Then all requests have ended.
func (c *Client) Run(ctx context.Context) error {
	defer func() {
		c.mu.Lock()
		c.ended = true
		c.mu.Unlock()
		c.attempted(nil, fmt.Errorf("%w: the client has ended", ErrDisconnected))
	}()
	pause, last := redialFirst, ""
	for ctx.Err() == nil {
		k, err := c.connect(ctx)
		if err == nil {
			c.o.Logger.Info("connected to a broker with replicas", "broker", c.o.Broker)
			c.attempted(k, nil)
			began := time.Now()
			err = k.run(ctx)
			c.attempted(nil, err)
			if time.Since(began) > redialMost {
				pause, last = redialFirst, ""
			}
		} else {
			c.attempted(nil, err)
		}
		if ctx.Err() != nil {
			break
		}
		if text := err.Error(); text != last {
			c.o.Logger.Warn("no connection to a broker with replicas; trying again", "broker", c.o.Broker, "error", err)
			last = text
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause + rand.N(pause/4)):
		}
		pause = min(2*pause, redialMost)
	}
	return nil
}

// Connected says whether there is a connection at present; if not, err is why the latest one is not there, if one was tried.
func (c *Client) Connected() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cur != nil, c.failed
}

// attempted tells those who wait.
func (c *Client) attempted(k *conn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cur, c.failed = k, err
	close(c.changed)
	c.changed = make(chan struct{})
}

// connection waits for one.
func (c *Client) connection(ctx context.Context) (*conn, error) {
	for waited := false; ; waited = true {
		c.mu.Lock()
		k, err, changed := c.cur, c.failed, c.changed
		give := k != nil || c.ended || waited && err != nil
		c.mu.Unlock()
		if give {
			if k != nil {
				err = nil
			}
			return k, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("peer: broker %d: %w", c.o.Broker, context.Cause(ctx))
		}
	}
}

// connect dials and shakes hands.
func (c *Client) connect(ctx context.Context) (*conn, error) {
	limit, cancel := context.WithTimeout(ctx, c.o.Timing.Timeout)
	defer cancel()
	raw, err := c.o.Dial(limit)
	if err != nil {
		return nil, fmt.Errorf("%w: broker %d: dial: %w", ErrDisconnected, c.o.Broker, err)
	}
	stop := context.AfterFunc(limit, func() { raw.Close() })
	k, err := c.hello(limit, raw)
	if !stop() && err == nil {
		err = fmt.Errorf("%w: %w", ErrDisconnected, context.Cause(limit))
	}
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("broker %d: %w", c.o.Broker, err)
	}
	return k, nil
}

func (c *Client) hello(ctx context.Context, raw net.Conn) (*conn, error) {
	conn := raw
	if c.o.TLS != nil {
		secure := tls.Client(raw, c.o.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("%w: TLS: %w", ErrDisconnected, err)
		}
		conn = secure
	}
	h := hello{Lowest: protocolVersion, Highest: protocolVersion, From: c.o.Self, Broker: c.o.Broker, Disk: c.o.Disk}
	if _, err := conn.Write(h.put()); err != nil {
		return nil, fmt.Errorf("%w: hello: %w", ErrDisconnected, err)
	}
	b, err := readHello(conn)
	if err != nil {
		return nil, fmt.Errorf("%w: hello: %w", ErrDisconnected, err)
	}
	w, err := parseWelcome(b)
	if err == nil {
		err = w.judge(h)
	}
	if err != nil {
		return nil, err
	}
	return newConn(c.o.Broker, newLink(raw, conn, c.o.Timing), w.Limits), nil
}
