package partition

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/producers"
	"github.com/tidemarkmq/tidemark/wal"
)

func TestAppendAndRead(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(func(s *OpenState) { s.LogStart, s.End = 40, 100 })
	for i := range 20 {
		a := r.append(p, mk(t, 5, 100, int64(i), nil))
		if a.BaseOffset != metadata.Offset(100+5*i) || a.LogStart != 40 || a.TimestampMs != -1 || a.Duplicate {
			t.Fatalf("%+v", a)
		}
	}
	if p.HighWatermark() != 200 || p.LastStable() != 200 {
		t.Fatal(p.HighWatermark())
	}
	if slow := r.readAll(p, 100); slow != 0 {
		t.Fatalf("%d slow reads of what is in memory", slow)
	}
	var got Batches
	one := len(mk(t, 5, 100, 0, nil))
	for _, tt := range []struct{ offset, maxBytes, want int }{
		{100, one * 3, 3}, {100, one*3 + one - 1, 3}, {102, one, 1}, {100, one - 1, 0}, {195, one * 9, 1}, {200, one, 0},
	} {
		n, hot := p.ReadTail(metadata.Offset(tt.offset), tt.maxBytes, false, &got)
		if !hot || len(got.Records) != tt.want || n != tt.want*one {
			t.Errorf("%+v: %d batches, %d bytes, hot %v", tt, len(got.Records), n, hot)
		}
		got.Release()
	}
	if n, hot := p.ReadTail(100, 1, true, &got); !hot || n != one {
		t.Errorf("first batch above the limit: %d bytes", n)
	}
	h, _ := batch.Parse(got.Records[0])
	if h.LeaderEpoch != 3 {
		t.Errorf("leader epoch %d in the batch", h.LeaderEpoch)
	}
	got.Release()
}

func TestUnackedIsInvisible(t *testing.T) {
	r, held := newHeldRig(t)
	p := r.open(nil)
	o, err := r.send(p, mk(t, 3, 10, 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	o2, err := r.send(p, mk(t, 2, 10, 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	var got Batches
	if n, hot := p.ReadTail(0, 1<<20, true, &got); n != 0 || !hot || p.HighWatermark() != 0 {
		t.Fatalf("%d bytes of what is not durable", n)
	}
	if found, ok, err := p.FindTimestamp(context.Background(), 0); ok || err != nil {
		t.Fatalf("%+v %v", found, err)
	}
	if _, ok, err := p.MaxTimestamp(context.Background()); ok || err != nil {
		t.Fatal(ok, err)
	}
	held.letGo(1, nil)
	if res := <-o.c; res.err != nil || res.BaseOffset != 0 || p.HighWatermark() != 3 {
		t.Fatalf("%+v", res)
	}
	r.readAll(p, 0)
	held.letGo(1, nil)
	if res := <-o2.c; res.err != nil || res.BaseOffset != 3 || p.HighWatermark() != 5 {
		t.Fatalf("%+v", res)
	}
}

func TestDuplicateWaitsForItsOriginal(t *testing.T) {
	r, held := newHeldRig(t)
	p := r.open(nil)
	first, err := r.send(p, mk(t, 3, 10, 0, idempotent(8, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	dup, err := r.send(p, mk(t, 3, 10, 0, idempotent(8, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if len(dup.c) != 0 {
		t.Fatal("answered before the original is durable")
	}
	if n := p.watched.Load(); n != 1 {
		t.Fatalf("%d parked", n)
	}
	held.letGo(1, nil)
	if res := <-first.c; res.err != nil || res.Duplicate {
		t.Fatalf("%+v", res)
	}
	if res := <-dup.c; res.err != nil || !res.Duplicate || res.BaseOffset != 0 {
		t.Fatalf("%+v", res)
	}
	late, err := r.send(p, mk(t, 3, 10, 0, idempotent(8, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if res := <-late.c; res.err != nil || !res.Duplicate || res.BaseOffset != 0 || p.watched.Load() != 0 {
		t.Fatalf("%+v", res)
	}
	for _, bad := range []struct {
		b    []byte
		want error
	}{
		{mk(t, 1, 10, 0, idempotent(8, 0, 5)), producers.ErrOutOfOrderSequence},
		{mk(t, 1, 10, 0, idempotent(8, 2, 1)), producers.ErrOutOfOrderSequence},
	} {
		if _, err := r.send(p, bad.b); !errors.Is(err, bad.want) {
			t.Errorf("%v, want %v", err, bad.want)
		}
	}
	if p.HighWatermark() != 3 || p.ProducerCount() != 1 {
		t.Fatal(p.HighWatermark(), p.ProducerCount())
	}
}

func TestFailure(t *testing.T) {
	r, held := newHeldRig(t)
	p := r.open(nil)
	ok, err := r.send(p, mk(t, 3, 10, 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	held.letGo(1, nil)
	<-ok.c
	first, err := r.send(p, mk(t, 3, 10, 0, idempotent(8, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	dup, err := r.send(p, mk(t, 3, 10, 0, idempotent(8, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	w := NewWaiter()
	w.Arm(1 << 30)
	if w.Watch(p, 3) {
		t.Fatal("nothing has moved")
	}
	cause := errors.New("disk on fire")
	held.letGo(1, cause)
	for _, o := range []*outcome{first, dup} {
		if res := <-o.c; !errors.Is(res.err, ErrFailed) || !errors.Is(res.err, cause) {
			t.Fatalf("%+v", res)
		}
	}
	<-w.C()
	w.Disarm()
	w.Arm(1)
	if w.Watch(p, 3) {
		t.Fatal("a long poll over a failed log would spin")
	}
	w.Disarm()
	if _, err := r.send(p, mk(t, 1, 10, 0, nil)); !errors.Is(err, ErrFailed) {
		t.Fatalf("append after failure: %v", err)
	}
	if q := r.open(func(s *OpenState) { s.ID.Partition++ }); q.usable() == nil {
		t.Fatal("a partition opened after the failure takes appends")
	}
	if _, err := p.AdvanceLogStart(context.Background(), 1); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if _, err := p.Locate(0, -1, -1); err != nil {
		t.Fatalf("what is durable cannot be read: %v", err)
	}
	r.readAll(p, 0)
}

func TestClose(t *testing.T) {
	r, held := newHeldRig(t)
	p := r.open(nil)
	o, err := r.send(p, mk(t, 1, 10, 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	w := NewWaiter()
	w.Arm(1 << 30)
	w.Watch(p, 0)
	r.set.Close(testID)
	<-w.C()
	w.Disarm()
	if _, ok := r.set.Get(testID); ok {
		t.Fatal("still there")
	}
	if _, err := r.send(p, mk(t, 1, 10, 0, nil)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := p.Locate(0, -1, -1); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	held.letGo(1, nil)
	if res := <-o.c; res.err != nil {
		t.Fatalf("an append in flight: %+v", res)
	}
	if _, err := r.set.Open(OpenState{ID: testID, Config: testConfig()}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.set.Open(OpenState{ID: testID, Config: testConfig()}); err == nil {
		t.Fatal("opened twice")
	}
	r.set.Close(metadata.PartitionID{}) // unknown: nothing
}

func TestReadsFollowTheData(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(nil)
	for i := range 30 {
		r.append(p, mk(t, 10, 300, int64(i*10), nil))
	}
	r.recycle()
	if slow := r.readAll(p, 0); slow == 0 {
		t.Fatal("expected reads of WAL files")
	}
	if r.cold.reads != 0 {
		t.Fatal("the object store was asked for what is not there")
	}
	r.upload(p, 200) // batches below 200; the others stay
	r.readAll(p, 0)
	if r.cold.reads == 0 {
		t.Fatal("the object store was not asked")
	}
	r.set.Sweep()
	if start := p.TailStart(); start != 200 {
		t.Fatalf("tail starts at %d", start)
	}
	if p.InMemory(100) || !p.InMemory(300) {
		t.Fatal("InMemory")
	}
	r.upload(p, 300)
	r.set.Sweep()
	if p.TailStart() != 300 || len(p.log.tail.entries) != 0 {
		t.Fatal(p.TailStart())
	}
	r.readAll(p, 0)
	r.append(p, mk(t, 1, 10, 0, nil))
	r.readAll(p, 295)
}

func TestReadSlowAfterTrim(t *testing.T) {
	r := newRig(t, func(w *wal.Options, _ *Options) { w.SegmentBytes = 256 << 10 })
	p := r.open(nil)
	for i := range 30 {
		r.append(p, mk(t, 10, 300, int64(i*10), nil))
	}
	r.recycle()
	refs, _ := p.tailRefs(0, 1<<20)
	if len(refs) == 0 {
		t.Fatal("no refs")
	}
	// The batches move to the object store and the WAL is trimmed between the lookup and the read.
	r.upload(p, 300)
	if err := r.log.Trim(r.log.Durable()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.readBack(context.Background(), refs); err == nil {
		t.Fatal("the WAL still has it: the test tests nothing")
	}
	if slow := r.readAll(p, 0); slow == 0 {
		t.Fatal("expected slow reads")
	}
}

func TestLocate(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(func(s *OpenState) {
		s.LogStart, s.End = 50, 100
		s.Epochs = []Epoch{{Epoch: 1, Start: 0}, {Epoch: 2, Start: 80}}
	})
	r.append(p, mk(t, 10, 1, 0, nil))
	for _, tt := range []struct {
		name         string
		offset       metadata.Offset
		current      int32
		last         int32
		want         error
		wantDiverges *EpochEnd
	}{
		{name: "start", offset: 50, current: -1, last: -1},
		{name: "end", offset: 110, current: 3, last: -1},
		{name: "below start", offset: 49, current: -1, last: -1, want: ErrOffsetOutOfRange},
		{name: "above end", offset: 111, current: -1, last: -1, want: ErrOffsetOutOfRange},
		{name: "fenced", offset: 999, current: 2, last: -1, want: ErrFencedEpoch},
		{name: "unknown", offset: 0, current: 4, last: -1, want: ErrUnknownEpoch},
		{name: "agrees", offset: 100, current: -1, last: 2},
		{name: "in the epoch", offset: 90, current: -1, last: 2},
		{name: "beyond its epoch's end", offset: 101, current: -1, last: 2, wantDiverges: &EpochEnd{2, 100}},
		{name: "older epoch", offset: 90, current: -1, last: 1, wantDiverges: &EpochEnd{1, 80}},
		{name: "epoch of the future", offset: 90, current: -1, last: 9, want: ErrOffsetOutOfRange},
		{name: "below start with epoch", offset: 10, current: -1, last: 1, want: ErrOffsetOutOfRange},
	} {
		pos, err := p.Locate(tt.offset, tt.current, tt.last)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if (pos.Diverging == nil) != (tt.wantDiverges == nil) || (pos.Diverging != nil && *pos.Diverging != *tt.wantDiverges) {
			t.Errorf("%s: diverging %+v, want %+v", tt.name, pos.Diverging, tt.wantDiverges)
		}
		if pos.HighWatermark != 110 || pos.LogStart != 50 || pos.LastStable != 110 {
			t.Errorf("%s: %+v", tt.name, pos)
		}
	}
	if end := p.EpochEnd(3); end != (EpochEnd{3, 110}) {
		t.Errorf("%+v", end)
	}
}

func TestAdvanceLogStart(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(nil)
	r.append(p, mk(t, 10, 1, 0, nil))
	ctx := context.Background()
	for _, tt := range []struct {
		to, want metadata.Offset
		err      error
	}{
		{to: 11, err: ErrOffsetOutOfRange}, {to: -2, err: ErrOffsetOutOfRange}, {to: 4, want: 4}, {to: 2, want: 4}, {to: -1, want: 10}, {to: -1, want: 10},
	} {
		got, err := p.AdvanceLogStart(ctx, tt.to)
		if !errors.Is(err, tt.err) || got != tt.want {
			t.Errorf("to %d: %d %v", tt.to, got, err)
		}
	}
	if len(r.meta.starts) != 2 || p.LogStart() != 10 {
		t.Fatal(r.meta.starts, p.LogStart())
	}
	r.meta.err = errors.New("etcd away")
	r.append(p, mk(t, 10, 1, 0, nil))
	if _, err := p.AdvanceLogStart(ctx, 15); !errors.Is(err, r.meta.err) || p.LogStart() != 10 {
		t.Fatal(err, p.LogStart())
	}
}

func TestTimestampsOverTailAndStore(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(func(s *OpenState) { s.MaxTimestampMs = -1 })
	at := []int64{0, 10, 50, 20, 50, 30} // of batches of 2 records, 1 ms apart
	for _, ms := range at {
		r.append(p, mk(t, 2, 100, ms, func(b *batch.Builder) { b.Codec = batch.CodecZstd }))
	}
	finds := []struct {
		ms   int64
		want metadata.Offset
	}{{-100, 0}, {1, 1}, {2, 2}, {11, 3}, {12, 4}, {51, 5}, {52, -1}}
	check := func(where string, start metadata.Offset) {
		t.Helper()
		for _, f := range finds {
			found, ok, err := p.FindTimestamp(context.Background(), baseMs+f.ms)
			want := f.want
			if want >= 0 {
				want = max(want, start) // only in tests where that holds
			}
			if err != nil || ok != (want >= 0) || (ok && (found.Offset != want || found.LeaderEpoch != 3 || found.TimestampMs < baseMs+f.ms)) {
				t.Errorf("%s: %d: %+v %v %v, want %d", where, f.ms, found, ok, err, want)
			}
		}
		found, ok, err := p.MaxTimestamp(context.Background())
		if err != nil || !ok || found.Offset != max(5, start) || found.TimestampMs != baseMs+51 {
			t.Errorf("%s: max %+v %v %v", where, found, ok, err)
		}
	}
	check("tail", 0)
	r.recycle()
	check("files", 0)
	r.upload(p, 6)
	r.set.Sweep()
	check("half in the store", 0)
	r.upload(p, 12)
	r.set.Sweep()
	check("store", 0)
	if _, err := p.AdvanceLogStart(context.Background(), 5); err != nil {
		t.Fatal(err)
	}
	check("after deletion", 5)
}

func TestLogAppendTimeIsAnswered(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(func(s *OpenState) { s.Config.LogAppendTime = true })
	a := r.append(p, mk(t, 2, 1, 0, idempotent(5, 0, 0)))
	if a.TimestampMs != baseMs {
		t.Fatalf("%+v", a)
	}
	if a = r.append(p, mk(t, 2, 1, 0, idempotent(5, 0, 0))); a.TimestampMs != baseMs || !a.Duplicate {
		t.Fatalf("%+v", a)
	}
	found, ok, err := p.FindTimestamp(context.Background(), baseMs)
	if err != nil || !ok || found.Offset != 0 {
		t.Fatalf("%+v %v", found, err)
	}
}

func TestWaiter(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(nil)
	q := r.open(func(s *OpenState) { s.ID.Partition = 99 })
	w := NewWaiter()
	b := mk(t, 1, 100, 0, nil)
	woken := func() bool {
		select {
		case <-w.C():
			return true
		default:
			return false
		}
	}
	w.Arm(int64(2*len(b)) - 1)
	if w.Watch(p, 0) || w.Watch(q, 0) {
		t.Fatal("nothing has moved")
	}
	r.append(p, b)
	if woken() {
		t.Fatal("too early")
	}
	r.append(q, mk(t, 1, 100, 0, nil))
	if !woken() {
		t.Fatal("threshold reached over two partitions")
	}
	w.Disarm()
	r.append(p, mk(t, 1, 100, 0, nil))
	if woken() {
		t.Fatal("woken after Disarm")
	}
	if p.waiters != nil || q.waiters != nil || p.watched.Load() != 0 || q.watched.Load() != 0 {
		t.Fatal("registration left behind")
	}
	w.Arm(1)
	if !w.Watch(p, 1) {
		t.Fatal("the high watermark is at 2, not 1")
	}
	if _, err := p.AdvanceLogStart(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	if !woken() {
		t.Fatal("a new log start is news")
	}
	w.Disarm()
	if n := testing.AllocsPerRun(100, func() {
		w.Arm(1)
		w.Watch(p, 2)
		w.Watch(q, 1)
		w.Disarm()
	}); n != 0 {
		t.Errorf("%v allocations per long poll", n)
	}
}

func TestProducersExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.open(nil)
		r.append(p, mk(t, 1, 1, 0, idempotent(1, 0, 0)))
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := r.set.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(23 * time.Hour)
		if p.ProducerCount() != 1 {
			t.Error("forgotten too early")
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if p.ProducerCount() != 0 {
			t.Error("not forgotten")
		}
		cancel()
		wg.Wait()
		r.stop()
	})
}

func TestSweepRunsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.open(nil)
		r.append(p, mk(t, 1, 100, 0, nil))
		r.recycle()
		r.upload(p, 1)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- r.set.Run(ctx) }()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if n := len(p.log.tail.entries); n != 0 {
			t.Errorf("%d entries left", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.stop()
	})
}

// TestConcurrent: many producers and readers; offsets are dense, every reader sees whole batches in order. For -race and
// walcheck.
func TestConcurrent(t *testing.T) {
	r := newRig(t, nil)
	p := r.open(nil)
	const producers, each = 8, 100
	var wg sync.WaitGroup
	seen := make([]bool, producers*each*3)
	var mu sync.Mutex
	for pid := range producers {
		wg.Go(func() {
			for i := range each {
				o, err := r.send(p, mk(t, 3, 200, 0, idempotent(int64(pid), 0, int32(i*3))))
				if err != nil {
					t.Error(err)
					return
				}
				res := <-o.c
				if res.err != nil {
					t.Error(res.err)
					return
				}
				mu.Lock()
				for k := range metadata.Offset(3) {
					if seen[res.BaseOffset+k] {
						t.Errorf("offset %d twice", res.BaseOffset+k)
					}
					seen[res.BaseOffset+k] = true
				}
				mu.Unlock()
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			w := NewWaiter()
			next := metadata.Offset(0)
			for next < producers*each*3 {
				hw := p.HighWatermark()
				if next == hw {
					w.Arm(1)
					if !w.Watch(p, int64(hw)) {
						<-w.C()
					}
					w.Disarm()
					continue
				}
				var got Batches
				if n, hot := p.ReadTail(next, 4000, true, &got); !hot || n == 0 {
					c, err := p.ReadSlow(context.Background(), next, 4000)
					if err != nil {
						t.Error(err)
						return
					}
					got.AddChunk(c, 4000, true)
				}
				for _, b := range got.Records {
					h, err := batch.Parse(b)
					if err != nil || h.BaseOffset != int64(next) || batch.Checksum(b) != h.CRC || !bytes.Contains(b, bytes.Repeat([]byte{3}, 200)) {
						t.Errorf("at %d: %+v %v", next, h, err)
						return
					}
					next = metadata.Offset(h.NextOffset())
				}
				got.Release()
			}
		})
	}
	wg.Wait()
	for i, ok := range seen {
		if !ok {
			t.Fatalf("offset %d missing", i)
		}
	}
}

func TestOpenRefusesNonsense(t *testing.T) {
	r := newRig(t, nil)
	for _, s := range []OpenState{{ID: testID}, {ID: testID, Config: testConfig(), LogStart: 5, End: 4}, {ID: testID, Config: testConfig(), LogStart: -1}} {
		if _, err := r.set.Open(s); err == nil || !strings.Contains(err.Error(), "bad state") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
