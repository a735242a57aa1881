package peer

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

var (
	alice = Identity{Cluster: "c1", Broker: 1, Disk: "disk-a"}
	bob   = Identity{Cluster: "c1", Broker: 2, Disk: "disk-b"}
)

const testStream = uint64(0xabc)

// wires connects clients with a listener inside the process.
type wires struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	mute   atomic.Bool // what is written vanishes: the machine at the other end is gone

	mu    sync.Mutex
	conns []net.Conn
}

func newWires() *wires {
	return &wires{accept: make(chan net.Conn), closed: make(chan struct{})}
}

func (w *wires) Accept() (net.Conn, error) {
	select {
	case c := <-w.accept:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wires) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

func (w *wires) Addr() net.Addr { return &net.TCPAddr{} }

func (w *wires) listen(context.Context) (net.Listener, error) { return w, nil }

func (w *wires) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	w.mu.Lock()
	w.conns = append(w.conns, near)
	w.mu.Unlock()
	select {
	case w.accept <- muted{far, w}:
		return muted{near, w}, nil
	case <-w.closed:
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// cut breaks all connections.
func (w *wires) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

type muted struct {
	net.Conn
	w *wires
}

func (c muted) Write(b []byte) (int, error) {
	if c.w.mute.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// running starts run and returns what ends it and waits.
func running(t testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return func() { cancel(); <-done }
}

func openReplicas(t testing.TB, fs wal.FS, dir string) *wal.Replicas {
	t.Helper()
	rs, err := wal.OpenReplicas(wal.ReplicaOptions{FS: fs, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func newWorldFS() wal.FS { return crashfs.New() }

// world is bob's server, and alice's client of it, over wires.
type world struct {
	*wires
	disk     *crashfs.FS
	replicas *wal.Replicas
	server   *Server
	client   *Client
	stops    []func()
}

func newWorld(t testing.TB, change func(*ServerOptions, *ClientOptions)) *world {
	t.Helper()
	w := &world{wires: newWires(), disk: crashfs.New()}
	w.replicas = openReplicas(t, w.disk, "/replicas")
	so := ServerOptions{Self: bob, Replicas: w.replicas, Listen: w.listen}
	co := ClientOptions{Self: alice, Broker: bob.Broker, Disk: bob.Disk, Dial: w.dial}
	if change != nil {
		change(&so, &co)
	}
	if so.Replicas != w.replicas {
		must(t, w.replicas.Close())
		w.replicas = so.Replicas
	}
	var err, err2 error
	w.server, err = NewServer(so)
	w.client, err2 = NewClient(co)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	w.stops = []func(){running(t, w.server.Run), running(t, w.client.Run)}
	return w
}

func (w *world) stop(t testing.TB) {
	t.Helper()
	slices.Reverse(w.stops)
	for _, stop := range w.stops {
		stop()
	}
	if err := w.replicas.Close(); err != nil {
		t.Error(err)
	}
}

type outcome chan error

func (o outcome) Committed(err error) { o <- err }

// original is a stream as its writer wrote it, group by group.
type original struct {
	header wal.StreamHeader
	groups []wal.Chunk
}

func (o original) oldest() wal.SegmentRef { return o.groups[0].Segment }
func (o original) end() wal.Position      { return o.groups[len(o.groups)-1].End() }

func writeOriginal(t testing.TB, epoch uint64, entries, sizeBytes int) original {
	t.Helper()
	return writeSegments(t, epoch, entries, sizeBytes, 64<<10)
}

func writeSegments(t testing.TB, epoch uint64, entries, sizeBytes int, segmentBytes int64) original {
	t.Helper()
	o := wal.Options{FS: crashfs.New(), Dir: "/wal", Epoch: epoch, Owner: [16]byte{7}, SegmentBytes: segmentBytes, SlabBytes: int(min(segmentBytes/2, 4<<20)), SlabCount: 6}
	l, err := wal.New(o)
	if err != nil {
		t.Fatal(err)
	}
	stop := running(t, l.Run)
	for i := range entries {
		a, err := l.Admit(t.Context(), sizeBytes)
		if err != nil {
			t.Fatal(err)
		}
		done := make(outcome, 1)
		r := l.Append(a, sizeBytes, done)
		r.Write(bytes.Repeat([]byte{byte(i)}, sizeBytes))
		r.Done()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	stop()
	src := original{header: l.Header()}
	for pos := wal.Position(0); ; pos = src.end() {
		k, err := l.ReadGroups(t.Context(), pos, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(k.Bytes) == 0 {
			break
		}
		src.groups = append(src.groups, k)
	}
	if err := l.Close(); err != nil || len(src.groups) != entries {
		t.Fatalf("%d groups, %v", len(src.groups), err)
	}
	return src
}

// check reads the replica through the client and compares it with the original up to end.
func (o original) check(t testing.TB, c *Client, end wal.Position) {
	t.Helper()
	pos := o.oldest().First
	var got, want, buf []byte
	for pos < end {
		k, err := c.Read(t.Context(), testStream, pos, 20<<10, buf)
		if err != nil || len(k.Bytes) == 0 {
			t.Fatalf("read at %d: %d bytes, %v", pos, len(k.Bytes), err)
		}
		got, pos, buf = append(got, k.Bytes...), k.End(), k.Bytes
	}
	for _, g := range o.groups {
		if g.End() <= end {
			want = append(want, g.Bytes...)
		}
	}
	if pos != end || !bytes.Equal(got, want) {
		t.Fatalf("the replica differs: ends at %d, want %d; %d bytes, want %d", pos, end, len(got), len(want))
	}
}
