package handler

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
)

func TestProduceVersionsAndAcks(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	next := int64(0)
	for version := int16(3); version <= 13; version++ {
		for _, acks := range []int16{-1, 0, 1} {
			req := &wire.Produce{Acks: acks, TimeoutMillis: 5000, Parts: []wire.ProducePart{part(topic, 1, records(t, 3, 10, nil)), part(topic, 0, records(t, 1, 10, nil))}}
			<-f.start(version, req)
			if p := req.Parts[0]; p.ErrorCode != 0 || p.BaseOffset != next || p.LogAppendTimeMs != -1 || p.LogStart != 0 {
				t.Fatalf("v%d acks %d: %+v", version, acks, p)
			}
			if p := req.Parts[1]; p.ErrorCode != 0 || p.BaseOffset != next/3 {
				t.Fatalf("v%d acks %d: %+v", version, acks, p)
			}
			next += 3
		}
	}
	if req := (&wire.Produce{}); true { // no partition at all
		<-f.start(9, req)
	}
}

func TestProduceErrors(t *testing.T) {
	f := newLogFixture(t, nil)
	plain := f.create("plain", 1)
	compacted := f.create("compacted", 1, "cleanup.policy", "compact")
	small := f.create("small", 1, "max.message.bytes", "1000")
	old := f.create("old", 1, "message.timestamp.before.max.ms", "1000")
	elsewhere := f.create("elsewhere", 1)
	f.Partitions.Close(metadata.PartitionID{Topic: elsewhere.ID})
	missing := &metadata.Topic{Name: "missing", ID: metadata.TopicID{1}}
	f.send(plain, 0, records(t, 5, 1, fromProducer(1, 3, 0)))
	noKey := func(*batch.Builder) {}
	withoutKeys := func() []byte {
		var b batch.Builder
		noKey(&b)
		b.Add(1, []byte("k"), nil)
		b.Add(2, nil, []byte("v"))
		out, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}()
	good := records(t, 1, 1, nil)
	edit := func(at int, v byte) []byte {
		b := records(t, 1, 1, nil)
		b[at] = v
		return b
	}
	for _, tt := range []struct {
		name    string
		version int16
		topic   *metadata.Topic
		index   int32
		records []byte
		acks    int16
		want    *kerr.Error
		errors  int
	}{
		{name: "unknown topic", version: 12, topic: missing, records: good, want: kerr.UnknownTopicOrPartition},
		{name: "unknown topic id", version: 13, topic: missing, records: good, want: kerr.UnknownTopicID},
		{name: "unknown partition", version: 13, topic: plain, index: 1, records: good, want: kerr.UnknownTopicOrPartition},
		{name: "negative partition", version: 12, topic: plain, index: -1, records: good, want: kerr.UnknownTopicOrPartition},
		{name: "not here", version: 12, topic: elsewhere, records: good, want: kerr.NotLeaderForPartition},
		{name: "acks 2", version: 9, topic: plain, records: good, acks: 2, want: kerr.InvalidRequiredAcks},
		{name: "null records", version: 9, topic: plain, want: kerr.InvalidRecord},
		{name: "two batches", version: 9, topic: plain, records: append(records(t, 1, 1, nil), good...), want: kerr.InvalidRecord},
		{name: "magic 1", version: 9, topic: plain, records: edit(16, 1), want: kerr.InvalidRecord},
		{name: "crc", version: 9, topic: plain, records: edit(17, 0xff), want: kerr.CorruptMessage},
		{name: "cut off", version: 9, topic: plain, records: good[:len(good)-1], want: kerr.CorruptMessage},
		{name: "too large", version: 9, topic: small, records: records(t, 1, 2000, nil), want: kerr.MessageTooLarge},
		{name: "too old", version: 9, topic: old, records: records(t, 2, 1, nil), want: kerr.InvalidTimestamp, errors: 2},
		{name: "no key", version: 9, topic: compacted, records: withoutKeys, want: kerr.InvalidRecord, errors: 1},
		{name: "zstd before v7", version: 6, topic: plain, records: records(t, 1, 1, func(b *batch.Builder) { b.Codec = batch.CodecZstd }), want: kerr.UnsupportedCompressionType},
		{name: "gap", version: 9, topic: plain, records: records(t, 1, 1, fromProducer(1, 3, 6)), want: kerr.OutOfOrderSequenceNumber},
		{name: "older epoch", version: 9, topic: plain, records: records(t, 1, 1, fromProducer(1, 2, 0)), want: kerr.InvalidProducerEpoch},
		{name: "new epoch not at 0", version: 9, topic: plain, records: records(t, 1, 1, fromProducer(1, 4, 5)), want: kerr.OutOfOrderSequenceNumber},
	} {
		t.Run(tt.name, func(t *testing.T) {
			acks := tt.acks
			if acks == 0 {
				acks = -1
			}
			req := &wire.Produce{Acks: acks, TimeoutMillis: 5000, Parts: []wire.ProducePart{part(tt.topic, tt.index, tt.records), part(plain, 0, records(t, 1, 1, nil))}}
			<-f.start(tt.version, req)
			p := req.Parts[0]
			if p.ErrorCode != tt.want.Code || p.BaseOffset != -1 || len(p.RecordErrors) != tt.errors {
				t.Errorf("got %d (%s) %+v, want %v", p.ErrorCode, p.ErrorMessage, p, tt.want)
			}
			if other := req.Parts[1]; (other.ErrorCode != 0) != (tt.acks != 0) {
				t.Errorf("the other partition: %+v", other)
			}
		})
	}
}

func TestProduceTransactional(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	txn := records(t, 1, 1, func(b *batch.Builder) {
		fromProducer(1, 0, 0)(b)
		b.Transactional = true
	})
	if got := f.produce(9, part(topic, 0, txn), part(topic, 0, records(t, 1, 1, nil))); got[0].ErrorCode != kerr.TransactionalIDAuthorizationFailed.Code || got[1].ErrorCode != got[0].ErrorCode {
		t.Errorf("without transactional id: %+v", got)
	}
	id := "tx"
	req := &wire.Produce{Acks: -1, TransactionalID: &id, Parts: []wire.ProducePart{part(topic, 0, txn)}}
	<-f.start(9, req)
	if code := req.Parts[0].ErrorCode; code != kerr.InvalidProducerIDMapping.Code {
		t.Errorf("with transactional id: %d", code)
	}
	if got := f.send(topic, 0, records(t, 1, 1, nil)); got != 0 {
		t.Errorf("something was appended: next offset %d", got)
	}
}

func TestProduceDuplicate(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	f.send(topic, 0, records(t, 7, 1, nil))
	for range 3 {
		if at := f.send(topic, 0, records(t, 5, 1, fromProducer(4, 0, 0))); at != 7 {
			t.Fatalf("offset %d", at)
		}
	}
	if at := f.send(topic, 0, records(t, 1, 1, fromProducer(4, 0, 5))); at != 12 {
		t.Fatalf("offset %d", at)
	}
}

func TestProduceConverts(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1, "compression.type", "zstd", "message.timestamp.type", "LogAppendTime")
	before := time.Now().UnixMilli()
	got := f.produce(13, part(topic, 0, records(t, 100, 100, nil)))[0]
	if got.ErrorCode != 0 || got.LogAppendTimeMs < before {
		t.Fatalf("%+v", got)
	}
	_, parts := f.fetch(new(server.Conn), fetchOf(13, ask{topic: topic}))
	if len(parts) != 1 || len(parts[0].offsets) != 1 || parts[0].bytes > 2000 {
		t.Fatalf("%+v", parts)
	}
	if _, parts = f.fetch(new(server.Conn), fetchOf(9, ask{topic: topic})); parts[0].ErrorCode != kerr.UnsupportedCompressionType.Code {
		t.Fatalf("zstd topic with Fetch v9: %+v", parts[0])
	}
}

func TestProduceTimesOut(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	f.held.close()
	req := &wire.Produce{Acks: -1, TimeoutMillis: 0, Parts: []wire.ProducePart{part(topic, 0, records(t, 1, 1, nil)), part(topic, 5, records(t, 1, 1, nil))}}
	start := time.Now()
	<-f.start(9, req)
	if waited := time.Since(start); waited < minProduceTimeout {
		t.Errorf("answered after %v", waited)
	}
	if req.Parts[0].ErrorCode != kerr.RequestTimedOut.Code || req.Parts[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("%+v", req.Parts)
	}
	req.Reset() // the server uses it again: a late commit must not touch it
	req.Parts = append(req.Parts, wire.ProducePart{BaseOffset: -77})
	f.held.open(1)
	if req.Parts[0].BaseOffset != -77 {
		t.Error("a late commit wrote to a request that was answered")
	}
	if at := f.send(topic, 0, records(t, 1, 1, nil)); at != 1 {
		t.Errorf("the batch that timed out is lost: next offset %d", at)
	}
	if !f.Broker.log.deadlines.empty() {
		t.Error("deadline left behind")
	}
}

func TestProduceAfterShutdownOfTheLog(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	f.stop()
	if got := f.produce(9, part(topic, 0, records(t, 1, 1, nil)))[0]; got.ErrorCode != kerr.NotLeaderForPartition.Code {
		t.Fatalf("%+v", got)
	}
}

func TestProduceContextIsLazy(t *testing.T) {
	c := produceContext{Context: context.Background(), deadline: time.Now().Add(-time.Second)}
	if c.Err() != nil || c.timed != nil {
		t.Fatal("not lazy")
	}
	<-c.Done()
	if context.Cause(&c) != context.DeadlineExceeded || c.Err() != context.DeadlineExceeded {
		t.Fatal(context.Cause(&c))
	}
	c.cancel()
}

func TestProduceDoesNotAllocate(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	b := records(t, 100, 100, nil)
	req := &wire.Produce{Acks: -1, TimeoutMillis: 5000, Parts: []wire.ProducePart{part(topic, 0, b)}}
	done := make(chan struct{}, 1)
	answered := func() { done <- struct{}{} }
	call := server.NewProduceCall(req, answered)
	conn, h := new(server.Conn), wire.Header{Version: 9}
	ctx := t.Context()
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
	if n := testing.AllocsPerRun(500, once); n > 0.2 { // the tail index grows by doubling
		t.Errorf("%v allocations per request", n)
	}
}
