package handler

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// garbage is a batch with a right CRC whose attributes name codec and whose payload is payload.
func garbage(t testing.TB, codec batch.Codec, payload string) []byte {
	t.Helper()
	b := append(records(t, 1, 1, nil)[:batch.HeaderBytes:batch.HeaderBytes], payload...)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint16(b[21:], uint16(codec))
	binary.BigEndian.PutUint32(b[17:], batch.Checksum(b))
	return b
}

// produceOverTheWire sends a batch as a client would and returns the answer.
func produceOverTheWire(t *testing.T, client *kgo.Client, topic string, b []byte) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = b
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = topic, []kmsg.ProduceRequestTopicPartition{p}
	req.Topics = []kmsg.ProduceRequestTopic{rt}
	resp, err := client.SeedBrokers()[0].Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
}

// TestGarbageIsNotAcknowledged: what has the bit of a codec but is none of it is refused for good, and everything else in
// the topic stays readable.
func TestGarbageIsNotAcknowledged(t *testing.T) {
	f := newLogFixture(t, nil)
	f.create("t", 1)
	compacted := f.create("compacted", 1, "cleanup.policy", "compact")
	byName := kversion.Stable()
	byName.SetMaxKeyVersion(0, 12)
	opts := append(f.serve(), kgo.MaxVersions(byName))
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	codecs := []batch.Codec{batch.CodecGzip, batch.CodecSnappy, batch.CodecLZ4, batch.CodecZstd}
	for i, codec := range codecs {
		got := produceOverTheWire(t, client, "t", garbage(t, codec, "not compressed at all, whatever the attributes say"))
		if got.ErrorCode != kerr.InvalidRecord.Code || got.BaseOffset != -1 || got.ErrorMessage == nil || !strings.Contains(*got.ErrorMessage, codec.String()) {
			t.Errorf("%s: %+v", codec, got)
		}
		if got = produceOverTheWire(t, client, "t", records(t, 10, 100, func(b *batch.Builder) { b.Codec = codec })); got.ErrorCode != 0 || got.BaseOffset != int64(10*i) {
			t.Errorf("%s: a good one: %+v", codec, got)
		}
		// One record without key among others, which only an opened batch shows.
		b := batch.Builder{Codec: codec}
		b.Add(1, []byte("k"), []byte("v"))
		b.Add(2, nil, []byte("v"))
		raw, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if got = produceOverTheWire(t, client, compacted.Name, raw); got.ErrorCode != kerr.InvalidRecord.Code || len(got.ErrorRecords) != 1 || got.ErrorRecords[0].RelativeOffset != 1 {
			t.Errorf("%s: no key: %+v", codec, got)
		}
	}
	reader, err := kgo.NewClient(append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}))...)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for n := 0; n < 10*len(codecs); {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", n, err)
		}
		n += fetches.NumRecords()
	}
}

// TestTrustedBatchesAreNotOpened: the setting leaves batches closed, but for topics that need their records.
func TestTrustedBatchesAreNotOpened(t *testing.T) {
	f := newLogFixture(t, nil)
	f.TrustCompressed = true
	plain := f.create("plain", 1)
	compacted := f.create("compacted", 1, "cleanup.policy", "compact")
	b := garbage(t, batch.CodecZstd, "garbage")
	if got := f.produce(9, part(plain, 0, b))[0]; got.ErrorCode != 0 {
		t.Errorf("%+v", got)
	}
	if got := f.produce(9, part(compacted, 0, b))[0]; got.ErrorCode != kerr.InvalidRecord.Code {
		t.Errorf("compacted: %+v", got)
	}
}

// TestLargeWindows: batches that need more memory than most are taken too, by however many connections.
func TestLargeWindows(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	e, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	var plain batch.Builder
	plain.Add(1, nil, make([]byte, 10<<20))
	section, err := plain.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b := garbage(t, batch.CodecZstd, string(e.EncodeAll(section[batch.HeaderBytes:], nil)))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := f.produce(9, part(topic, 0, b), part(topic, 0, records(t, 5, 10, func(b *batch.Builder) { b.Codec = batch.CodecLZ4 }))); got[0].ErrorCode != 0 || got[1].ErrorCode != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
	wg.Wait()
	if next := f.send(topic, 0, records(t, 1, 1, nil)); next != 8*6 {
		t.Errorf("next offset %d", next)
	}
}

// TestOpenersAreWaitedFor: while all are taken a request waits, and no longer than its time.
func TestOpenersAreWaitedFor(t *testing.T) {
	o := newOpeners()
	rules := batch.DefaultRules(0)
	b := records(t, 5, 10, func(b *batch.Builder) { b.Codec = batch.CodecGzip })
	var taken []*batch.Opener
	for range cap(o.small) {
		taken = append(taken, <-o.small)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := o.prepare(ctx, b, &rules); !errors.Is(err, context.Canceled) {
		t.Errorf("nothing free: %v", err)
	}
	if _, _, err := o.prepare(ctx, records(t, 5, 10, nil), &rules); err != nil {
		t.Errorf("uncompressed: %v", err)
	}
	done := make(chan error)
	go func() {
		_, _, err := o.prepare(t.Context(), b, &rules)
		done <- err
	}()
	for _, opener := range taken {
		o.small <- opener
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(o.small) != cap(o.small) || len(o.large) != 1 {
		t.Errorf("%d and %d openers are back", len(o.small), len(o.large))
	}
}

// TestProduceCompressedDoesNotAllocate: opening a batch costs no memory either.
func TestProduceCompressedDoesNotAllocate(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	for _, codec := range []batch.Codec{batch.CodecGzip, batch.CodecSnappy, batch.CodecLZ4, batch.CodecZstd} {
		req := &wire.Produce{Acks: -1, TimeoutMillis: 5000, Parts: []wire.ProducePart{part(topic, 0, records(t, 100, 100, func(b *batch.Builder) { b.Codec = codec }))}}
		done := make(chan struct{}, 1)
		call := server.NewProduceCall(req, func() { done <- struct{}{} })
		conn, h, ctx := new(server.Conn), wire.Header{Version: 9}, t.Context()
		once := func() {
			f.Produce(ctx, conn, h, call)
			<-done
			if req.Parts[0].ErrorCode != 0 {
				t.Fatalf("%+v", req.Parts[0])
			}
		}
		for range 200 {
			once()
		}
		if n := testing.AllocsPerRun(500, once); n > 0.2 && !raceEnabled { // the tail index grows by doubling
			t.Errorf("%s: %v allocations per request", codec, n)
		}
	}
}
