package server

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
)

// TestAnswersOfManyConnections answers requests of many connections together and in any order, as a group commit does, with requests in
// between whose answers the reader goroutine writes.
func TestAnswersOfManyConnections(t *testing.T) {
	const conns, requests = 40, 60
	calls := make(chan *ProduceCall, conns*requests)
	h := &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) { calls <- call }}
	g := newRig(t, tcpListener(t), Options{Handler: h})
	defer g.close()
	var committer sync.WaitGroup
	committer.Go(func() {
		for call := <-calls; call != nil; call = <-calls {
			group := []*ProduceCall{call}
			for len(calls) > 0 {
				group = append(group, <-calls)
			}
			rand.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
			for _, call := range group {
				call.Done()
			}
		}
	})
	var clients sync.WaitGroup
	for range conns {
		c := g.dial()
		defer c.nc.Close()
		clients.Go(func() {
			for i := range int32(requests) {
				if i%5 == 3 {
					c.send(heartbeat(), i)
				} else {
					c.send(produceRequest(9, -1, 1, 10), i)
				}
			}
		})
		clients.Go(func() {
			_ = c.nc.SetReadDeadline(time.Now().Add(time.Minute))
			for i := range int32(requests) {
				if c.want(i) == nil {
					return
				}
			}
		})
	}
	clients.Wait()
	calls <- nil
	committer.Wait()
}

// TestAnswersThatTheSocketDoesNotTake has answers to Produce that are larger than what fits in the sockets of a client that does not read:
// they do not hold up others, and come whole and in order once it reads.
func TestAnswersThatTheSocketDoesNotTake(t *testing.T) {
	const requests = 10
	held := make(chan *ProduceCall, requests)
	words := string(bytes.Repeat([]byte("x"), 30_000))
	h := &funcHandler{produce: func(_ context.Context, _ *Conn, h wire.Header, call *ProduceCall) {
		if h.ClientID == "quick" {
			go call.Done()
			return
		}
		for i := range call.Req.Parts {
			call.Req.Parts[i].ErrorCode, call.Req.Parts[i].ErrorMessage = 87, words
		}
		held <- call
	}}
	g := newRig(t, tcpListener(t), Options{Handler: h, SendBufferBytes: 4 << 10})
	defer g.close()
	slow := g.dial()
	defer slow.nc.Close()
	for i := range int32(requests) {
		slow.send(produceRequest(9, -1, 5, 10), i)
	}
	for range requests {
		(<-held).Done()
	}
	g.s.flushers[0].push(g.s.snapshot(nil)[0]) // once more than needed

	others := make([]*client, 8) // some share the flusher
	for i := range others {
		others[i] = g.dial()
		defer others[i].nc.Close()
		frame := produceRequest(9, -1, 1, 10)
		for k := range int32(50) {
			others[i].write(quickFrame(frame, k))
			_ = others[i].nc.SetReadDeadline(time.Now().Add(time.Minute))
			others[i].want(k)
		}
	}
	_ = slow.nc.SetReadDeadline(time.Now().Add(time.Minute))
	for i := range int32(requests) {
		if got := bytes.Count(slow.want(i), []byte(words)); got != 5 {
			t.Fatalf("answer %d has %d of 5 messages", i, got)
		}
	}
	slow.send(heartbeat(), 99)
	slow.want(99)
}

func quickFrame(req kmsg.Request, correlationID int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("quick")).AppendRequest(nil, req, correlationID)
}

// TestOtherAnswersBehindProduce has an answer of another kind stand behind those to Produce.
func TestOtherAnswersBehindProduce(t *testing.T) {
	calls := make(chan *ProduceCall, 1)
	h := &funcHandler{produce: func(_ context.Context, _ *Conn, _ wire.Header, call *ProduceCall) { calls <- call }}
	g := newRig(t, tcpListener(t), Options{Handler: h})
	defer g.close()
	c := g.dial()
	defer c.nc.Close()
	_ = c.nc.SetReadDeadline(time.Now().Add(time.Minute))
	for i := range int32(200) {
		c.send(produceRequest(9, -1, 1, 10), 3*i)
		c.send(fetchRequest(4), 3*i+1)
		c.send(heartbeat(), 3*i+2)
		(<-calls).Done()
		for k := range int32(3) {
			c.want(3*i + k)
		}
	}
}
