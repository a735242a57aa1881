package handler

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

const long = 60_000 // ms: a wait that a test must not sit out

func TestFetchVersions(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	for range 3 {
		f.send(topic, 1, records(t, 2, 10, nil))
	}
	for version := int16(4); version <= 18; version++ {
		_, parts := f.fetch(new(server.Conn), fetchOf(version, ask{topic: topic, index: 1, offset: 3}, ask{topic: topic, index: 0}))
		if len(parts) != 2 {
			t.Fatalf("v%d: %+v", version, parts)
		}
		p := parts[0]
		if p.ErrorCode != 0 || p.HighWatermark != 6 || p.LastStable != 6 || p.LogStart != 0 || p.PreferredReplica != -1 || p.Aborted != nil || !reflect.DeepEqual(p.offsets, []int64{2, 4}) {
			t.Errorf("v%d: %+v", version, p)
		}
		if version < 13 && p.topic != "t" {
			t.Errorf("v%d: topic %q", version, p.topic)
		}
		if p := parts[1]; p.ErrorCode != 0 || p.HighWatermark != 0 || p.bytes != 0 {
			t.Errorf("v%d: %+v", version, p)
		}
	}
	req := fetchOf(12, ask{topic: topic, index: 1})
	req.IsolationLevel = 1
	if _, parts := f.fetch(new(server.Conn), req); parts[0].Aborted == nil || len(parts[0].offsets) != 3 {
		t.Errorf("read_committed: %+v", parts[0])
	}
}

func TestFetchErrors(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	elsewhere := f.create("elsewhere", 1)
	f.Partitions.Close(metadata.PartitionID{Topic: elsewhere.ID})
	f.send(topic, 0, records(t, 5, 1, nil))
	missing := &metadata.Topic{Name: "missing", ID: metadata.TopicID{7}}
	for _, tt := range []struct {
		name    string
		version int16
		ask     ask
		want    *kerr.Error
	}{
		{"unknown topic", 12, ask{topic: missing}, kerr.UnknownTopicOrPartition},
		{"unknown id", 13, ask{topic: missing}, kerr.UnknownTopicID},
		{"unknown partition", 13, ask{topic: topic, index: 2}, kerr.UnknownTopicOrPartition},
		{"not here", 16, ask{topic: elsewhere}, kerr.NotLeaderForPartition},
		{"above the end", 12, ask{topic: topic, offset: 6}, kerr.OffsetOutOfRange},
		{"negative", 12, ask{topic: topic, offset: -1}, kerr.OffsetOutOfRange},
		{"newer epoch", 12, ask{topic: topic, current: 2}, kerr.UnknownLeaderEpoch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := fetchOf(tt.version, tt.ask)
			req.MinBytes, req.MaxWaitMillis = 1, long
			_, parts := f.fetch(new(server.Conn), req)
			if len(parts) != 1 || parts[0].ErrorCode != tt.want.Code || parts[0].HighWatermark != -1 || parts[0].LogStart != -1 {
				t.Errorf("%+v, want %v", parts, tt.want)
			}
			if tt.name == "not here" && (parts[0].CurrentLeader == nil || parts[0].CurrentLeader.LeaderID != 7) {
				t.Errorf("current leader %+v", parts[0].CurrentLeader)
			}
		})
	}
	// A broker that others have taken over may be behind: a consumer that knows more is told to look for the new leader.
	for cause, want := range map[error]*kerr.Error{nil: kerr.OffsetOutOfRange, metadata.ErrFenced: kerr.NotLeaderForPartition, metadata.ErrUnavailable: kerr.NotLeaderForPartition} {
		f.Confirm = func(context.Context) error { return cause }
		if _, parts := f.fetch(new(server.Conn), fetchOf(12, ask{topic: topic, offset: 6})); parts[0].ErrorCode != want.Code {
			t.Errorf("above the end, etcd says %v: %+v", cause, parts[0])
		}
	}
	// Epoch checks are for versions that have the field.
	if _, parts := f.fetch(new(server.Conn), fetchOf(8, ask{topic: topic, current: 2})); parts[0].ErrorCode != 0 {
		t.Errorf("v8 with leader epoch: %+v", parts[0])
	}
	req := fetchOf(12, ask{topic: topic, offset: 5, last: 1})
	req.MinBytes, req.MaxWaitMillis = 1, 1
	if _, parts := f.fetch(new(server.Conn), req); parts[0].ErrorCode != 0 || parts[0].Diverging != nil {
		t.Errorf("%+v", parts[0])
	}
}

func TestFetchLimits(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 3)
	one := len(records(t, 1, 1000, nil))
	for index := range int32(3) {
		for range 4 {
			f.send(topic, index, records(t, 1, 1000, nil))
		}
	}
	for _, tt := range []struct {
		name              string
		maxBytes, partMax int
		want              []int // batches per partition
	}{
		{"all", 100 * one, 100 * one, []int{4, 4, 4}},
		{"partition limit", 100 * one, 2*one + 1, []int{2, 2, 2}},
		{"response limit", 5 * one, 100 * one, []int{4, 1, 0}},
		{"first batch is larger than the response", 10, 100 * one, []int{1, 0, 0}},
		{"first batch is larger than the partition's", 100 * one, 10, []int{1, 0, 0}},
		{"zero", 0, 0, []int{1, 0, 0}},
	} {
		req := fetchOf(12, ask{topic: topic, index: 0, maxBytes: int32(max(tt.partMax, 1))}, ask{topic: topic, index: 1, maxBytes: int32(max(tt.partMax, 1))}, ask{topic: topic, index: 2, maxBytes: int32(max(tt.partMax, 1))})
		req.MaxBytes = int32(tt.maxBytes)
		_, parts := f.fetch(new(server.Conn), req)
		for i, want := range tt.want {
			if got := len(parts[i].offsets); got != want || parts[i].HighWatermark != 4 {
				t.Errorf("%s: partition %d: %d batches, want %d; %+v", tt.name, i, got, want, parts[i])
			}
		}
	}
	// The empty first partition does not use up the right to one oversized batch.
	req := fetchOf(12, ask{topic: topic, index: 0, offset: 4}, ask{topic: topic, index: 1, maxBytes: 10})
	if _, parts := f.fetch(new(server.Conn), req); len(parts[1].offsets) != 1 {
		t.Errorf("%+v", parts)
	}
}

// background runs a fetch and returns its answer when it comes.
func (f *logFixture) background(c *server.Conn, req *kmsg.FetchRequest) <-chan []fetchedPart {
	out := make(chan []fetchedPart, 1)
	go func() {
		_, parts := f.fetch(c, req)
		out <- parts
	}()
	return out
}

// waiting returns when a long poll watches the partition.
func (f *logFixture) waiting(topic *metadata.Topic, index int32) {
	f.t.Helper()
	p, _ := f.Partitions.Get(metadata.PartitionID{Topic: topic.ID, Partition: index})
	for deadline := time.Now().Add(10 * time.Second); !p.Watched(); {
		if time.Now().After(deadline) {
			f.t.Fatal("nobody waits")
		}
		runtime.Gosched()
	}
}

func TestFetchWaits(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	one := len(records(t, 1, 100, nil))
	c := new(server.Conn)

	req := fetchOf(12, ask{topic: topic, index: 0}, ask{topic: topic, index: 1})
	req.MinBytes, req.MaxWaitMillis = int32(2*one), long
	answer := f.background(c, req)
	f.waiting(topic, 1)
	f.send(topic, 0, records(t, 1, 100, nil))
	select {
	case got := <-answer:
		t.Fatalf("answered below min bytes: %+v", got)
	default:
	}
	f.send(topic, 1, records(t, 1, 100, nil))
	if got := <-answer; got[0].bytes+got[1].bytes != 2*one {
		t.Fatalf("%+v", got)
	}

	req = fetchOf(12, ask{topic: topic, index: 0, offset: 1})
	req.MinBytes, req.MaxWaitMillis = 1, 50
	start := time.Now()
	if _, got := f.fetch(c, req); got[0].bytes != 0 || got[0].ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
	if waited := time.Since(start); waited < 50*time.Millisecond {
		t.Errorf("answered after %v", waited)
	}

	req.MaxWaitMillis = long
	answer = f.background(c, req)
	f.waiting(topic, 0)
	f.ClosePartitionsOf(topic)
	if got := <-answer; got[0].ErrorCode != kerr.NotLeaderForPartition.Code {
		t.Fatalf("deleted while waiting: %+v", got)
	}
}

// TestFetchHoldsNothingWhileItWaits: a long poll that has less than min bytes pins no slab, which readers have few of.
func TestFetchHoldsNothingWhileItWaits(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	b := records(t, 1, 100, nil)
	f.send(topic, 0, b)
	req := fetchOf(12, ask{topic: topic})
	req.MinBytes, req.MaxWaitMillis = int32(2*len(b)), long
	answer := f.background(new(server.Conn), req)
	f.waiting(topic, 0)
	if n := f.log.Stats().SlabsPinned; n != 0 {
		t.Errorf("%d slabs are pinned by a long poll", n)
	}
	f.send(topic, 0, b)
	if got := <-answer; len(got[0].offsets) != 2 {
		t.Fatalf("%+v", got)
	}
}

// ClosePartitionsOf closes a topic as its deletion does.
func (f *logFixture) ClosePartitionsOf(topic *metadata.Topic) { f.opener.ClosePartitions(topic.ID) }

func TestFetchEndsWithItsContext(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 1)
	ctx, cancel := context.WithCancel(t.Context())
	req := fetchOf(12, ask{topic: topic})
	req.MinBytes, req.MaxWaitMillis = 1, long
	done := make(chan error, 1)
	go func() {
		resp, err := f.Fetch(ctx, new(server.Conn), wire.Header{Key: 1, Version: 12}, req)
		if err == nil && len(resp.Topics) != 1 {
			err = errors.New("no answer")
		}
		done <- err
	}()
	f.waiting(topic, 0)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestFetchFromTheStore(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	for range 10 {
		f.send(topic, 0, records(t, 2, 100, nil))
	}
	f.upload(topic, 0, 20)
	one := len(records(t, 2, 100, nil))
	c := new(server.Conn)
	next := int64(0)
	for next < 20 { // one batch at a time
		req := fetchOf(12, ask{topic: topic, offset: next, maxBytes: int32(one)})
		req.MinBytes, req.MaxWaitMillis = 1, long
		_, parts := f.fetch(c, req)
		if !reflect.DeepEqual(parts[0].offsets, []int64{next}) {
			t.Fatalf("at %d: %+v", next, parts[0])
		}
		next += 2
	}
	if f.cold.held != 0 {
		t.Errorf("%d chunks not released", f.cold.held)
	}
	f.cold.err = errors.New("store away")
	req := fetchOf(12, ask{topic: topic})
	req.MinBytes, req.MaxWaitMillis = 1, long
	if _, parts := f.fetch(c, req); parts[0].ErrorCode != kerr.KafkaStorageError.Code {
		t.Fatalf("%+v", parts[0])
	}
	req.Version = 5
	if _, parts := f.fetch(c, req); parts[0].ErrorCode != kerr.NotLeaderForPartition.Code {
		t.Fatalf("v5: %+v", parts[0])
	}
	f.cold.err = nil // the next fetch tries again
	req.Version = 12
	if _, parts := f.fetch(c, req); len(parts[0].offsets) != 10 {
		t.Fatalf("%+v", parts[0])
	}
}

// TestSlowReadsDoNotHoldUpHotOnes: while a cold read hangs, hot data is answered; what the cold read brings is kept for
// the fetch after.
func TestSlowReadsDoNotHoldUpHotOnes(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	f.send(topic, 0, records(t, 2, 100, nil))
	f.upload(topic, 0, 2)
	f.send(topic, 1, records(t, 2, 100, nil))
	f.cold.gate = make(chan struct{})
	c := new(server.Conn)
	req := fetchOf(12, ask{topic: topic, index: 0}, ask{topic: topic, index: 1})
	req.MinBytes, req.MaxWaitMillis = 1, long
	if _, parts := f.fetch(c, req); len(parts[0].offsets) != 0 || len(parts[1].offsets) != 1 {
		t.Fatalf("%+v", parts)
	}
	req = fetchOf(12, ask{topic: topic, index: 0}, ask{topic: topic, index: 1, offset: 2})
	req.MinBytes, req.MaxWaitMillis = 1, long
	answer := f.background(c, req)
	f.waiting(topic, 1)
	close(f.cold.gate)
	if parts := <-answer; len(parts[0].offsets) != 1 || parts[0].ErrorCode != 0 {
		t.Fatalf("%+v", parts)
	}
	if f.cold.reads != 1 {
		t.Errorf("%d reads of the same data", f.cold.reads)
	}
}

func TestSlowReadsAreDropped(t *testing.T) {
	f := newLogFixture(t, nil)
	topic := f.create("t", 2)
	f.send(topic, 0, records(t, 2, 100, nil))
	f.send(topic, 0, records(t, 2, 100, nil))
	f.upload(topic, 0, 4)
	f.send(topic, 1, records(t, 2, 100, nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := new(server.Conn)
	fetch := func(asks ...ask) {
		t.Helper()
		req := fetchOf(12, asks...)
		resp, err := f.Fetch(ctx, c, wire.Header{Key: 1, Version: 12}, req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Release()
	}
	state := func() *fetchState { return c.Local.(*fetchState) }
	slow := func() int {
		s := state()
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.slow)
	}
	// Hot data is answered at once, the cold read goes on and is kept; the client seeks elsewhere.
	fetch(ask{topic: topic, index: 1}, ask{topic: topic, index: 0})
	<-state().slowReady
	if slow() != 1 {
		t.Fatal("not kept")
	}
	fetch(ask{topic: topic, index: 1})
	if slow() != 0 || f.cold.held != 0 {
		t.Fatalf("%d reads, %d chunks after the client lost interest", slow(), f.cold.held)
	}
	fetch(ask{topic: topic, index: 1}, ask{topic: topic, index: 0})
	<-state().slowReady
	fetch(ask{topic: topic, index: 1}, ask{topic: topic, index: 0, offset: 2}) // another offset
	<-state().slowReady
	if slow() != 1 || f.cold.held != 1 {
		t.Fatalf("%d reads, %d chunks after a seek", slow(), f.cold.held)
	}
	old := state()
	old.dropIdle()
	if slow() != 0 || f.cold.held != 0 {
		t.Fatal("idle reads are kept")
	}
	fetch(ask{topic: topic, index: 1}, ask{topic: topic, index: 0})
	<-state().slowReady
	old.close() // as the end of the connection does
	if f.cold.held != 0 {
		t.Fatal("a closed connection holds data")
	}
	if !f.Broker.log.slow.budget.TryAcquire(slowBudgetBytes) {
		t.Fatal("budget not given back")
	}
}
