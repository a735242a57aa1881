package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// TestOwnStream: a recoverer fences and reads the server's own live log, which then acknowledges nothing.
func TestOwnStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.stop(t)
		l, err := wal.New(wal.Options{FS: crashfs.New(), Dir: "/wal", Epoch: 5, SegmentBytes: 64 << 10, SlabBytes: 32 << 10, SlabCount: 6})
		must(t, err)
		run := make(chan error, 1)
		go func() { run <- l.Run(context.Background()) }()
		appendOne := func() error {
			a, err := l.Admit(t.Context(), 100)
			if err != nil {
				return err
			}
			done := make(outcome, 1)
			r := l.Append(a, 100, done)
			r.Write(make([]byte, 100))
			r.Done()
			return <-done
		}
		must(t, appendOne())
		w.server.Register(testStream, l)
		_, _, err = w.client.Open(t.Context(), testStream, l.Header(), l.Oldest(), true)
		wants(t, err, wal.ErrForeign)
		_, err = w.client.Fence(t.Context(), testStream, 5)
		wants(t, err, wal.ErrFenced)
		tail, err := w.client.Fence(t.Context(), testStream, 6)
		must(t, err)
		if tail.End != l.Durable() || tail.Header != l.Header() {
			t.Fatalf("%+v", tail)
		}
		if err := appendOne(); !errors.Is(err, wal.ErrFenced) {
			t.Fatalf("a fenced log: %v", err)
		}
		k, err := w.client.Read(t.Context(), testStream, 0, 1<<20, nil)
		must(t, err)
		if err := wal.NewChain(tail.Header).Take(k); err != nil || k.End() != tail.End {
			t.Fatal(k.End(), err)
		}
		wants(t, <-run, wal.ErrFailed)
		must(t, l.Close())
		w.server.Unregister(testStream)
		_, err = w.client.Fence(t.Context(), testStream, 7)
		wants(t, err, wal.ErrNoReplica)
	})
}

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		w := newWorld(t, func(o *ServerOptions, _ *ClientOptions) {
			o.MaxCalls = 3
			o.Handlers = map[uint16]Handler{
				1: func(_ context.Context, from Identity, b []byte) ([]byte, error) {
					return append(fmt.Appendf(nil, "%d:", from.Broker), b...), nil
				},
				2: func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) {
					<-ctx.Done()
					ended.Add(1)
					return nil, context.Cause(ctx)
				},
				3: func(context.Context, Identity, []byte) ([]byte, error) { return make([]byte, MaxPayloadBytes+1), nil },
			}
		})
		defer w.stop(t)
		ctx := t.Context()
		for _, n := range []int{0, 1, 100_000, MaxPayloadBytes - 2} {
			got, err := w.client.Call(ctx, 1, make([]byte, n))
			must(t, err)
			if !bytes.Equal(got, append([]byte("1:"), make([]byte, n)...)) {
				t.Fatalf("%d bytes of %d", len(got), n)
			}
		}
		if _, err := w.client.Call(ctx, 1, make([]byte, MaxPayloadBytes+1)); err == nil {
			t.Fatal("too long a payload was sent")
		}
		if _, err := w.client.Call(ctx, 3, nil); err == nil || errors.Is(err, ErrDisconnected) {
			t.Fatal(err)
		}
		_, err := w.client.Call(ctx, 9, nil)
		wants(t, err, ErrUnknownKind)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		results := make(chan error)
		for range 5 { // the latter two wait for a place
			go func() {
				_, err := w.client.Call(short, 2, nil)
				results <- err
			}()
		}
		for range 5 {
			wants(t, <-results, context.DeadlineExceeded)
		}
		synctest.Wait()
		if ended.Load() != 3 {
			t.Fatalf("%d handlers ended", ended.Load())
		}
		_, err = w.client.Call(ctx, 1, nil) // places are free again, on the same connection
		must(t, err)
	})
}

// TestAbandonedOpen: an open that nobody waits for leaves no stream behind.
func TestAbandonedOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := writeOriginal(t, 10, 3, 100)
		w := newWorld(t, func(o *ServerOptions, _ *ClientOptions) { o.MaxStreams = 1 })
		defer w.stop(t)
		w.disk.SetLatency(time.Second)
		short, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		_, _, err := w.client.Open(short, testStream, src.header, src.oldest(), true)
		wants(t, err, context.DeadlineExceeded)
		time.Sleep(time.Minute)
		s, _, err := w.client.Open(t.Context(), testStream, src.header, src.oldest(), true)
		must(t, err)
		_, _, err = w.client.Open(t.Context(), testStream+1, src.header, src.oldest(), true)
		if err == nil || len(w.replicas.Streams()) > 1 {
			t.Fatalf("a stream above the limit: %v", err)
		}
		must(t, s.Close())
		s, _, err = w.client.Open(t.Context(), testStream, src.header, src.oldest(), false)
		must(t, err)
		_, err = s.Append(t.Context(), src.groups[0])
		must(t, err)
	})
}

// TestRunEnds: who waits for a connection hears that there will be none.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.client.Remove(t.Context(), 1, 1)
		w.stop(t)
		_, err := w.client.Streams(t.Context())
		wants(t, err, ErrDisconnected)
	})
}

// rawClient shakes hands and then sends what a test wants.
func rawClient(t *testing.T, w *world) *link {
	t.Helper()
	c, err := w.dial(t.Context())
	must(t, err)
	h := hello{Lowest: 1, Highest: 1, From: alice, Broker: bob.Broker, Disk: bob.Disk}
	_, err = c.Write(h.put())
	must(t, err)
	_, err = readHello(c)
	must(t, err)
	timing := Timing{}
	must(t, timing.setDefaults())
	return newLink(c, c, timing)
}

// TestMisbehaviour: a client that breaks the protocol is disconnected, and others are served on.
func TestMisbehaviour(t *testing.T) {
	src := writeOriginal(t, 10, 20, 3000)
	place := func(b []byte) []byte { return putPlace(b, src.groups[0]) }
	open := openMessage{Stream: testStream, Header: src.header, Oldest: src.oldest(), Create: true}
	for name, send := range map[string]func(l *link) error{
		"append to nothing": func(l *link) error { return l.send(kindAppend, 7, place, src.groups[0].Bytes, false) },
		"an answer":         func(l *link) error { return l.send(kindDone, 1, nil, nil, false) },
		"ids that shrink": func(l *link) error {
			return errors.Join(l.send(kindStreams, 5, nil, nil, true), l.send(kindStreams, 5, nil, nil, false))
		},
		"too many requests": func(l *link) error {
			for id := uint64(1); id < 100; id++ {
				if err := l.send(kindCall, id, func(b []byte) []byte { return append(b, 2, 0) }, nil, true); err != nil {
					return nil
				}
			}
			return l.send(kindHeartbeat, 0, nil, nil, false)
		},
		"beyond the window": func(l *link) error {
			if err := l.send(kindOpen, 1, open.put, nil, false); err != nil {
				return err
			}
			if _, _, err := l.next(); err != nil {
				return err
			}
			for i := 0; i < 100; i++ {
				if l.send(kindAppend, 1, place, src.groups[0].Bytes, true) != nil {
					return nil
				}
			}
			return nil
		},
		"a long frame": func(l *link) error {
			return l.push([]byte{0, 0, 0, 0, 3, 0, 32, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
		},
		"a damaged head": func(l *link) error {
			frame := make([]byte, frameHeaderBytes+16)
			frameHeader{Kind: kindFence, ID: 1}.put(frame, frame[frameHeaderBytes:])
			frame[frameHeaderBytes+8] ^= 1
			return l.push(frame)
		},
		"silence": func(*link) error { return nil },
		"a drip": func(l *link) error {
			for range 20 {
				if l.push([]byte{0}) != nil {
					return nil
				}
				time.Sleep(time.Second)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(o *ServerOptions, _ *ClientOptions) {
					o.WindowBytes = 64 << 10
					o.Handlers = map[uint16]Handler{2: func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, nil }}
				})
				defer w.stop(t)
				must(t, w.client.Remove(t.Context(), 1, 1))
				w.disk.SetLatency(time.Minute)
				l := rawClient(t, w)
				defer l.raw.Close()
				sent := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if name != "silence" && name != "a drip" { // else it would be disconnected for its silence
					go l.beat(ctx)
				}
				go func() {
					sent <- send(l)
					_, _ = io.Copy(io.Discard, l.raw)
				}()
				time.Sleep(time.Hour)
				if err := <-sent; err != nil && !errors.Is(err, net.ErrClosed) && l.failure() == nil {
					t.Fatal(err)
				}
				w.server.mu.Lock()
				n := len(w.server.conns)
				w.server.mu.Unlock()
				if n != 1 {
					t.Fatalf("%d connections", n)
				}
				_, err := w.client.Streams(t.Context())
				must(t, err)
			})
		})
	}
}
