package handler

import (
	"context"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

// newStore is a metadata store in memory with broker 7 registered, and the broker's incarnation.
func newStore(t *testing.T) (*metadata.Store, metadata.Incarnation) {
	t.Helper()
	store, err := metadata.Open(t.Context(), memkv.New(), metadata.Options{Prefix: "/test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("metadata store: %v", err)
		}
	})
	registration, err := store.Register(t.Context(), metadata.Broker{ID: 7, Host: "broker.test", Port: 9092, Rack: "r1", Token: "test"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := registration.Close(context.Background()); err != nil {
			t.Errorf("registration: %v", err)
		}
	})
	return store, registration.Incarnation
}
