//go:build !walcheck

package handler

import (
	"testing"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

func TestFetchAnswersAreReused(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	f.send(topic, 0, records(t, 10, 100, nil))
	req := fetchOf(12, ask{topic: topic})
	c, h, ctx := new(server.Conn), wire.Header{Key: 1, Version: 12}, t.Context()
	once := func() {
		resp, err := f.Fetch(ctx, c, h, req)
		if err != nil || resp.SizeBytes() == 0 {
			t.Fatal(err)
		}
		resp.Release()
	}
	once()
	if n := testing.AllocsPerRun(200, once); n > 1 {
		t.Errorf("%v allocations per fetch", n)
	}
}
