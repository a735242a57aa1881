package handler

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// route answers requests of one API key. An error closes the connection.
type route func(ctx context.Context, c *server.Conn, h wire.Header, req kmsg.Request) (kmsg.Response, error)

// routes has the route of each API key at its index; nil where none is.
type routes [wire.MaxKey + 1]route

// on makes a route of a handler that takes its own request type.
func on[R kmsg.Request](handle func(context.Context, *server.Conn, wire.Header, R) (kmsg.Response, error)) route {
	return func(ctx context.Context, c *server.Conn, h wire.Header, req kmsg.Request) (kmsg.Response, error) {
		typed, ok := req.(R)
		if !ok {
			return nil, fmt.Errorf("api key %d arrived as a %T", h.Key, req)
		}
		return handle(ctx, c, h, typed)
	}
}

// routes collects the owners' tables. Two owners of one key are a mistake in the program.
func (b *Broker) routes() routes {
	var all routes
	for _, table := range []map[int16]route{b.topicRoutes(), b.logRoutes(), b.groupRoutes()} {
		for key, r := range table {
			if all[key] != nil {
				panic(fmt.Sprintf("handler: two routes for api key %d", key))
			}
			all[key] = r
		}
	}
	return all
}

// Handle implements server.Handler for everything but Produce and Fetch.
func (b *Broker) Handle(ctx context.Context, c *server.Conn, h wire.Header, req kmsg.Request) (kmsg.Response, error) {
	b.start()
	if h.Key < 0 || h.Key > wire.MaxKey || b.table[h.Key] == nil {
		return nil, fmt.Errorf("no handler for api key %d", h.Key)
	}
	return b.table[h.Key](ctx, c, h, req)
}
