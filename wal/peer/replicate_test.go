package peer

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
}

// TestReplicate: what is sent is held, read, fenced, trimmed and removed.
func TestReplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := writeOriginal(t, 10, 40, 3000)
		w := newWorld(t, nil)
		defer w.stop(t)
		w.disk.SetLatency(time.Millisecond)
		ctx := t.Context()
		_, _, err := w.client.Open(ctx, testStream, src.header, src.oldest(), false)
		wants(t, err, wal.ErrNoReplica)
		s, tail, err := w.client.Open(ctx, testStream, src.header, src.oldest(), true)
		must(t, err)
		if tail.Start != 0 || tail.End != 0 || tail.Header != src.header {
			t.Fatalf("%+v", tail)
		}
		var acks []wal.Position
		s.OnAck(func(p wal.Position) { acks = append(acks, p) })
		for i, g := range src.groups[:30] {
			must(t, s.Send(ctx, g, i%3 == 0))
		}
		held, err := s.Append(ctx, src.groups[30])
		must(t, err)
		synctest.Wait()
		if held != src.groups[30].End() || s.Held() != held || acks[len(acks)-1] != held || len(acks) > 25 {
			t.Fatalf("held %d of %d; %d acks", held, src.groups[30].End(), len(acks))
		}
		src.check(t, w.client, held)
		ids, err := w.client.Streams(ctx)
		must(t, err)
		if len(ids) != 1 || ids[0] != testStream {
			t.Fatal(ids)
		}
		must(t, w.client.Trim(ctx, testStream, src.groups[25].Position))
		tail, err = w.client.Fence(ctx, testStream, 11)
		must(t, err)
		if tail.Start == 0 || tail.End != held || tail.Promise != 11 {
			t.Fatalf("%+v", tail)
		}
		_, err = w.client.Read(ctx, testStream, 0, 1, nil)
		wants(t, err, wal.ErrTrimmed)
		_, err = s.Append(ctx, src.groups[31])
		wants(t, err, wal.ErrFenced)
		<-s.Done()
		wants(t, s.Send(ctx, src.groups[32], false), wal.ErrFenced)
		_, err = w.client.Fence(ctx, testStream, 10)
		wants(t, err, wal.ErrFenced)
		wants(t, w.client.Remove(ctx, testStream, 10), wal.ErrFenced)
		must(t, w.client.Remove(ctx, testStream, 11))
		_, err = w.client.Fence(ctx, testStream, 12)
		wants(t, err, wal.ErrNoReplica)
	})
}

// TestGoesOn: after a lost connection the stream is opened again where the replica ends.
func TestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := writeOriginal(t, 10, 60, 3000)
		w := newWorld(t, nil)
		defer w.stop(t)
		w.disk.SetLatency(time.Millisecond)
		ctx := t.Context()
		sent := 0
		for round := 0; sent < len(src.groups); round++ {
			s, tail, err := w.client.Open(ctx, testStream, src.header, src.oldest(), round == 0)
			if errors.Is(err, ErrDisconnected) { // it was not known yet
				continue
			}
			must(t, err)
			for sent = 0; sent < len(src.groups) && src.groups[sent].End() <= tail.End; sent++ {
			}
			for ; sent < len(src.groups); sent++ {
				if round < 5 && sent%10 == round {
					time.Sleep(time.Millisecond / 2)
					w.cut()
				}
				if err = s.Send(ctx, src.groups[sent], false); err != nil {
					break
				}
			}
			if err == nil {
				synctest.Wait()
				time.Sleep(time.Second)
				err = s.Err()
			}
			if err != nil {
				wants(t, err, ErrDisconnected)
				sent = 0
			}
		}
		src.check(t, w.client, src.end())
	})
}

// TestSupersededAndMalformed: the stream ends with what the replica says.
func TestSupersededAndMalformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := writeOriginal(t, 10, 10, 3000)
		w := newWorld(t, nil)
		defer w.stop(t)
		ctx := t.Context()
		first, _, err := w.client.Open(ctx, testStream, src.header, src.oldest(), true)
		must(t, err)
		second, _, err := w.client.Open(ctx, testStream, src.header, src.oldest(), false)
		must(t, err)
		_, err = first.Append(ctx, src.groups[0])
		wants(t, err, wal.ErrSuperseded)
		wants(t, second.Send(ctx, wal.Chunk{Bytes: make([]byte, 100)}, false), ErrTooLong)
		bad := src.groups[0]
		bad.Bytes = append([]byte(nil), bad.Bytes...)
		bad.Bytes[100] ^= 1
		_, err = second.Append(ctx, bad)
		wants(t, err, wal.ErrMalformed)
		third, _, err := w.client.Open(ctx, testStream, src.header, src.oldest(), false)
		must(t, err)
		_, err = third.Append(ctx, src.groups[0])
		must(t, err)
		must(t, third.Close())
		wants(t, third.Err(), wal.ErrClosed)
		_, err = third.Append(ctx, src.groups[1])
		wants(t, err, wal.ErrClosed)
	})
}

// TestDeadPeer: silence is noticed in seconds, by both sides; a dead replica holds up nobody for longer.
func TestDeadPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := writeOriginal(t, 10, 10, 3000)
		w := newWorld(t, nil)
		defer w.stop(t)
		ctx := t.Context()
		s, _, err := w.client.Open(ctx, testStream, src.header, src.oldest(), true)
		must(t, err)
		time.Sleep(time.Minute) // heartbeats
		must(t, s.Err())
		w.mute.Store(true)
		began := time.Now()
		_, err = s.Append(ctx, src.groups[0])
		wants(t, err, ErrDisconnected)
		if took := time.Since(began); took > 5*time.Second {
			t.Fatalf("noticed after %v", took)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		w.server.mu.Lock()
		n := len(w.server.conns)
		w.server.mu.Unlock()
		if n != 0 {
			t.Fatalf("the server has %d connections", n)
		}
		began = time.Now()
		_, err = w.client.Fence(ctx, testStream, 11)
		wants(t, err, ErrDisconnected)
		if took := time.Since(began); took > 6*time.Second {
			t.Fatalf("told after %v", took)
		}
		w.mute.Store(false)
		time.Sleep(6 * time.Second)
		_, err = w.client.Fence(ctx, testStream, 11)
		must(t, err)
		if ok, err := w.client.Connected(); !ok || err != nil {
			t.Fatal(err)
		}
	})
}

// TestWindow: a slow replica takes no more than its window, and what it takes together it makes durable together.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := writeOriginal(t, 10, 60, 3000)
		w := newWorld(t, func(o *ServerOptions, _ *ClientOptions) { o.WindowBytes = 64 << 10 })
		defer w.stop(t)
		ctx := t.Context()
		s, _, err := w.client.Open(ctx, testStream, src.header, src.oldest(), true)
		must(t, err)
		acks := 0
		s.OnAck(func(wal.Position) { acks++ })
		w.disk.SetLatency(time.Hour)
		for _, g := range src.groups[:16] {
			must(t, s.Send(ctx, g, true))
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		wants(t, s.Send(short, src.groups[16], false), context.DeadlineExceeded)
		w.disk.SetLatency(time.Millisecond)
		for _, g := range src.groups[16:] {
			must(t, s.Send(ctx, g, false))
		}
		for s.Held() < src.end() {
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if acks > 30 {
			t.Fatalf("%d acks of %d groups", acks, len(src.groups))
		}
		src.check(t, w.client, src.end())
	})
}

func TestRemoteErrorsAreText(t *testing.T) {
	for code, err := range codes {
		if err == nil {
			continue
		}
		if e := remote(err); int(e.Code) != code || !errors.Is(e, err) {
			t.Fatalf("%v travels as %d", err, e.Code)
		}
	}
	if e := remote(&wal.CorruptionError{Path: strings.Repeat("é\xff", 500)}); !errors.Is(e, ErrCorrupt) || len(e.Text) > maxMessageBytes {
		t.Fatalf("%d, %d bytes", e.Code, len(e.Text))
	}
	if e := remote(errors.New("?")); e.Code != codeOther || e.Unwrap() != nil {
		t.Fatal(e)
	}
	if (&RemoteError{Code: 60000}).Unwrap() != nil {
		t.Fatal("a code of the future stands for something")
	}
}

// TestFull: a full disk ends the stream with ErrFull and loses nothing; opened again when there is room, it goes on.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := writeOriginal(t, 10, 60, 3000)
		w := newWorld(t, nil)
		defer w.stop(t)
		ctx := t.Context()
		s, _, err := w.client.Open(ctx, testStream, src.header, src.oldest(), true)
		must(t, err)
		w.disk.SetCapacity(w.disk.Used() + 100_000)
		sent := 0
		for ; err == nil && sent < len(src.groups); sent++ {
			_, err = s.Append(ctx, src.groups[sent])
		}
		wants(t, err, wal.ErrFull)
		held := s.Held()
		if held != src.groups[sent-2].End() {
			t.Fatalf("held %d", held)
		}
		w.disk.SetCapacity(0)
		s, tail, err := w.client.Open(ctx, testStream, src.header, src.oldest(), false)
		must(t, err)
		if tail.End != held {
			t.Fatalf("%d was held, now %d", held, tail.End)
		}
		for _, g := range src.groups[sent-1:] {
			_, err = s.Append(ctx, g)
			must(t, err)
		}
		src.check(t, w.client, src.end())
	})
}

// TestStoppedPeer: somebody who takes nothing any more holds up a sender for seconds only.
func TestStoppedPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		timing := Timing{}
		must(t, timing.setDefaults())
		k := newConn(2, newLink(near, near, timing), limits{Window: 1 << 20, Calls: 1, Streams: 1})
		ended := make(chan error, 1)
		go func() { ended <- k.run(t.Context()) }()
		began := time.Now()
		err := k.link.send(kindCall, 1, func(b []byte) []byte { return append(b, 0, 0) }, make([]byte, MaxPayloadBytes), false)
		if err == nil || time.Since(began) > 5*time.Second {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		wants(t, <-ended, ErrDisconnected)
		far.Close()
	})
}
