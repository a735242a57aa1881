//go:build !walcheck && !framecheck && !race

package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// rawClient sends requests that are encoded beforehand and reads answers into one buffer, so that what is allocated meanwhile is the
// broker's.
type rawClient struct {
	t      *testing.T
	conn   net.Conn
	buf    []byte
	format *kmsg.RequestFormatter
}

func (c *rawClient) encode(req kmsg.Request, version int16) []byte {
	req.SetVersion(version)
	return c.format.AppendRequest(nil, req, 7)
}

// ask returns the body of the answer, which is valid until the next call.
func (c *rawClient) ask(request []byte) []byte {
	if _, err := c.conn.Write(request); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.ReadFull(c.conn, c.buf[:4]); err != nil {
		c.t.Fatal(err)
	}
	n := int(binary.BigEndian.Uint32(c.buf))
	if n > len(c.buf) {
		c.t.Fatalf("an answer of %d bytes", n)
	}
	if _, err := io.ReadFull(c.conn, c.buf[:n]); err != nil {
		c.t.Fatal(err)
	}
	return c.buf[4:n]
}

// startOnDisk runs a whole broker on a folder and a socket, with an etcd in memory, until the test ends.
func startOnDisk(t *testing.T, change func(*Config)) *rawClient {
	t.Helper()
	dir := t.TempDir()
	c := Default()
	c.NodeID, c.DataDir, c.Durability, c.AdminListener = 1, dir, "local", ""
	c.Listeners, c.ObjectStore.URL, c.Etcd.Embedded = []string{"127.0.0.1:0"}, "file://"+dir+"/objects", true
	change(&c)
	b, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	kv := memkv.New()
	b.seams.openKV = func(context.Context) (metadata.KV, func(), error) { return kv, func() {}, nil }
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan Info, 1), make(chan error, 1)
	go func() { ended <- b.Run(ctx, func(i Info) { ready <- i }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	select {
	case info := <-ready:
		conn, err := net.Dial("tcp", info.Bootstrap)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return &rawClient{t: t, conn: conn, buf: make([]byte, 4<<20), format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw"))}
	case err := <-ended:
		ended <- err
		t.Fatal(err)
		return nil
	}
}

func (c *rawClient) createTopic(name string) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, 1, 1
	req.Topics = append(req.Topics, t)
	resp := kmsg.NewPtrCreateTopicsResponse()
	resp.SetVersion(5)
	if err := resp.ReadFrom(c.ask(c.encode(req, 5))[1:]); err != nil || resp.Topics[0].ErrorCode != 0 {
		c.t.Fatalf("create a topic: %v, %+v", err, resp)
	}
}

func (c *rawClient) produceOf(topic string, records, valueBytes int) []byte {
	var b batch.Builder
	for range records {
		b.Add(time.Now().UnixMilli(), nil, []byte(strings.Repeat("v", valueBytes)))
	}
	encoded, err := b.Bytes()
	if err != nil {
		c.t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 30_000
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	t.Topic, p.Records = topic, encoded
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return c.encode(req, 9)
}

func (c *rawClient) fetchOf(topic string, offset int64, maxBytes int32) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 500, 1, maxBytes, -1
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	t.Topic, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = topic, offset, maxBytes, -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return c.encode(req, 12)
}

// heapOf is what the whole process allocates per call of fn.
func heapOf(n int, fn func()) (bytes, objects float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		fn()
	}
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc-before.TotalAlloc) / float64(n), float64(after.Mallocs-before.Mallocs) / float64(n)
}

// sessionFetchOf opens a fetch session (KIP-227) on one partition and returns a request that goes on with it, again and again: next sets the
// session's epoch in it.
func (c *rawClient) sessionFetchOf(topic string, offset int64) (next func() []byte) {
	c.t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 500, 1, 1<<20, 0
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	t.Topic, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = topic, offset, 1<<20, -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp := kmsg.FetchResponse{Version: 12}
	if err := resp.ReadFrom(c.ask(c.encode(req, 12))[1:]); err != nil || resp.ErrorCode != 0 || resp.SessionID == 0 {
		c.t.Fatalf("open a session: %v, %+v", err, resp)
	}
	req.SessionID = resp.SessionID
	encoded := c.encode(req, 12)
	const at = 4 + 2 + 2 + 4 + (2 + len("raw")) + 1 + 4*4 + 1 + 4 // length, header, and the body up to the epoch
	epoch := uint32(0)
	return func() []byte {
		epoch++
		binary.BigEndian.PutUint32(encoded[at:], epoch)
		return encoded
	}
}

// TestRecordBytesStayOffTheHeap runs a whole broker, uploads included, and counts what it allocates for a produced and for a fetched
// mebibyte, and for requests of one record. A copy of record bytes on the heap anywhere would be a mebibyte.
func TestRecordBytesStayOffTheHeap(t *testing.T) {
	c := startOnDisk(t, func(c *Config) { c.SealBytes = 8 << 20 })
	c.createTopic("t")
	large, small := c.produceOf("t", 1000, 1020), c.produceOf("t", 1, 1000)
	produced := 0
	produce := func(request []byte) func() {
		return func() {
			resp := kmsg.ProduceResponse{Version: 9}
			body := c.ask(request)
			if produced%100 == 0 { // decoding allocates
				if err := resp.ReadFrom(body[1:]); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
					t.Fatalf("produce: %v, %+v", err, resp)
				}
			}
			produced++
		}
	}
	measure := func(what string, n int, fn func(), mostBytes, mostObjects float64) {
		t.Helper()
		bytes, objects := heapOf(n, fn)
		t.Logf("%s: %.0f bytes in %.1f objects", what, bytes, objects)
		if bytes > mostBytes || objects > mostObjects {
			t.Errorf("%s: %.0f bytes in %.1f objects on the heap, at most %.0f in %.1f", what, bytes, objects, mostBytes, mostObjects)
		}
	}
	// Pools, slabs, segments and staging memory come into being first.
	heapOf(200, produce(large))
	measure("produce of 1 MiB", 300, produce(large), 64<<10, 50)

	end := int64(500 * 1000)
	hot := c.fetchOf("t", end-1000, 1<<20)
	fetch := func() {
		if body := c.ask(hot); len(body) < 1<<20-32<<10 || !bytes.Contains(body[len(body)-64:], []byte("vvvv")) {
			t.Fatalf("a fetch of %d bytes", len(body))
		}
	}
	heapOf(100, fetch)
	measure("fetch of 1 MiB", 300, fetch, 16<<10, 10)

	heapOf(500, produce(small))
	measure("produce of one record", 3000, produce(small), 1<<10, 2)
	end += 3500
	one := c.fetchOf("t", end-1, 1<<20)
	fetchOne := func() {
		if body := c.ask(one); len(body) < 1000 {
			t.Fatalf("a fetch of %d bytes", len(body))
		}
	}
	heapOf(100, fetchOne)
	measure("fetch of one record", 3000, fetchOne, 256, 0.5)
	next := c.sessionFetchOf("t", end-1)
	fetchNext := func() {
		if body := c.ask(next()); len(body) < 1000 {
			t.Fatalf("a fetch of %d bytes", len(body))
		}
	}
	heapOf(100, fetchNext)
	measure("fetch of one record in a session", 3000, fetchNext, 256, 0.5)
}
