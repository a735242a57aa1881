package null

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

func serve(t testing.TB, o Options) (*Broker, string) {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b, ln.Addr().String()
}

func TestFranzGoProducesAndConsumes(t *testing.T) {
	for name, versions := range map[string]*kversion.Versions{"newest": kversion.Tip(), "2.1": kversion.V2_1_0(), "1.0": kversion.V1_0_0()} {
		t.Run(name, func(t *testing.T) {
			b, addr := serve(t, Options{Partitions: 3, RecordBytes: 100, BatchBytes: 10_000, EndOffset: 500})
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MaxVersions(versions), kgo.ConsumeTopics("t"),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.UnknownTopicRetries(3))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			for i := range 1000 {
				cl.Produce(ctx, &kgo.Record{Topic: "t", Key: fmt.Append(nil, i), Value: []byte("v")}, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Error(err)
					}
				})
			}
			if err := cl.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if n := b.Produced(); n != 1000 {
				t.Errorf("%d records arrived", n)
			}
			next := map[int32]int64{}
			for next[0] < 500 || next[1] < 500 || next[2] < 500 {
				fs := cl.PollFetches(ctx)
				if err := fs.Err(); err != nil {
					t.Fatal(err)
				}
				fs.EachRecord(func(r *kgo.Record) {
					if r.Offset != next[r.Partition] || len(r.Value) != 100 {
						t.Fatalf("partition %d offset %d, want %d", r.Partition, r.Offset, next[r.Partition])
					}
					next[r.Partition]++
				})
			}
		})
	}
}

func TestRubbishClosesTheConnection(t *testing.T) {
	_, addr := serve(t, Options{})
	for _, frame := range []string{
		"\xff\xff\xff\xff\x00\x00\x00\x09\x00\x00\x00\x01",
		"\x00\x00\x00\x0c\x00\x00\x00\x09\x00\x00\x00\x01\x7f\xff\x00\x00",
		"\x00\x00\x00\x0c\x03\xe7\x00\x09\x00\x00\x00\x01\x7f\xff\x00\x00",
		"\x00\x00\x00\x0a\x00\x03\x00\x09\x00\x00\x00\x01\xff\xff",
	} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write([]byte(frame))
		if n, err := nc.Read(make([]byte, 1)); err == nil {
			t.Errorf("%q: %d bytes of answer", frame, n)
		}
		_ = nc.Close()
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{Partitions: -1}); err == nil {
		t.Error("negative partitions")
	}
}

func BenchmarkFranzGoProduce(b *testing.B) {
	_, addr := serve(b, Options{Partitions: 1})
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(1<<20), kgo.MaxBufferedRecords(100_000), kgo.UnknownTopicRetries(3))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	value := make([]byte, 1024)
	b.SetBytes(1024)
	for b.Loop() {
		cl.Produce(context.Background(), &kgo.Record{Value: value}, nil)
	}
	if err := cl.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}
