package kvtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// watching collects the batches of a watch that runs until the test ends.
type watching struct {
	batches chan kv.Batch
	done    chan error
}

func startWatch(t *testing.T, h Harness, start, end string, from int64) *watching {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{batches: make(chan kv.Batch, 100), done: make(chan error, 1)}
	go func() {
		w.done <- h.KV.Watch(ctx, start, end, from, func(b kv.Batch) error {
			select {
			case w.batches <- b:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-w.done; !errors.Is(err, context.Canceled) {
			t.Errorf("watch ended with %v", err)
		}
	})
	return w
}

// next returns the next n events.
func (w *watching) next(t *testing.T, n int) []kv.Event {
	t.Helper()
	timeout := time.After(20 * time.Second)
	var out []kv.Event
	var last int64
	for len(out) < n {
		select {
		case b := <-w.batches:
			if b.Revision < last {
				t.Fatalf("batch of revision %d after %d", b.Revision, last)
			}
			last = b.Revision
			out = append(out, b.Events...)
		case err := <-w.done:
			w.done <- err
			t.Fatalf("watch ended: %v", err)
		case <-timeout:
			t.Fatalf("%d of %d events: %+v", len(out), n, out)
		}
	}
	if len(out) > n {
		t.Fatalf("%d events, want %d", len(out), n)
	}
	return out
}

func testWatch(t *testing.T, h Harness) {
	from := put(t, h, "wa/before", "x") + 1
	w := startWatch(t, h, "wa/", "wa0", from)
	r1 := put(t, h, "wa/a", "1")
	put(t, h, "wb", "outside")
	r2 := put(t, h, "wa/a", "2")
	r3 := txn(t, h, kv.Txn{Then: []kv.Op{kv.Delete("wa/a")}}).Revision
	ev := w.next(t, 3)
	if ev[0].IsDelete || string(ev[0].Value) != "1" || ev[0].ModRevision != r1 || ev[0].CreateRevision != r1 {
		t.Errorf("event 0: %+v", ev[0])
	}
	if ev[1].IsDelete || string(ev[1].Value) != "2" || ev[1].ModRevision != r2 || ev[1].CreateRevision != r1 {
		t.Errorf("event 1: %+v", ev[1])
	}
	if !ev[2].IsDelete || ev[2].Key != "wa/a" || ev[2].ModRevision != r3 {
		t.Errorf("event 2: %+v", ev[2])
	}
}

func testWatchReplays(t *testing.T, h Harness) {
	from := put(t, h, "wr/0", "0")
	for i := 1; i < 50; i++ {
		put(t, h, fmt.Sprintf("wr/%d", i%5), fmt.Sprint(i))
	}
	for i, e := range startWatch(t, h, "wr/", "wr0", from).next(t, 50) {
		if string(e.Value) != fmt.Sprint(i) {
			t.Fatalf("event %d is %q", i, e.Value)
		}
	}
}

func testWatchAtomicRevision(t *testing.T, h Harness) {
	from := put(t, h, "wt/x", "") + 1
	w := startWatch(t, h, "wt/", "wt0", from)
	var ops []kv.Op
	for i := range kv.MaxTxnOps {
		ops = append(ops, kv.Put(fmt.Sprintf("wt/%03d", i), make([]byte, 4000)))
	}
	rev := txn(t, h, kv.Txn{Then: ops}).Revision
	timeout := time.After(20 * time.Second)
	for {
		select {
		case b := <-w.batches:
			if len(b.Events) == 0 {
				continue
			}
			if len(b.Events) != kv.MaxTxnOps || b.Revision != rev {
				t.Errorf("a revision of %d events came as %d (revision %d, batch %d)", kv.MaxTxnOps, len(b.Events), rev, b.Revision)
			}
			return
		case <-timeout:
			t.Fatal("no event")
		}
	}
}

func testWatchCompacted(t *testing.T, h Harness) {
	from := put(t, h, "wc/a", "1")
	put(t, h, "wc/a", "2")
	rev := put(t, h, "wc/a", "3")
	if err := h.Compact(ctxOf(t), rev); err != nil {
		t.Fatal(err)
	}
	err := h.KV.Watch(ctxOf(t), "wc/", "wc0", from, func(kv.Batch) error { return nil })
	if !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("watch from a compacted revision: %v", err)
	}
}

func testWatchCallbackError(t *testing.T, h Harness) {
	from := put(t, h, "we/a", "1")
	stop := errors.New("stop")
	if err := h.KV.Watch(ctxOf(t), "we/", "we0", from, func(kv.Batch) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("watch: %v", err)
	}
}

func grant(t *testing.T, h Harness, ttl time.Duration) kv.LeaseID {
	t.Helper()
	id, granted, err := h.KV.Grant(ctxOf(t), ttl)
	if err != nil || id == 0 || granted < ttl {
		t.Fatalf("grant: lease %d, ttl %s, error %v", id, granted, err)
	}
	return id
}

func testLeaseRevoke(t *testing.T, h Harness) {
	id := grant(t, h, time.Minute)
	txn(t, h, kv.Txn{Then: []kv.Op{kv.PutLeased("lr/a", []byte("1"), id), kv.PutLeased("lr/b", []byte("1"), id)}})
	if p := get(t, h, kv.Range{Start: "lr/a"}).Pairs[0]; p.Lease != id {
		t.Errorf("pair %+v, lease %d", p, id)
	}
	put(t, h, "lr/b", "no lease now")
	if err := h.KV.Revoke(ctxOf(t), id); err != nil {
		t.Fatal(err)
	}
	if err := h.KV.Revoke(ctxOf(t), id); err != nil {
		t.Errorf("second revoke: %v", err)
	}
	page := get(t, h, kv.Range{Start: "lr/", End: "lr0"})
	if len(page.Pairs) != 1 || page.Pairs[0].Key != "lr/b" {
		t.Errorf("left: %+v", page.Pairs)
	}
	if _, err := h.KV.KeepAlive(ctxOf(t), id); !errors.Is(err, kv.ErrLeaseNotFound) {
		t.Errorf("keepalive of a revoked lease: %v", err)
	}
	if _, err := h.KV.Txn(ctxOf(t), kv.Txn{Then: []kv.Op{kv.PutLeased("lr/c", nil, id)}}); !errors.Is(err, kv.ErrLeaseNotFound) {
		t.Errorf("put with a revoked lease: %v", err)
	}
}

func testLeaseExpires(t *testing.T, h Harness) {
	id := grant(t, h, time.Second)
	rev := txn(t, h, kv.Txn{Then: []kv.Op{kv.PutLeased("le/a", []byte("1"), id)}}).Revision
	ev := startWatch(t, h, "le/", "le0", rev+1).next(t, 1)
	if !ev[0].IsDelete || ev[0].Key != "le/a" {
		t.Errorf("event %+v", ev[0])
	}
}

func testLeaseKeepAlive(t *testing.T, h Harness) {
	id := grant(t, h, 2*time.Second)
	txn(t, h, kv.Txn{Then: []kv.Op{kv.PutLeased("lk/a", []byte("1"), id)}})
	start := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for time.Since(start) < 3*time.Second {
		<-tick.C
		if ttl, err := h.KV.KeepAlive(ctxOf(t), id); err != nil || ttl < time.Second {
			t.Fatalf("keepalive: ttl %s, error %v", ttl, err)
		}
	}
	if len(get(t, h, kv.Range{Start: "lk/a"}).Pairs) != 1 {
		t.Error("the key is gone although its lease was kept alive")
	}
}
