package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

func tcpListener(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// A client that leaves during a long poll is noticed, also when unread requests stand before its farewell.
func TestPeerLeavesDuringLongPoll(t *testing.T) {
	for name, leave := range map[string]func(c *client){
		"close":      func(c *client) { _ = c.nc.Close() },
		"half close": func(c *client) { _ = c.nc.(*net.TCPConn).CloseWrite() },
		"reset":      func(c *client) { _ = c.nc.(*net.TCPConn).SetLinger(0); _ = c.nc.Close() },
		"close behind requests": func(c *client) {
			c.send(heartbeat(), 2)
			_ = c.nc.(*net.TCPConn).CloseWrite()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			polling, left := make(chan struct{}), make(chan error, 1)
			h := &funcHandler{fetch: func(ctx context.Context, _ *Conn, _ wire.Header, _ *kmsg.FetchRequest) (*wire.FetchResponse, error) {
				close(polling)
				select {
				case <-ctx.Done():
					left <- context.Cause(ctx)
				case <-time.After(20 * time.Second):
					left <- errors.New("not noticed")
				}
				return fetchAnswer(nil), nil
			}}
			g := newRig(t, tcpListener(t), Options{Handler: h, WriteTimeout: time.Second}) // a janitor in a hurry
			defer g.close()
			c := g.dial()
			c.send(fetchRequest(12), 1)
			<-polling
			leave(c)
			if err := <-left; !errors.Is(err, errPeerLeft) {
				t.Error(err)
			}
		})
	}
}

// What a client sent before it left is produced, also when the log makes it wait.
func TestProduceOfAClientThatLeft(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	got := make(chan error, 3)
	h := &funcHandler{produce: func(ctx context.Context, c *Conn, _ wire.Header, call *ProduceCall) {
		<-gate // full log
		got <- ctx.Err()
		call.Done()
	}}
	g := newRig(t, tcpListener(t), Options{Handler: h, WriteTimeout: 100 * time.Millisecond})
	defer g.close()
	c := g.dial()
	for i := range int32(3) {
		c.send(produceRequest(9, 0, 1, 10), i)
	}
	_ = c.nc.Close()
	var conns []*Conn
	for left := false; !left; { // until the janitor has seen it
		for _, conn := range g.s.snapshot(conns[:0]) {
			select {
			case <-conn.waitCtx.Done():
				left = true
			case <-time.After(time.Millisecond):
			}
		}
	}
	close(gate)
	for range 3 {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
}

func TestConnectionsPerIP(t *testing.T) {
	g := newRig(t, tcpListener(t), Options{Handler: &funcHandler{}, MaxConnectionsPerIP: 2})
	defer g.close()
	a, b := g.dial(), g.dial()
	for _, c := range []*client{a, b} {
		c.send(heartbeat(), 1)
		c.want(1)
	}
	g.dial().wantClosed()
	_ = a.nc.Close()
	for { // until the server has noticed
		c := g.dial()
		if _, err := c.nc.Write(frameOf(heartbeat(), 1)); err == nil {
			if _, _, err := c.read(); err == nil {
				break
			}
		}
		_ = c.nc.Close()
	}
	if g.errors(kindRefusedByIP) == 0 {
		t.Error("not counted")
	}
}

func TestServeEndsWithItsListenerOrContext(t *testing.T) {
	s, err := New(Options{Handler: &funcHandler{}})
	if err != nil {
		t.Fatal(err)
	}
	broken := tcpListener(t)
	_ = broken.Close()
	if err := s.Serve(context.Background(), broken); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a broken listener: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Serve(ctx, Listener{tcpListener(t), "OTHER"}); err != nil {
		t.Errorf("an ended context: %v", err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.Serve(context.Background(), tcpListener(t)); err != nil {
		t.Errorf("after the shutdown: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	g := newRig(t, tcpListener(t), Options{Handler: &funcHandler{}, Meter: meter})
	defer g.close()
	c := g.dial()
	sent := 0
	for i := range int32(3) {
		b := frameOf(heartbeat(), i)
		sent += len(b)
		c.write(b)
		c.want(i)
	}
	bad := g.dial()
	bad.write([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	bad.wantClosed()
	var rm metricdata.ResourceMetrics
	values := map[string]int64{}
	for values["errors malformed"] == 0 || values["requests Heartbeat"] < 3 || values["inflight.requests"] > 0 { // the last is counted after the answer is written
		if err := reader.Collect(context.Background(), &rm); err != nil {
			t.Fatal(err)
		}
		for _, m := range rm.ScopeMetrics[0].Metrics {
			if m.Description == "" {
				t.Errorf("%s is not described", m.Name)
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					name := m.Name[len("tidemark.server."):]
					for _, a := range p.Attributes.ToSlice() {
						name += " " + a.Value.AsString()
					}
					values[name] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					values["duration"] = int64(p.Count)
				}
			}
		}
	}
	for name, want := range map[string]int64{
		"requests Heartbeat": 3, "duration": 3, "connections.accepted": 2, "received": int64(sent), "errors malformed": 1, "errors panic": 0,
		"inflight.requests": 0, "budget.waits produce": 0,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// pingPong sends a request over and over and waits for each answer, allocating nothing itself.
func pingPong(t testing.TB, nc net.Conn, frame []byte) func() {
	var l [4]byte
	buf := make([]byte, 2<<20)
	return func() {
		if _, err := nc.Write(frame); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(nc, l[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(nc, buf[:binary.BigEndian.Uint32(l[:])]); err != nil {
			t.Fatal(err)
		}
	}
}

func serveFor(t testing.TB, h Handler, o Options) net.Conn {
	o.Handler = h
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ln := tcpListener(t)
	go func() { _ = s.Serve(context.Background(), ln) }()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = nc.Close()
		_ = s.Shutdown(context.Background())
	})
	return nc
}

// asyncHandler answers Produce from another goroutine, as a group commit does.
func asyncHandler(t testing.TB) *funcHandler {
	calls := make(chan *ProduceCall, 256)
	t.Cleanup(func() { close(calls) })
	go func() {
		for call := range calls {
			call.Done()
		}
	}()
	return &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) { calls <- call }}
}

func TestProduceDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations cannot be counted under the race detector")
	}
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	for name, h := range map[string]Handler{"answered at once": &funcHandler{}, "answered later": asyncHandler(t)} {
		ping := pingPong(t, serveFor(t, h, Options{Meter: meter}), frameOf(produceRequest(13, -1, 12, 10<<10), 1))
		for range 20 {
			ping()
		}
		if n := testing.AllocsPerRun(300, ping); n >= 1 {
			t.Errorf("%s: %v allocations per request", name, n)
		}
	}
}

func BenchmarkProduceMetered(b *testing.B) {
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())).Meter("test")
	s, err := New(Options{Handler: &funcHandler{}, Meter: meter})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.metrics.answered(wire.KeyProduce, time.Millisecond)
	}
}

func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{1 << 10, 128 << 10, 1 << 20} {
		b.Run(map[int]string{1 << 10: "1KiB", 128 << 10: "128KiB", 1 << 20: "1MiB"}[size], func(b *testing.B) {
			frame := frameOf(produceRequest(13, -1, 1, size), 1)
			ping := pingPong(b, serveFor(b, asyncHandler(b), Options{}), frame)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				ping()
			}
		})
	}
}

// BenchmarkProducePipelined keeps 16 requests in flight.
func BenchmarkProducePipelined(b *testing.B) {
	frame := frameOf(produceRequest(13, -1, 1, 1<<10), 1)
	nc := serveFor(b, asyncHandler(b), Options{})
	const depth = 16
	burst := bytes.Repeat(frame, depth)
	buf := make([]byte, 0)
	b.SetBytes(int64(len(burst)))
	b.ReportAllocs()
	var l [4]byte
	for b.Loop() {
		if _, err := nc.Write(burst); err != nil {
			b.Fatal(err)
		}
		for range depth {
			if len(buf) == 0 {
				if _, err := io.ReadFull(nc, l[:]); err != nil {
					b.Fatal(err)
				}
				buf = make([]byte, binary.BigEndian.Uint32(l[:])+4)
				_, _ = io.ReadFull(nc, buf[4:])
				continue
			}
			if _, err := io.ReadFull(nc, buf); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkFetch(b *testing.B) {
	for name, n := range map[string]int{"1x1MiB": 1, "1000x1KiB": 1000} {
		b.Run(name, func(b *testing.B) {
			t := wire.FetchTopic{TopicID: [16]byte{1}}
			for i := range n {
				p := wire.NewFetchPartition(int32(i), 0)
				p.Records = [][]byte{make([]byte, 1<<20/n)}
				t.Partitions = append(t.Partitions, p)
			}
			resp := &wire.FetchResponse{Topics: []wire.FetchTopic{t}}
			h := &funcHandler{fetch: func(context.Context, *Conn, wire.Header, *kmsg.FetchRequest) (*wire.FetchResponse, error) {
				return resp, nil
			}}
			ping := pingPong(b, serveFor(b, h, Options{}), frameOf(fetchRequest(17), 1))
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				ping()
			}
		})
	}
}
