package broker

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

// pipeListener accepts connections made inside the process.
type pipeListener struct {
	addr   net.Addr
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	dead  bool
	conns []net.Conn
}

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

func newPipeListener(addr string) *pipeListener {
	return &pipeListener{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)), accept: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return l.addr }

// kill breaks every connection, as a machine that loses its power does.
func (l *pipeListener) kill() {
	_ = l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

func (l *pipeListener) dial() (net.Conn, error) {
	client, server := net.Pipe()
	l.mu.Lock()
	dead := l.dead
	if !dead {
		l.conns = append(l.conns, client, server)
	}
	l.mu.Unlock()
	if !dead {
		select {
		case l.accept <- server:
			return client, nil
		case <-l.closed:
		case <-time.After(10 * time.Second):
		}
	}
	_, _ = client.Close(), server.Close()
	return nil, errRefused
}

// client is a Kafka client of one connection and one request at a time. It connects again after every error.
type client struct {
	w    *world
	to   *run // nil: the newest
	name string
	conn net.Conn
	br   *bufio.Reader
	corr int32
	f    *kmsg.RequestFormatter
}

func (w *world) client(name string) *client {
	return &client{w: w, name: name, f: kmsg.NewRequestFormatter(kmsg.FormatterClientID(name))}
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// spoken are the versions of requests that name topics by name; of others the client speaks the newest that the broker does.
var spoken = map[int16]int16{0: 12, 1: 12, 8: 9, 9: 9}

func version(key int16) int16 {
	if v, ok := spoken[key]; ok {
		return v
	}
	a, _ := wire.LookupAPI(key)
	return a.Max
}

// answerWaitMax is how long a client waits for an answer before it takes the connection for dead.
const answerWaitMax = 40 * time.Second

// call sends a request and returns its answer. With an error the outcome is unknown.
func (c *client) call(req kmsg.Request) (kmsg.Response, error) {
	resp, err := c.tryCall(req)
	if err != nil {
		c.close()
	}
	return resp, err
}

func (c *client) tryCall(req kmsg.Request) (kmsg.Response, error) {
	if c.conn == nil {
		to := c.to
		if to == nil {
			to = c.w.current()
		}
		if to == nil {
			return nil, errRefused
		}
		conn, err := to.listener.dial()
		if err != nil {
			return nil, err
		}
		c.conn, c.br = conn, bufio.NewReader(conn)
	}
	c.corr++
	req.SetVersion(version(req.Key()))
	if err := c.conn.SetDeadline(time.Now().Add(answerWaitMax)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(c.f.AppendRequest(nil, req, c.corr)); err != nil {
		return nil, err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c.br, head); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(c.br, body); err != nil {
		return nil, err
	}
	if got := int32(binary.BigEndian.Uint32(body)); got != c.corr {
		return nil, fmt.Errorf("answer to request %d, want %d", got, c.corr)
	}
	body = body[4:]
	resp := req.ResponseKind()
	if resp.IsFlexible() && resp.Key() != wire.KeyApiVersions {
		body = body[1:] // no tags in the header
	}
	resp.SetVersion(req.GetVersion())
	return resp, resp.ReadFrom(body)
}
