package handler

import (
	"context"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// TestStopWaitsForSlowReads: a read that is under way, and one that nobody came for, hold nothing after Stop.
func TestStopWaitsForSlowReads(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	f.send(topic, 0, records(t, 2, 100, nil))
	f.upload(topic, 0, 2)
	f.send(topic, 1, records(t, 2, 100, nil))
	fetch := func() *fetchState {
		t.Helper()
		c := new(server.Conn)
		resp, err := f.Fetch(context.Background(), c, wire.Header{Key: 1, Version: 12}, fetchOf(12, ask{topic: topic, index: 1}, ask{topic: topic, index: 0}))
		if err != nil {
			t.Fatal(err)
		}
		resp.Release()
		return c.Local.(*fetchState)
	}
	<-fetch().slowReady
	if f.cold.held != 1 {
		t.Fatalf("%d chunks", f.cold.held)
	}
	f.cold.mu.Lock()
	f.cold.gate = make(chan struct{}) // never opened
	f.cold.mu.Unlock()
	hanging := fetch()
	stopped := make(chan struct{})
	go func() { f.Broker.Stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Fatal("Stop hangs")
	}
	if !hanging.isClosed() || f.cold.held != 0 || !f.Broker.log.slow.budget.TryAcquire(slowBudgetBytes) {
		t.Errorf("%d chunks are held after Stop", f.cold.held)
	}
	late := fetch()
	late.mu.Lock()
	defer late.mu.Unlock()
	if len(late.slow) != 0 {
		t.Error("a read started after Stop")
	}
}
