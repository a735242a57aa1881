package handler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemarkmq/tidemark/broker/server"
)

// serve listens with the fixture as handler and returns options for clients that reach it, whatever address the metadata says.
func (f *logFixture) serve() []kgo.Opt {
	f.t.Helper()
	srv, err := server.New(server.Options{Handler: f.Broker})
	if err != nil {
		f.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			f.t.Errorf("server: %v", err)
		}
		stop, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(stop); err != nil {
			f.t.Errorf("server: %v", err)
		}
	})
	return []kgo.Opt{
		kgo.SeedBrokers(ln.Addr().String()),
		kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, ln.Addr().String())
		}),
	}
}

// TestRoundTripOverTheWire: an idempotent client writes with every codec, and another one reads all of it in order, from
// memory and from the object store.
func TestRoundTripOverTheWire(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 3)
	opts := f.serve()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const perCodec, partitions = 300, 3
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for i, codec := range codecs {
		client, err := kgo.NewClient(append([]kgo.Opt{kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec), kgo.MaxBufferedRecords(50)}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		for n := range perCodec {
			value := fmt.Sprintf("%d/%d/%s", i, n, strings.Repeat("x", n))
			client.Produce(ctx, &kgo.Record{Partition: int32(n % partitions), Key: []byte("k"), Value: []byte(value)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := client.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		client.Close()
	}
	readAll := func(where string) {
		t.Helper()
		client, err := kgo.NewClient(append([]kgo.Opt{kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(time.Second)}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		next := [partitions]int64{}
		for total := 0; total < perCodec*len(codecs); {
			fetches := client.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatalf("%s: after %d records: %v", where, total, err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				at := next[r.Partition]
				n := int(at)%(perCodec/partitions)*partitions + int(r.Partition)
				want := fmt.Sprintf("%d/%d/%s", at/(perCodec/partitions), n, strings.Repeat("x", n))
				if r.Offset != at || string(r.Value) != want {
					t.Fatalf("%s: partition %d offset %d (want %d): %.20q, want %.20q", where, r.Partition, r.Offset, at, r.Value, want)
				}
				next[r.Partition]++
				total++
			})
		}
	}
	readAll("memory")
	f.upload(topic, 0, 500)
	f.upload(topic, 1, 250)
	readAll("object store, files and memory")
	if f.cold.reads == 0 {
		t.Error("nothing came from the object store")
	}
}
