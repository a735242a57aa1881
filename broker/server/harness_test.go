package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

// funcHandler answers with functions; unset ones answer at once.
type funcHandler struct {
	produce func(ctx context.Context, c *Conn, h wire.Header, call *ProduceCall)
	fetch   func(ctx context.Context, c *Conn, h wire.Header, req *kmsg.FetchRequest) (*wire.FetchResponse, error)
	handle  func(ctx context.Context, c *Conn, h wire.Header, req kmsg.Request) (kmsg.Response, error)
}

func (f *funcHandler) Produce(ctx context.Context, c *Conn, h wire.Header, call *ProduceCall) {
	if f.produce == nil {
		call.Done()
		return
	}
	f.produce(ctx, c, h, call)
}

func (f *funcHandler) Fetch(ctx context.Context, c *Conn, h wire.Header, req *kmsg.FetchRequest) (*wire.FetchResponse, error) {
	if f.fetch == nil {
		return &wire.FetchResponse{}, nil
	}
	return f.fetch(ctx, c, h, req)
}

func (f *funcHandler) Handle(ctx context.Context, c *Conn, h wire.Header, req kmsg.Request) (kmsg.Response, error) {
	if f.handle == nil {
		return req.ResponseKind(), nil
	}
	return f.handle(ctx, c, h, req)
}

// pipeListener hands out in-process connections.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "in-process"} }

// rig is a served server with its clients.
type rig struct {
	t      *testing.T
	s      *Server
	ln     net.Listener
	served chan error
	stop   context.CancelFunc
}

func newRig(t *testing.T, ln net.Listener, o Options) *rig {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &rig{t: t, s: s, ln: ln, served: make(chan error, 1), stop: cancel}
	go func() { g.served <- s.Serve(ctx, ln) }()
	return g
}

// close shuts the server down; every test ends with it.
func (g *rig) close() {
	g.t.Helper()
	g.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := g.s.Shutdown(ctx); err != nil {
		g.t.Errorf("shutdown: %v", err)
	}
	if err := <-g.served; err != nil {
		g.t.Errorf("serve: %v", err)
	}
	for name, b := range map[string]*budget{"produce": g.s.produceBudget, "large": g.s.largeBudget, "control": g.s.controlBudget, "decoded": g.s.decodedBudget} {
		if n := b.used.Load(); n != 0 {
			g.t.Errorf("%d bytes of the %s budget were not given back", n, name)
		}
	}
	if n := g.s.metrics.inFlight.Load(); n != 0 {
		g.t.Errorf("%d requests are still in flight", n)
	}
	if n := g.s.connections(); n != 0 {
		g.t.Errorf("%d connections are still there", n)
	}
}

// client is a connection with the protocol's framing.
type client struct {
	t  *testing.T
	nc net.Conn
}

func (g *rig) dial() *client {
	g.t.Helper()
	if l, ok := g.ln.(*pipeListener); ok {
		a, b := net.Pipe()
		l.conns <- b
		return &client{g.t, a}
	}
	nc, err := net.Dial("tcp", g.ln.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	return &client{g.t, nc}
}

func frameOf(req kmsg.Request, correlationID int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, correlationID)
}

func (c *client) send(req kmsg.Request, correlationID int32) { c.write(frameOf(req, correlationID)) }

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Errorf("write: %v", err)
	}
}

// read returns the next answer's correlation id and body, header tags included.
func (c *client) read() (int32, []byte, error) {
	var l [8]byte
	if _, err := io.ReadFull(c.nc, l[:]); err != nil {
		return 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(l[:4])-4)
	_, err := io.ReadFull(c.nc, b)
	return int32(binary.BigEndian.Uint32(l[4:])), b, err
}

func (c *client) want(correlationID int32) []byte {
	c.t.Helper()
	id, b, err := c.read()
	if err != nil || id != correlationID {
		c.t.Errorf("answer %d, %v; want %d", id, err, correlationID)
	}
	return b
}

func (c *client) wantClosed() {
	c.t.Helper()
	if id, _, err := c.read(); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		c.t.Errorf("answer %d, %v; want a closed connection", id, err)
	}
}

func testBatch(n int) []byte {
	b := bytes.Repeat([]byte{7}, 61+n)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	b[16] = 2
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func produceRequest(version, acks int16, partitions, bytesEach int) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = version, acks
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = "topic", [16]byte{1}
	for i := range partitions {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = int32(i), testBatch(bytesEach)
		rt.Partitions = append(rt.Partitions, p)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

func fetchRequest(version int16) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version = version
	return req
}

func fetchAnswer(released func(), records ...[]byte) *wire.FetchResponse {
	p := wire.NewFetchPartition(0, 0)
	p.Records = records
	return &wire.FetchResponse{Topics: []wire.FetchTopic{{Partitions: []wire.FetchPartition{p}}}, Release: released}
}

func heartbeat() kmsg.Request {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group = 4, "g"
	return req
}

func (g *rig) errors(kind string) int64 { return g.s.metrics.errors[kind].Load() }

var errTest = fmt.Errorf("from the test")
