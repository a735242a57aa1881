package tiering

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/tiering/segment"
	"github.com/tidemarkmq/tidemark/wal"
)

// running starts the world's uploader and returns a function that stops it and gives Run's answer.
func (w *world) running(change func(*UploaderOptions)) (stop func() error) {
	o := w.uploaderOptions()
	if change != nil {
		change(&o)
	}
	w.uploader = NewUploader(o)
	ctx, cancel := context.WithCancel(w.ctx)
	failed := make(chan error, 1)
	go func() { failed <- w.uploader.Run(ctx) }()
	return func() error { cancel(); return <-failed }
}

func TestSealsByAgeAndBySize(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 2)
		w.up()
		stop := w.running(func(o *UploaderOptions) { o.SealAge, o.SealBytes = 3*time.Second, 100_000 })
		w.append(p[0], 1, 100)
		w.sleep(2900 * time.Millisecond)
		if len(w.told()) != 0 {
			t.Fatalf("sealed before its time: %+v", w.told())
		}
		w.sleep(200 * time.Millisecond)
		if len(w.told()) != 1 || w.stream.trimmedTo() != w.stream.Durable() {
			t.Fatalf("not sealed in time: %+v, trimmed to %d of %d", w.told(), w.stream.trimmedTo(), w.stream.Durable())
		}
		for range 25 {
			w.append(p[1], 1, 10_000)
		}
		w.sleep(100 * time.Millisecond)
		if n := w.objects(segment.Single); n != 3 {
			t.Fatalf("%d objects, want one by age and two by size", n)
		}
		w.check(w.uploader.Drain(w.ctx))
		w.check(stop())
		w.oracle()
		w.verify(true)
	})
}

func TestLargePartitionsGetObjectsOfTheirOwn(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 4)
		w.up()
		for range 3 {
			w.append(p[0], 2, 100)
			w.append(p[1], 2, 300<<10)
			w.append(p[2], 2, 100)
		}
		w.upload()
		pending, err := w.meta.PendingObjects(w.ctx)
		w.check(err)
		if len(pending) != 2 || w.objects(segment.Shared) != 1 || w.objects(segment.Single) != 1 {
			t.Fatalf("%d pending, %d shared, %d single", len(pending), w.objects(segment.Shared), w.objects(segment.Single))
		}
		if pending[0].From != pending[1].From || pending[0].To != pending[1].To || len(w.told()) != 3 {
			t.Errorf("one seal, but %+v and ranges %+v", pending, w.told())
		}
		w.oracle()
		w.verify(true)
	})
}

func TestOutageOnlyDelays(t *testing.T) {
	for _, fault := range []faulty.Fault{faulty.Throttled, faulty.Failed, faulty.Lost, faulty.AppliedLost, faulty.Torn, faulty.Hang} {
		inWorld(t, func(w *world) {
			f := faulty.New(w.bucket, faulty.Rule{Op: faulty.Put, Count: 7, Fault: fault})
			w.store = f
			p := w.topic("t", 2)
			w.up()
			stop := w.running(nil)
			w.append(p[0], 2, 1000)
			w.append(p[1], 2, 1000)
			w.sleep(1100 * time.Millisecond)
			if fault != faulty.AppliedLost && (w.stream.trimmedTo() != 0 || len(w.told()) != 0) {
				t.Fatalf("fault %d: trimmed to %d, committed %+v while the store is away", fault, w.stream.trimmedTo(), w.told())
			}
			w.append(p[0], 2, 1000) // acknowledgements go on
			w.sleep(5 * time.Minute)
			if w.uploader.Committed() != w.stream.Durable() || w.stream.trimmedTo() != w.stream.Durable() {
				t.Fatalf("fault %d: committed %d of %d after the outage", fault, w.uploader.Committed(), w.stream.Durable())
			}
			w.check(stop())
			w.oracle()
			w.verify(true)
		})
	}
}

// TestNobodyIsToldOfAFailedFlush: a shared flush fails with 503, and neither of those who wait for it, nor one who waits for a later
// flush that succeeded meanwhile, is told that it is committed.
func TestNobodyIsToldOfAFailedFlush(t *testing.T) {
	inWorld(t, func(w *world) {
		// The first object is refused for long; every later one is taken.
		var mu sync.Mutex
		first := ""
		w.store = putHook{w.bucket, func(key string) error {
			mu.Lock()
			defer mu.Unlock()
			if first == "" {
				first = key
			}
			if key == first && time.Now().Before(w.at(60)) {
				return objectstore.ErrThrottled
			}
			return nil
		}}
		p := w.topic("t", 2)
		w.up()
		stop := w.running(nil)
		w.append(p[0], 1, 100)
		w.append(p[1], 1, 100)
		w.sleep(1200 * time.Millisecond)
		w.append(p[0], 1, 100)
		w.sleep(20 * time.Second)
		if n := w.objects(); n != 1 {
			t.Fatalf("%d objects, want the second", n)
		}
		if len(w.told()) != 0 || w.stream.trimmedTo() != 0 || w.catalog.End(p[0]) != 0 {
			t.Fatalf("told of %+v though the first flush failed", w.told())
		}
		w.sleep(2 * time.Minute)
		if len(w.told()) != 3 || w.told()[2].Start != 1 {
			t.Fatalf("after the outage: %+v", w.told())
		}
		w.check(stop())
		w.oracle()
	})
}

// sleep lets the bubble's time pass, and everything that is due happen.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where the bubble's clock starts

func (w *world) at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

type putHook struct {
	objectstore.Store
	before func(key string) error
}

func (h putHook) Put(ctx context.Context, key string, body objectstore.Body, o objectstore.PutOptions) error {
	if err := h.before(key); err != nil {
		return err
	}
	return h.Store.Put(ctx, key, body, o)
}

func TestHangingUploadIsGivenUpPerAttempt(t *testing.T) {
	inWorld(t, func(w *world) {
		f := faulty.New(w.bucket, faulty.Rule{Op: faulty.Put, Count: 2, Fault: faulty.Hang})
		w.store = f
		p := w.topic("t", 1)
		w.up()
		w.append(p[0], 1, 100)
		started := time.Now()
		w.upload()
		if took := time.Since(started); took > 30*time.Second || took < 20*time.Second {
			t.Errorf("two hanging attempts took %v", took)
		}
		w.oracle()
	})
}

func TestPutThatTakesEffectLate(t *testing.T) {
	inWorld(t, func(w *world) {
		f := faulty.New(w.bucket, faulty.Rule{Op: faulty.Put, Count: 1, Fault: faulty.Delayed})
		w.store = f
		p := w.topic("t", 1)
		w.up()
		w.append(p[0], 1, 100)
		w.upload()
		_ = f.Settle(w.ctx) // meets its own object
		w.oracle()
		w.verify(true)
	})
}

func TestCommitOutcomeUnknown(t *testing.T) {
	for name, fault := range map[string]memkv.Fault{"lost": {Lost: true}, "applied": {Unknown: true}, "late": {Late: 3 * time.Second}} {
		inWorld(t, func(w *world) {
			p := w.topic("t", 1)
			w.up()
			w.append(p[0], 2, 100)
			var n atomic.Int32
			w.kv.SetFaults(func(c memkv.Call) memkv.Fault {
				if n.Add(1) <= 6 {
					return fault
				}
				return memkv.Fault{}
			})
			w.upload()
			w.kv.SetFaults(nil)
			pending, err := w.meta.PendingObjects(w.ctx)
			w.check(err)
			if len(pending) != 1 || w.objects() != 1 || len(w.told()) != 1 {
				t.Errorf("%s: %d pending, %d objects, told of %+v", name, len(pending), w.objects(), w.told())
			}
			w.oracle()
			w.verify(true)
		})
	}
}

func TestFencedUploaderStops(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)
		w.up()
		stop := w.running(nil)
		w.append(p[0], 1, 100)
		_, err := w.meta.RecoverStream(w.ctx, w.state.ID, w.inc)
		w.check(err)
		if err := w.uploader.Drain(w.ctx); !errors.Is(err, metadata.ErrFenced) {
			t.Errorf("drain: %v", err)
		}
		w.append(p[0], 1, 100)
		if err := stop(); !errors.Is(err, metadata.ErrFenced) {
			t.Errorf("run: %v", err)
		}
		if len(w.told()) != 0 || w.stream.trimmedTo() != 0 {
			t.Errorf("told of %+v, trimmed to %d", w.told(), w.stream.trimmedTo())
		}
	})
}

func TestCorruptEntriesStopTheUploader(t *testing.T) {
	cases := map[string]func(w *world, p metadata.PartitionID){
		"flipped bit": func(w *world, p metadata.PartitionID) {
			w.append(p, 2, 100)
			w.stream.entries[0].Data[entry.HeaderBytes+80] ^= 1
		},
		"hole": func(w *world, p metadata.PartitionID) {
			w.append(p, 2, 100)
			w.append(p, 2, 100)
			w.stream.entries = w.stream.entries[1:]
		},
		"bad header": func(w *world, p metadata.PartitionID) {
			w.append(p, 2, 100)
			w.stream.entries[0].Data[0] = 99
		},
		"cut": func(w *world, p metadata.PartitionID) {
			w.append(p, 2, 100)
			w.stream.entries[0].Data = w.stream.entries[0].Data[:100]
		},
	}
	for name, damage := range cases {
		inWorld(t, func(w *world) {
			p := w.topic("t", 1)
			w.up()
			damage(w, p[0])
			if err := w.tryUpload(w.ctx); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
			if w.stream.trimmedTo() != 0 || len(w.told()) != 0 {
				t.Errorf("%s: trimmed or told", name)
			}
		})
	}
}

func TestDeletedTopicsAreNotUploaded(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.topic("a", 1), w.topic("b", 1)
		w.up()
		w.append(a[0], 1, 100)
		w.append(b[0], 1, 100)
		w.check(w.meta.DeleteTopic(w.ctx, b[0].Topic))
		w.upload()
		if len(w.told()) != 1 || w.told()[0].Partition != a[0] {
			t.Fatalf("committed %+v", w.told())
		}
		w.append(a[0], 1, 100)
		w.check(w.meta.DeleteTopic(w.ctx, a[0].Topic))
		w.upload()
		if len(w.told()) != 1 || w.stream.trimmedTo() != w.stream.Durable() {
			t.Fatalf("nothing was left to commit, yet %+v; trimmed to %d", w.told(), w.stream.trimmedTo())
		}
	})
}

// TestRecoveryCommitsEachBatchOnce drains a dead stream whose beginning is committed already, whether etcd's position says so or not.
func TestRecoveryCommitsEachBatchOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 2)
		w.up()
		for range 3 {
			w.append(p[0], 2, 100)
			w.append(p[1], 2, 100)
		}
		w.upload()
		w.check(w.maintainer.Pass(w.ctx)) // the pending keys are gone
		w.append(p[0], 5, 100)
		w.stream.trimmed = 0
		w.mu.Lock()
		w.committed = nil
		w.mu.Unlock()
		st, err := w.meta.RecoverStream(w.ctx, w.state.ID, w.inc)
		w.check(err)
		w.state = st
		o := w.uploaderOptions()
		w.check(DrainRecovered(w.ctx, w.stream, w.stream.Durable(), withFrom(o, wal.Position(st.Committed))))
		if len(w.told()) != 1 || w.told()[0].Start != 6 || w.told()[0].End != 11 {
			t.Fatalf("committed %+v", w.told())
		}
		w.check(DrainRecovered(w.ctx, w.stream, w.stream.Durable(), withFrom(o, 0)))
		if len(w.told()) != 1 {
			t.Fatalf("committed twice: %+v", w.told())
		}
		w.oracle()
		w.verify(false)
	})
}

func withFrom(o UploaderOptions, from wal.Position) UploaderOptions {
	o.From = from
	return o
}

func TestManyPendingObjectsMakeBiggerSeals(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)
		w.up()
		w.catalog.o.HardPending, w.catalog.o.SoftPending = 2, 1
		stop := w.running(func(o *UploaderOptions) { o.SealAge = time.Second })
		for range 2 {
			w.append(p[0], 1, 100)
			w.sleep(1100 * time.Millisecond)
		}
		select {
		case <-w.catalog.pressed:
		default:
			t.Error("over the soft cap absorbing is not asked for")
		}
		w.append(p[0], 1, 100)
		w.sleep(7 * time.Second)
		if n := w.catalog.pendingCount(); n != 2 {
			t.Errorf("%d pending: sealing is not throttled", n)
		}
		w.sleep(2 * time.Second)
		if n := w.catalog.pendingCount(); n != 3 {
			t.Errorf("%d pending: sealing has stopped", n)
		}
		w.check(stop())
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	inWorld(t, func(w *world) {
		w.store = faulty.New(w.bucket, faulty.Rule{Op: faulty.Put, Count: faulty.Forever, Fault: faulty.Throttled})
		p := w.topic("t", 1)
		w.up()
		stop := w.running(nil)
		w.append(p[0], 1, 100)
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		if err := w.uploader.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drain: %v", err)
		}
		w.check(stop())
		if err := w.uploader.Drain(w.ctx); err == nil {
			t.Error("drain of a stopped uploader succeeded")
		}
	})
}

// TestUploadGoesOnBehindADeletedTopic: what comes after the data of a deleted topic is committed from where that ended.
func TestUploadGoesOnBehindADeletedTopic(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.topic("a", 1), w.topic("b", 1)
		w.up()
		stop := w.running(nil)
		for range 3 {
			w.append(a[0], 1, 100)
			w.check(w.uploader.Drain(w.ctx))
		}
		w.append(b[0], 1, 100)
		w.check(w.meta.DeleteTopic(w.ctx, b[0].Topic))
		w.check(w.uploader.Drain(w.ctx))
		if w.stream.trimmedTo() != w.stream.Durable() {
			t.Errorf("the deleted topic's data keeps the WAL at %d", w.stream.trimmedTo())
		}
		w.append(a[0], 1, 100)
		w.check(w.uploader.Drain(w.ctx))
		if told := w.told(); len(told) != 4 || told[3].Start != 3 {
			t.Errorf("committed %+v", told)
		}
		w.check(stop())
	})
}
