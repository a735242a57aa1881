package server

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

func TestRequestsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var software Software
		h := &funcHandler{}
		h.handle = func(_ context.Context, c *Conn, hd wire.Header, req kmsg.Request) (kmsg.Response, error) {
			software = c.Software()
			if hd.ClientID != "test" {
				t.Errorf("%+v", hd)
			}
			switch req := req.(type) {
			case *kmsg.MetadataRequest:
				resp := kmsg.NewPtrMetadataResponse() // version not set: the server does it
				resp.ControllerID = int32(len(req.Topics))
				return resp, nil
			default:
				return req.ResponseKind(), nil
			}
		}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		for v := int16(0); v <= 13; v++ {
			req := kmsg.NewPtrMetadataRequest()
			req.Version = v
			req.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("a")}, {Topic: kmsg.StringPtr("b")}}
			c.send(req, int32(v))
			b := c.want(int32(v))
			if v >= 9 {
				b = b[1:]
			}
			resp := kmsg.NewPtrMetadataResponse()
			resp.Version = v
			if err := resp.ReadFrom(b); err != nil || v > 0 && resp.ControllerID != 2 {
				t.Errorf("v%d: %+v %v", v, resp, err)
			}
		}
		if software != (Software{}) {
			t.Errorf("%+v", software)
		}
		av := kmsg.NewPtrApiVersionsRequest()
		av.Version, av.ClientSoftwareName, av.ClientSoftwareVersion = 4, "librdkafka", "2.1.0"
		c.send(av, 7)
		if b := c.want(7); b[0] != 0 || b[1] != 0 {
			t.Error("the header of an ApiVersions answer has no tags")
		}
		if software != (Software{"librdkafka", "2.1.0"}) {
			t.Errorf("%+v", software)
		}
		av.ClientSoftwareName = "not valid!"
		c.send(av, 8)
		c.want(8)
		if software.Name != "librdkafka" {
			t.Errorf("%+v", software)
		}
	})
}

func TestApiVersionsOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, newPipeListener(), Options{Handler: &funcHandler{}})
		defer g.close()
		c := g.dial()
		for _, version := range []byte{6, 99} {
			c.write([]byte{0, 0, 0, 14, 0, 18, 0, version, 0, 0, 0, 5, 0, 1, 'x', 0, 'h', 'i'})
			if got, want := c.want(5), []byte{0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5}; !bytes.Equal(got, want) {
				t.Errorf("% x", got)
			}
		}
		c.send(heartbeat(), 6) // the connection goes on
		c.want(6)
	})
}

func TestBadFramesCloseTheConnection(t *testing.T) {
	huge := func(key, version byte) string {
		return "\x7f\xff\xff\xff\x00" + string(key) + "\x00" + string(version) + "\x00\x00\x00\x01"
	}
	for name, c := range map[string]struct {
		frame string
		kind  string
	}{
		"negative length":      {"\xff\xff\xff\xff\x00\x03\x00\x00\x00\x00\x00\x01", kindMalformed},
		"length 7":             {"\x00\x00\x00\x07\x00\x03\x00\x00\x00\x00\x00\x01", kindMalformed},
		"2 GiB of Produce":     {huge(0, 9), kindTooLarge},
		"2 GiB of Metadata":    {huge(3, 9), kindTooLarge},
		"17 MiB of Metadata":   {"\x01\x10\x00\x00\x00\x03\x00\x09\x00\x00\x00\x01", kindTooLarge},
		"unknown key":          {"\x00\x00\x00\x08\x03\xe7\x00\x00\x00\x00\x00\x01", kindUnknownAPI},
		"negative key":         {"\x00\x00\x00\x08\xff\xff\x00\x00\x00\x00\x00\x01", kindUnknownAPI},
		"a controllers' key":   {"\x00\x00\x00\x08\x00\x34\x00\x00\x00\x00\x00\x01", kindUnknownAPI},
		"Produce v2":           {"\x00\x00\x00\x08\x00\x00\x00\x02\x00\x00\x00\x01", kindVersion},
		"Produce v14":          {"\x00\x00\x00\x08\x00\x00\x00\x0e\x00\x00\x00\x01", kindVersion},
		"Metadata v99":         {"\x00\x00\x00\x08\x00\x03\x00\x63\x00\x00\x00\x01", kindVersion},
		"truncated header":     {"\x00\x00\x00\x09\x00\x03\x00\x00\x00\x00\x00\x01\x00", kindMalformed},
		"truncated body":       {"\x00\x00\x00\x0b\x00\x03\x00\x00\x00\x00\x00\x01\xff\xff\x00", kindMalformed},
		"truncated Produce":    {"\x00\x00\x00\x0b\x00\x00\x00\x03\x00\x00\x00\x01\xff\xff\xff", kindMalformed},
		"2 billion topics":     {"\x00\x00\x00\x0e\x00\x03\x00\x00\x00\x00\x00\x01\xff\xff\x7f\xff\xff\xff", kindMalformed},
		"4 billion tags":       {"\x00\x00\x00\x12\x00\x12\x00\x03\x00\x00\x00\x01\xff\xff\x00\x02a\xff\xff\xff\xff\x0f", kindMalformed},
		"truncated unknown AV": {"\x00\x00\x00\x08\x00\x12\x00\x7f\x00\x00\x00\x01", kindMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, newPipeListener(), Options{Handler: &funcHandler{}})
				defer g.close()
				cl := g.dial()
				go func() { _, _ = cl.nc.Write([]byte(c.frame)) }()
				cl.wantClosed()
				synctest.Wait()
				if g.errors(c.kind) != 1 {
					t.Errorf("not counted as %s", c.kind)
				}
			})
		})
	}
}

func TestAnswersKeepTheOrderOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []*ProduceCall
		h := &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) { calls = append(calls, call) }}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		for i := range int32(5) {
			c.send(produceRequest(9, -1, 1, 10), i)
		}
		c.send(fetchRequest(12), 5) // answered at once, but not before the others
		synctest.Wait()
		if len(calls) != 5 {
			t.Fatalf("%d calls", len(calls))
		}
		var got atomic.Int32
		go func() {
			for i := range int32(6) {
				c.want(i)
				got.Add(1)
			}
		}()
		for _, step := range []struct {
			done int
			want int32
		}{{3, 0}, {1, 0}, {0, 2}, {4, 2}, {2, 6}} {
			calls[step.done].Req.Parts[0].BaseOffset = 9
			calls[step.done].Done()
			synctest.Wait()
			if got.Load() != step.want {
				t.Errorf("after call %d: %d answers, want %d", step.done, got.Load(), step.want)
			}
		}
	})
}

func TestProduceAnswerCarriesTheHandlersWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) {
			for i := range call.Req.Parts {
				p := &call.Req.Parts[i]
				if string(p.Topic) != "topic" || len(p.Records) != 71 || !p.ChecksumOK {
					t.Errorf("%+v", p)
				}
				p.BaseOffset, p.ErrorMessage = int64(100+i), "because"
			}
			go call.Done() // after Produce has returned, as it happens
		}}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		c.send(produceRequest(8, 1, 300, 10), 1)
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = 8
		if err := resp.ReadFrom(c.want(1)); err != nil {
			t.Fatal(err)
		}
		for i, p := range resp.Topics[0].Partitions {
			if resp.Topics[0].Topic != "topic" || p.Partition != int32(i) || p.BaseOffset != int64(100+i) || *p.ErrorMessage != "because" {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestAcksZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := int16(0)
		h := &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) {
			call.Req.Fail(fail)
			go call.Done()
		}}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		c.send(produceRequest(9, 0, 1, 10), 1)
		c.send(produceRequest(9, 0, 1, 10), 2)
		c.send(heartbeat(), 3)
		c.want(3) // nothing for the first two
		synctest.Wait()
		fail = 3
		c.send(produceRequest(9, 0, 1, 10), 4)
		c.wantClosed()
		synctest.Wait()
		if g.errors(kindAcks0) != 1 {
			t.Error("not counted")
		}
	})
}

func TestInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []*ProduceCall
		h := &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) { calls = append(calls, call) }}
		g := newRig(t, newPipeListener(), Options{Handler: h, MaxInFlight: 3})
		defer g.close()
		c := g.dial()
		go func() {
			for i := range int32(10) {
				c.send(produceRequest(9, -1, 1, 10), i)
			}
		}()
		synctest.Wait()
		if len(calls) != 3 {
			t.Fatalf("%d calls at once, want 3", len(calls))
		}
		for i := range int32(10) {
			calls[i].Done()
			c.want(i)
			synctest.Wait()
		}
	})
}

func TestPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &funcHandler{
			produce: func(context.Context, *Conn, wire.Header, *ProduceCall) { panic("produce") },
			fetch: func(context.Context, *Conn, wire.Header, *kmsg.FetchRequest) (*wire.FetchResponse, error) {
				panic("fetch")
			},
			handle: func(context.Context, *Conn, wire.Header, kmsg.Request) (kmsg.Response, error) { panic(errTest) },
		}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		for i, req := range []kmsg.Request{produceRequest(9, -1, 1, 10), fetchRequest(12), heartbeat()} {
			c := g.dial()
			c.send(req, 1)
			c.wantClosed()
			synctest.Wait()
			if g.errors(kindPanic) != int64(i+1) {
				t.Errorf("%T: %d panics counted", req, g.errors(kindPanic))
			}
		}
	})
}

func TestHandlerErrorClosesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := errTest
		h := &funcHandler{
			handle: func(context.Context, *Conn, wire.Header, kmsg.Request) (kmsg.Response, error) { return nil, answer },
			fetch: func(context.Context, *Conn, wire.Header, *kmsg.FetchRequest) (*wire.FetchResponse, error) {
				return nil, answer
			},
		}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		for i, req := range []kmsg.Request{heartbeat(), fetchRequest(12), heartbeat(), fetchRequest(12)} {
			if i == 2 {
				answer = nil // neither answer nor error
			}
			c := g.dial()
			c.send(req, 1)
			c.wantClosed()
			synctest.Wait()
			if g.errors(kindHandler) != int64(i+1) {
				t.Errorf("%d: not counted", i)
			}
		}
	})
}

func TestTimeouts(t *testing.T) {
	o := Options{Handler: &funcHandler{}, IdleTimeout: 10 * time.Minute, FrameTimeout: 30 * time.Second}
	whole := frameOf(produceRequest(9, -1, 1, 3<<20), 1)
	for name, c := range map[string]struct {
		send     []byte
		min, max time.Duration
		kind     string
	}{
		"nothing":             {nil, 10 * time.Minute, 11 * time.Minute, kindIdle},
		"half a length":       {whole[:2], 10 * time.Second, 13 * time.Second, kindSlowFrame},
		"half a header":       {whole[:13], 10 * time.Second, 13 * time.Second, kindSlowFrame},
		"most of a frame":     {whole[:len(whole)-1], 10 * time.Second, 13 * time.Second, kindSlowFrame},
		"an answered request": {frameOf(heartbeat(), 1), 10 * time.Minute, 11 * time.Minute, kindIdle},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, newPipeListener(), o)
				defer g.close()
				cl := g.dial()
				began := time.Now()
				go func() { _, _ = cl.nc.Write(c.send) }()
				if c.kind == kindIdle && c.send != nil {
					cl.want(1)
				}
				cl.wantClosed()
				if took := time.Since(began); took < c.min || took > c.max {
					t.Errorf("closed after %v", took)
				}
				synctest.Wait()
				if g.errors(c.kind) != 1 {
					t.Errorf("not counted as %s", c.kind)
				}
			})
		})
	}
}

// A client that waits for a slow answer is not idle.
func TestWaitingForAnAnswerIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &funcHandler{
			produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) {
				go func() { time.Sleep(time.Hour); call.Done() }()
			},
			fetch: func(ctx context.Context, _ *Conn, _ wire.Header, _ *kmsg.FetchRequest) (*wire.FetchResponse, error) {
				time.Sleep(time.Hour)
				return fetchAnswer(nil), nil
			},
		}
		g := newRig(t, newPipeListener(), Options{Handler: h})
		defer g.close()
		c := g.dial()
		c.send(produceRequest(9, -1, 1, 10), 1)
		c.want(1)
		c.send(fetchRequest(12), 2)
		c.want(2)
	})
}

func TestTooManyConnectionsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, newPipeListener(), Options{Handler: &funcHandler{}, MaxConnections: 2})
		defer g.close()
		a, b := g.dial(), g.dial()
		g.dial().wantClosed()
		for _, c := range []*client{a, b} {
			c.send(heartbeat(), 1)
			c.want(1)
		}
		_ = a.nc.Close()
		synctest.Wait()
		c := g.dial()
		c.send(heartbeat(), 2)
		c.want(2)
		if g.errors(kindRefused) != 1 {
			t.Error("not counted")
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a server without a handler")
	}
	if c := (&Conn{}); c.RemoteAddr() != nil || c.LocalAddr() != nil || c.Software() != (Software{}) {
		t.Error("the zero Conn is of no use")
	}
	done := false
	NewProduceCall(&wire.Produce{}, func() { done = true }).Done()
	if !done {
		t.Error("Done did not arrive")
	}
	if !errors.Is(&closeError{kindIdle, errTest}, errTest) {
		t.Error("no chain")
	}
}

// TestTrickle: a client that sends a byte now and then is closed once the frame as a whole is overdue.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, newPipeListener(), Options{Handler: &funcHandler{}, FrameTimeout: 30 * time.Second})
		defer g.close()
		c := g.dial()
		began := time.Now()
		for _, b := range frameOf(produceRequest(9, -1, 1, 3<<20), 1) {
			if _, err := c.nc.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(3 * time.Second)
		}
		c.wantClosed()
		if took := time.Since(began); took < 29*time.Second || took > 90*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

// TestStalledLargeFramesHoldUpNobody: clients that declare large frames and send nothing use up their share of the budget only.
func TestStalledLargeFramesHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, newPipeListener(), Options{Handler: &funcHandler{}, MemoryBytes: 32 << 20})
		defer g.close()
		large := frameOf(produceRequest(9, -1, 1, 12<<20), 1)
		for range 5 {
			stalled := g.dial()
			go func() { _, _ = stalled.nc.Write(large[:200]) }()
		}
		synctest.Wait()
		c := g.dial()
		began := time.Now()
		c.send(produceRequest(9, -1, 1, 100), 7)
		c.want(7)
		if took := time.Since(began); took > time.Second {
			t.Errorf("an ordinary request waited %v", took)
		}
	})
}
