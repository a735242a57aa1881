package tiering

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// gets counts the ranged reads of objects of the given kinds.
func gets(f *faulty.Store, cluster string, kinds ...segment.Kind) int {
	n := 0
	for _, c := range f.Calls() {
		if id, err := segment.ParseKey(cluster, c.Key); err == nil && c.Op == faulty.Get {
			for _, k := range kinds {
				if id.Kind == k {
					n++
				}
			}
		}
	}
	return n
}

func (w *world) cluster() string { return w.meta.Image().ClusterID() }

// fill writes and uploads seals of batches with the given sizes.
func (w *world) fill(p metadata.PartitionID, seals, batches, recordBytes int) {
	w.Helper()
	for range seals {
		for range batches {
			w.append(p, 4, recordBytes)
		}
		w.upload()
	}
}

func TestReadServesWholeBatches(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 3, 40, 5000) // 40 batches of 20 KB each
		r := NewReader(w.catalog, ReaderOptions{})
		defer r.Close()
		log := w.log[p]
		rng := rand.New(rand.NewPCG(1, 1))
		for range 300 {
			i := rng.IntN(len(log))
			offset := log[i].base + metadata.Offset(rng.IntN(int(log[i].next-log[i].base)))
			maxBytes := []int{0, 1, 20_000, 50_000, 1 << 20, 5 << 20}[rng.IntN(6)]
			c, err := r.Read(w.ctx, p, offset, maxBytes)
			w.check(err)
			got := bytes.Join(c.Batches, nil)
			if len(got) != c.SizeBytes || len(got) > max(maxBytes, len(log[i].bytes)) {
				t.Fatalf("%d bytes of at most %d (first batch %d); said %d", len(got), maxBytes, len(log[i].bytes), c.SizeBytes)
			}
			n := 0
			for j := i; n < len(got); j++ {
				if !bytes.HasPrefix(got[n:], log[j].bytes) {
					t.Fatalf("read at %d: batch %d is not what was written at %d", offset, j-i, log[j].base)
				}
				n += len(log[j].bytes)
				if n == len(got) && c.Next != log[j].next {
					t.Fatalf("next is %d after batch [%d, %d)", c.Next, log[j].base, log[j].next)
				}
			}
			c.Release()
		}
		for _, offset := range []metadata.Offset{-1, log[len(log)-1].next, 1 << 40} {
			if _, err := r.Read(w.ctx, p, offset, 100); !errors.Is(err, ErrOffsetOutOfRange) {
				t.Errorf("offset %d: %v", offset, err)
			}
		}
		if _, err := r.Read(w.ctx, metadata.PartitionID{Partition: 9}, 0, 100); !errors.Is(err, ErrUnknownPartition) {
			t.Errorf("unknown partition: %v", err)
		}
	})
}

func TestConcurrentReadersShareRequests(t *testing.T) {
	inWorld(t, func(w *world) {
		f := faulty.New(w.bucket, faulty.Rule{Op: faulty.Get, Count: faulty.Forever, Fault: faulty.Slow, Delay: 50 * time.Millisecond})
		w.store = f
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 1, 40, 5000)
		r := NewReader(w.catalog, ReaderOptions{})
		defer r.Close()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				c, err := r.Read(w.ctx, p, 3, 500_000)
				if err != nil {
					t.Error(err)
				}
				c.Release()
			})
		}
		wg.Wait()
		if n := gets(f, w.cluster(), segment.Single); n != 1 {
			t.Errorf("%d requests for one run of blocks", n)
		}
	})
}

// TestSequentialReaderReadsAhead measures, in a store where each request takes 100 ms, how long a replay over many objects waits.
func TestSequentialReaderReadsAhead(t *testing.T) {
	inWorld(t, func(w *world) {
		f := faulty.New(w.bucket, faulty.Rule{Op: faulty.Get, Count: faulty.Forever, Fault: faulty.Slow, Delay: 100 * time.Millisecond})
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 24, 100, 5000) // 24 objects of 2 MB
		w.catalog.o.Store, w.store = f, f
		for name, prepare := range map[string]func(){"pending": func() {}, "manifest": func() {
			w.maintainer.o.MergeCount, w.maintainer.o.MergeBytes = 1000, 1 // no merging
			w.check(w.maintainer.Absorb(w.ctx))
		}} {
			prepare()
			r := NewReader(w.catalog, ReaderOptions{FetchBytes: 1 << 20, PrefetchBytes: 16 << 20})
			before := gets(f, w.cluster(), segment.Single)
			started := time.Now()
			end := w.catalog.End(p)
			got := w.readAll(r, p, 0, end)
			took := time.Since(started)
			n := gets(f, w.cluster(), segment.Single) - before
			r.Close()
			// 48 MB in requests of 1 MB: one after another they would take 4.8 s.
			if n > 80 {
				t.Errorf("%s: %d requests for %d bytes", name, n, len(got))
			}
			if took > 1500*time.Millisecond {
				t.Errorf("%s: the replay took %v", name, took)
			}
		}
	})
}

func TestReadsSurviveAFailingStore(t *testing.T) {
	for _, fault := range []faulty.Fault{faulty.Throttled, faulty.Failed, faulty.Torn} {
		inWorld(t, func(w *world) {
			p := w.topic("t", 1)[0]
			w.up()
			w.fill(p, 2, 20, 5000)
			w.store = faulty.New(w.bucket, faulty.Rule{Op: faulty.Get, Count: 9, Fault: fault})
			w.catalog.o.Store = w.store
			w.oracle()
		})
	}
}

// TestTimeoutKeepsFetchedBytes: a fetch that gives up before its bytes arrive does not waste them.
func TestTimeoutKeepsFetchedBytes(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 1, 10, 5000)
		f := faulty.New(w.bucket, faulty.Rule{Op: faulty.Get, Count: 1, Fault: faulty.Slow, Delay: 2 * time.Second})
		w.catalog.o.Store = f
		r := NewReader(w.catalog, ReaderOptions{})
		defer r.Close()
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		if _, err := r.Read(ctx, p, 0, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("slow read: %v", err)
		}
		time.Sleep(1500 * time.Millisecond)
		started := time.Now()
		c, err := r.Read(w.ctx, p, 0, 1000)
		w.check(err)
		c.Release()
		if n := gets(f, w.cluster(), segment.Single); n != 1 || time.Since(started) > 0 {
			t.Errorf("%d requests, the second read took %v", n, time.Since(started))
		}
	})
}

func TestHangingReadIsGivenUpPerAttempt(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 1, 10, 5000)
		w.catalog.o.Store = faulty.New(w.bucket, faulty.Rule{Op: faulty.Get, Count: 1, Fault: faulty.Hang})
		started := time.Now()
		w.oracle()
		if took := time.Since(started); took < 10*time.Second || took > 20*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestCorruptBlockIsNeverServed(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 1, 10, 5000)
		w.catalog.o.Store = faulty.New(w.bucket, faulty.Rule{Op: faulty.Get, Count: 1, Fault: faulty.Corrupt})
		r := NewReader(w.catalog, ReaderOptions{})
		defer r.Close()
		if _, err := r.Read(w.ctx, p, 0, 1000); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("corrupt block: %v", err)
		}
		c, err := r.Read(w.ctx, p, 0, 1000)
		if err != nil {
			t.Fatalf("the damage was on the way, and is served for ever: %v", err)
		}
		c.Release()
	})
}

// TestReplayStaysInItsBudget reads much more than the budget with many readers that hold on to what they got.
func TestReplayStaysInItsBudget(t *testing.T) {
	inWorld(t, func(w *world) {
		ids := w.topic("t", 8)
		w.up()
		for _, p := range ids {
			w.fill(p, 2, 100, 5000)
		}
		const budget = 8 << 20
		r := NewReader(w.catalog, ReaderOptions{CacheBytes: budget, FetchBytes: 1 << 20, BudgetWait: time.Second})
		defer r.Close()
		over := func() {
			r.blocks.mu.Lock()
			defer r.blocks.mu.Unlock()
			if used := r.blocks.usedBytes + r.blocks.freeBytes; used > budget {
				t.Errorf("%d bytes in use", used)
			}
		}
		var wg sync.WaitGroup
		for _, p := range ids {
			wg.Go(func() {
				end := w.catalog.End(p)
				for at := metadata.Offset(0); at < end; {
					c, err := r.Read(w.ctx, p, at, 1<<20)
					if errors.Is(err, ErrBusy) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					over()
					time.Sleep(10 * time.Millisecond) // writing to a slow consumer
					at = c.Next
					c.Release()
				}
			})
		}
		wg.Wait()
		over()
		// All of it pinned: the next one is told to come again, and gets in as soon as somebody releases.
		var held []*Chunk
		var refused metadata.PartitionID
		var offset metadata.Offset
		for i := 0; ; i++ {
			refused, offset = ids[i%8], metadata.Offset(i/8*120)
			c, err := r.Read(w.ctx, refused, offset, 1<<20)
			if errors.Is(err, ErrBusy) {
				break
			}
			w.check(err)
			held = append(held, c)
		}
		wg.Go(func() {
			time.Sleep(500 * time.Millisecond)
			for _, c := range held {
				c.Release()
			}
		})
		started := time.Now()
		c, err := r.Read(w.ctx, refused, offset, 1<<20)
		if took := time.Since(started); err != nil || took != 500*time.Millisecond {
			t.Errorf("after a release: %v, %v", err, took)
		}
		c.Release()
		wg.Wait()
		over()
	})
}

// TestReaderOutlivesMergeAndDelete: a reader that located its offset long ago finds the object deleted, and goes on in the merged one.
func TestReaderOutlivesMergeAndDelete(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.change = func(o *MaintainerOptions) { o.MergeCount = 2 }
		w.up()
		w.fill(p, 4, 5, 5000)
		r := NewReader(w.catalog, ReaderOptions{})
		defer r.Close()
		l, i, err := r.find(w.ctx, p, 30)
		w.check(err)
		c, err := r.Read(w.ctx, p, 0, 1) // its bytes stay readable whatever happens to the object
		w.check(err)
		kept := bytes.Clone(c.Batches[0])
		w.settle()
		if w.objects(segment.Single) != 0 || w.objects(segment.Merged) != 1 {
			t.Fatalf("%d single, %d merged", w.objects(segment.Single), w.objects(segment.Merged))
		}
		e, err := r.block(w.ctx, p, &l, &i, 1)
		w.check(err)
		if b := l.blocks[i]; b.BaseOffset > 30 || b.NextOffset <= 30 || l.object.Kind != segment.Merged {
			t.Errorf("found block [%d, %d) of a %v object", b.BaseOffset, b.NextOffset, l.object.Kind)
		}
		r.blocks.release(e)
		if !bytes.Equal(c.Batches[0], kept) || !bytes.Equal(kept, w.log[p][0].bytes) {
			t.Error("bytes of a held chunk changed")
		}
		c.Release()
		w.oracle()
		w.verify(true)
	})
}

func TestReleaseTwicePanics(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 1, 2, 100)
		r := NewReader(w.catalog, ReaderOptions{})
		defer r.Close()
		c, err := r.Read(w.ctx, p, 0, 1000)
		w.check(err)
		e := c.pins[0]
		c.Release()
		c.Release() // of the chunk: harmless
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
			r.blocks.mu.TryLock()
			r.blocks.mu.Unlock()
		}()
		r.blocks.release(e)
	})
}

// TestTimestampLookups compares with a walk over everything that was written.
func TestTimestampLookups(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		rng := rand.New(rand.NewPCG(3, 3))
		for seal := range 6 {
			for range 30 {
				w.appendAt(p, 1000+int64(rng.IntN(5000)), 1+rng.IntN(4), 20_000)
			}
			w.upload()
			if seal == 3 {
				w.check(w.maintainer.Pass(w.ctx))
			}
		}
		r := NewReader(w.catalog, ReaderOptions{})
		defer r.Close()
		check := func(start metadata.Offset) {
			t.Helper()
			for ts := int64(990); ts < 6020; ts += 7 {
				want := metadata.Offset(-1)
				for _, b := range w.log[p] {
					if at, ok, err := batch.FindTimestamp(b.bytes, ts, int64(start)); err != nil {
						t.Fatal(err)
					} else if ok {
						want = metadata.Offset(at.Offset)
						break
					}
				}
				f, found, err := r.FindTimestamp(w.ctx, p, ts)
				if err != nil || found != (want >= 0) || found && (f.Offset != want || f.TimestampMs < ts) {
					t.Fatalf("timestamp %d from %d: %+v, %v, %v; want offset %d", ts, start, f, found, err, want)
				}
			}
			want := batch.At{TimestampMs: -1}
			for _, b := range w.log[p] {
				if at, ok, _ := batch.MaxTimestamp(b.bytes, int64(start)); ok && at.TimestampMs > want.TimestampMs {
					want = at
				}
			}
			f, found, err := r.MaxTimestamp(w.ctx, p)
			if err != nil || !found || int64(f.Offset) != want.Offset || f.TimestampMs != want.TimestampMs {
				t.Fatalf("largest timestamp from %d: %+v, %v, %v; want %+v", start, f, found, err, want)
			}
		}
		check(0)
		for _, b := range []int{10, 47, 90, 170} {
			start := w.log[p][b].base + 1
			w.check(w.AdvanceLogStart(w.ctx, p, start))
			check(start)
			w.check(w.maintainer.Pass(w.ctx))
			check(start)
		}
		// The largest of all below the log start, within a block that reaches above it.
		w.appendAt(p, 9_000_000, 1, 100)
		w.appendAt(p, 1234, 1, 100)
		w.upload()
		last := w.log[p][len(w.log[p])-1]
		w.check(w.AdvanceLogStart(w.ctx, p, last.base))
		check(last.base)
	})
}

func TestEpochEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 1, 2, 100) // epoch 0: [0, 8)
		w.restart()
		w.fill(p, 1, 1, 100) // epoch 1: [8, 12)
		w.check(w.maintainer.Pass(w.ctx))
		w.restart()
		w.restart()
		w.fill(p, 1, 1, 100) // epoch 3: [12, 16)
		s, err := w.catalog.State(w.ctx, p)
		w.check(err)
		for asked, want := range map[metadata.LeaderEpoch][2]int64{0: {0, 8}, 1: {1, 12}, 2: {1, 12}, 3: {3, 16}, 9: {3, 16}} {
			epoch, end, found := EpochEnd(s.Epochs, s.End, asked)
			if !found || int64(epoch) != want[0] || int64(end) != want[1] {
				t.Errorf("epoch %d: %d ends at %d, %v; want %v", asked, epoch, end, found, want)
			}
		}
		w.oracle()
	})
}

// TestUnusedBlocksAreDropped: what is held stays readable, everything else goes, and is read again when it is asked for.
func TestUnusedBlocksAreDropped(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 3, 40, 5000)
		r := NewReader(w.catalog, ReaderOptions{FetchBytes: 1 << 20})
		defer r.Close()
		used := func() (bytes, free int64) {
			r.blocks.mu.Lock()
			defer r.blocks.mu.Unlock()
			return r.blocks.usedBytes, r.blocks.freeBytes
		}
		held, err := r.Read(w.ctx, p, 0, 1)
		w.check(err)
		r.blocks.wg.Wait() // read-ahead
		r.DropUnused()
		if n, _ := used(); n == 0 {
			t.Error("what is held does not count")
		}
		if !bytes.Equal(bytes.Join(held.Batches, nil), w.log[p][0].bytes) {
			t.Error("what is held has changed")
		}
		held.Release()
		r.DropUnused()
		if n, free := used(); n != 0 || free != 0 {
			t.Errorf("%d bytes in use and %d at hand", n, free)
		}
		again, err := r.Read(w.ctx, p, 0, 1)
		w.check(err)
		if !bytes.Equal(bytes.Join(again.Batches, nil), w.log[p][0].bytes) {
			t.Error("read again: something else")
		}
		again.Release()
	})
}
