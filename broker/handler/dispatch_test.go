package handler

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

var _ server.Handler = (*Broker)(nil)

// TestEveryServedKeyHasARoute keeps wire's table and the routes alike.
func TestEveryServedKeyHasARoute(t *testing.T) {
	table := (&Broker{}).routes()
	for key := range wire.MaxKey + 1 {
		api, _ := wire.LookupAPI(key)
		own := key == wire.KeyProduce || key == wire.KeyFetch // methods of their own in server.Handler
		switch has := table[key] != nil; {
		case own && has:
			t.Errorf("%s (%d) has a route beside its method", api.Name, key)
		case !own && api.Served && !has:
			t.Errorf("%s (%d) is served and has no route", api.Name, key)
		case !own && !api.Served && has:
			t.Errorf("%s (%d) has a route and is not served: %s", api.Name, key, api.Reason)
		}
	}
}

func TestUnknownKeyClosesTheConnection(t *testing.T) {
	b := &Broker{}
	for _, key := range []int16{-1, 4, 55, wire.MaxKey + 1} {
		if _, err := b.Handle(t.Context(), new(server.Conn), wire.Header{Key: key}, kmsg.NewPtrMetadataRequest()); err == nil {
			t.Errorf("key %d was handled", key)
		}
	}
	if _, err := b.Handle(t.Context(), new(server.Conn), wire.Header{Key: 19}, kmsg.NewPtrMetadataRequest()); err == nil {
		t.Error("a request of another type than its key was handled")
	}
}
