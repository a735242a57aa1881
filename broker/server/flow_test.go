package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

// Who finds the memory used up does not read, and is served in turn; small control requests pass by.
func TestMemoryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var release [4]chan struct{}
		for i := range release {
			release[i] = make(chan struct{})
		}
		var mu sync.Mutex
		var entered []int32
		h := &funcHandler{produce: func(_ context.Context, _ *Conn, hd wire.Header, call *ProduceCall) {
			mu.Lock()
			entered = append(entered, hd.CorrelationID)
			mu.Unlock()
			<-release[hd.CorrelationID]
			call.Done()
		}}
		g := newRig(t, newPipeListener(), Options{Handler: h, MemoryBytes: 100 << 10})
		defer g.close()
		clients := []*client{g.dial(), g.dial(), g.dial(), g.dial()}
		sizes := []int{60 << 10, 60 << 10, 50 << 10, 300 << 10} // the last is bigger than the whole budget
		for i, c := range clients {
			go c.send(produceRequest(9, -1, 1, sizes[i]), int32(i))
			synctest.Wait()
		}
		if len(entered) != 1 || g.s.produceBudget.waits.Load() != 3 {
			t.Errorf("%v in the handler, %d waits", entered, g.s.produceBudget.waits.Load())
		}
		hb := g.dial()
		hb.send(heartbeat(), 9)
		hb.want(9)
		for i, c := range clients {
			close(release[i])
			c.want(int32(i))
			synctest.Wait()
		}
		if want := []int32{0, 1, 2, 3}; len(entered) != 4 || entered[1] != want[1] || entered[2] != want[2] || entered[3] != want[3] {
			t.Errorf("served in the order %v", entered)
		}
	})
}

func TestPartitionsAreHeldUntilAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var call *ProduceCall
		h := &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, c *ProduceCall) { call = c }}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		c.send(produceRequest(9, -1, 1000, 300), 1)
		synctest.Wait()
		if used := g.s.produceBudget.used.Load(); used != 1000*partBytes {
			t.Errorf("%d bytes held", used)
		}
		call.Done()
		c.want(1)
	})
}

func TestDisconnectWhileWaitingForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) {
			<-release
			call.Done()
		}}
		g := newRig(t, newPipeListener(), Options{Handler: h, MemoryBytes: 10 << 10})
		a, b := g.dial(), g.dial()
		go a.send(produceRequest(9, -1, 1, 9<<10), 1)
		synctest.Wait()
		go func() { _, _ = b.nc.Write(frameOf(produceRequest(9, -1, 1, 9<<10), 2)) }()
		synctest.Wait()
		go func() { time.Sleep(time.Second); close(release) }()
		go a.want(1)
		g.close() // b waits for memory and has to give up
		b.wantClosed()
	})
}

// A client that takes its time gets every byte, and records are not pinned while it does.
func TestSlowReaderGetsAllWithoutPinning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var released atomic.Int64
		records := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		h := &funcHandler{fetch: func(context.Context, *Conn, wire.Header, *kmsg.FetchRequest) (*wire.FetchResponse, error) {
			mine := bytes.Clone(records)
			return fetchAnswer(func() {
				released.Add(1)
				clear(mine) // as a recycled slab would
			}, mine[:1000], mine[1000:]), nil
		}}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		c.send(fetchRequest(4), 1)
		began := time.Now()
		for released.Load() == 0 && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("records were pinned for %v", took)
		}
		if used := g.s.decodedBudget.used.Load(); used < 1<<20 {
			t.Errorf("the copy takes %d bytes of the budget", used)
		}
		var got []byte
		buf := make([]byte, 100<<10)
		for len(got) < 1<<20 {
			time.Sleep(10 * time.Second)
			n, err := c.nc.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:n]...)
		}
		if i := bytes.Index(got, []byte("0123456789")); i < 0 || !bytes.Equal(got[i:], records[:len(got)-i]) {
			t.Error("other bytes")
		}
		if rest, _ := io.ReadAll(io.LimitReader(c.nc, int64(binary.BigEndian.Uint32(got))+4-int64(len(got)))); len(rest)+len(got) != int(binary.BigEndian.Uint32(got))+4 {
			t.Error("bytes are missing")
		}
		c.send(heartbeat(), 2)
		c.want(2)
		if released.Load() != 1 {
			t.Errorf("released %d times", released.Load())
		}
	})
}

func TestStuckReaderIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var released atomic.Int64
		h := &funcHandler{fetch: func(context.Context, *Conn, wire.Header, *kmsg.FetchRequest) (*wire.FetchResponse, error) {
			return fetchAnswer(func() { released.Add(1) }, make([]byte, 1<<20)), nil
		}}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		c.send(fetchRequest(4), 1)
		time.Sleep(28 * time.Second)
		if g.s.connections() != 1 {
			t.Error("closed too early")
		}
		time.Sleep(10 * time.Second)
		if g.s.connections() != 0 || g.errors(kindSlowReader) != 1 || released.Load() != 1 {
			t.Errorf("%d connections, %d counted, released %d times", g.s.connections(), g.errors(kindSlowReader), released.Load())
		}
	})
}

func TestAnswersInTheQueueAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetches := 0
		var first *ProduceCall
		h := &funcHandler{
			produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) { first = call },
			fetch: func(context.Context, *Conn, wire.Header, *kmsg.FetchRequest) (*wire.FetchResponse, error) {
				fetches++
				return fetchAnswer(nil, make([]byte, 400<<10)), nil
			},
		}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		go func() {
			c.send(produceRequest(9, -1, 1, 10), 0)
			for i := range int32(20) {
				c.send(fetchRequest(4), i+1)
			}
		}()
		synctest.Wait()
		if fetches != 3 {
			t.Errorf("%d answers of 400 KiB wait behind a produce", fetches)
		}
		first.Done()
		for i := range int32(21) {
			c.want(i)
		}
	})
}

func TestShutdownAnswersWhatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &funcHandler{
			produce: func(ctx context.Context, _ *Conn, _ wire.Header, call *ProduceCall) {
				go func() {
					time.Sleep(3 * time.Second)
					if ctx.Err() != nil {
						t.Error("the context of a produce ended")
					}
					call.Done()
				}()
			},
			fetch: func(ctx context.Context, _ *Conn, _ wire.Header, _ *kmsg.FetchRequest) (*wire.FetchResponse, error) {
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), ErrShutdown) {
					t.Error(context.Cause(ctx))
				}
				return fetchAnswer(nil), nil
			},
			handle: func(ctx context.Context, _ *Conn, _ wire.Header, _ kmsg.Request) (kmsg.Response, error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			},
		}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		polling, idle, half, joining := g.dial(), g.dial(), g.dial(), g.dial()
		polling.send(produceRequest(9, -1, 1, 10), 1)
		polling.send(fetchRequest(12), 2)
		half.write([]byte{0, 0})
		joining.send(heartbeat(), 3)
		synctest.Wait()
		ended := make(chan struct{})
		go func() {
			polling.want(1)
			polling.want(2)
			polling.wantClosed()
			close(ended)
		}()
		began := time.Now()
		g.close()
		if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		<-ended
		idle.wantClosed()
		half.wantClosed()
		joining.wantClosed()
		if n := g.errors(kindHandler); n != 0 {
			t.Errorf("%d handler errors counted", n)
		}
	})
}

func TestShutdownGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var call *ProduceCall
		h := &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, c *ProduceCall) { call = c }}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		c := g.dial()
		c.send(produceRequest(9, -1, 1, 10), 1)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := g.s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		c.wantClosed()
		call.Done() // too late, and harmless
		g.close()
	})
}

// Done may come after the connection has gone.
func TestDoneAfterDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []*ProduceCall
		var ctxs []context.Context
		h := &funcHandler{produce: func(ctx context.Context, _ *Conn, _ wire.Header, call *ProduceCall) {
			calls, ctxs = append(calls, call), append(ctxs, ctx)
		}}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		c.send(produceRequest(9, -1, 500, 200), 1)
		c.send(produceRequest(9, -1, 1, 10), 2)
		synctest.Wait()
		calls[1].Done()
		_ = c.nc.Close()
		synctest.Wait()
		if ctxs[0].Err() == nil {
			t.Error("the context goes on")
		}
		calls[0].Done()
	})
}

func TestHostileFramesStayBounded(t *testing.T) {
	tags := append([]byte{1}, binary.AppendUvarint(nil, 1<<19)...)
	for i := range 1<<19 - 1 {
		tags = append(append(tags, 1, 1), binary.AppendUvarint(nil, uint64(i))...)
		tags = append(tags, 0)
	}
	frames := map[string][]byte{}
	for name, f := range map[string]struct {
		key, version int16
		body         []byte
	}{
		"configs of one byte":     {32, 4, append(binary.AppendUvarint(nil, 8<<20), make([]byte, 8<<20)...)},
		"tiny topics":             {3, 12, append(binary.AppendUvarint(nil, 500_000), make([]byte, 9<<20)...)},
		"tags":                    {42, 2, tags},
		"produce of nothing":      {0, 9, append([]byte{0, 0, 1, 0, 0, 0, 1, 2, 2, 't', 0xff, 0xff, 0xff, 7}, make([]byte, 12<<20)...)},
		"partitions of one fetch": {1, 12, append(append(make([]byte, 25), 2, 1), append(binary.AppendUvarint(nil, 3<<20), make([]byte, 15<<20)...)...)},
	} {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(f.body)+11))
		b = binary.BigEndian.AppendUint16(b, uint16(f.key))
		b = binary.BigEndian.AppendUint16(b, uint16(f.version))
		frames[name] = append(append(b, 0, 0, 0, 1, 0xff, 0xff, 0), f.body...)
	}
	for name, frame := range frames {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, newPipeListener(), Options{Handler: &funcHandler{}})
			defer g.close()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c := g.dial()
			go func() { _, _ = c.nc.Write(frame) }()
			if name == "tags" { // costly, but within bounds
				c.want(1)
			} else {
				c.wantClosed()
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
				t.Errorf("%s: %d MiB allocated for %d MiB", name, n>>20, len(frame)>>20)
			}
			synctest.Wait()
			if g.errors(kindMalformed) != 1 && name != "tags" {
				t.Errorf("%s: not counted", name)
			}
		})
	}
}
