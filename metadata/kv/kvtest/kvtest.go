// Package kvtest is the acceptance suite of the kv seam: every implementation passes it.
package kvtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// Harness is a fresh store to test.
type Harness struct {
	KV      kv.KV
	Compact func(ctx context.Context, rev int64) error
}

// Run runs the suite. Every subtest uses its own keys, so one store may serve all.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	tests := []struct {
		name string
		fn   func(t *testing.T, h Harness)
	}{
		{"PutGet", testPutGet},
		{"RangePages", testRangePages},
		{"RangeAtRevision", testRangeAtRevision},
		{"Compares", testCompares},
		{"TxnElse", testElse},
		{"DeleteRange", testDeleteRange},
		{"TxnLimits", testLimits},
		{"DuplicateKey", testDuplicateKey},
		{"Watch", testWatch},
		{"WatchReplays", testWatchReplays},
		{"WatchAtomicRevision", testWatchAtomicRevision},
		{"WatchCompacted", testWatchCompacted},
		{"WatchCallbackError", testWatchCallbackError},
		{"LeaseRevoke", testLeaseRevoke},
		{"LeaseExpires", testLeaseExpires},
		{"LeaseKeepAlive", testLeaseKeepAlive},
		{"Cancelled", testCancelled},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := open(t)
			if strings.HasPrefix(tc.name, "Lease") { // they wait for real time, and none compacts
				t.Parallel()
			}
			tc.fn(t, h)
		})
	}
}

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func txn(t *testing.T, h Harness, x kv.Txn) kv.TxnResult {
	t.Helper()
	res, err := h.KV.Txn(ctxOf(t), x)
	if err != nil {
		t.Fatalf("txn: %v", err)
	}
	return res
}

func put(t *testing.T, h Harness, key, value string) int64 {
	t.Helper()
	return txn(t, h, kv.Txn{Then: []kv.Op{kv.Put(key, []byte(value))}}).Revision
}

func get(t *testing.T, h Harness, r kv.Range) kv.Page {
	t.Helper()
	page, err := h.KV.Range(ctxOf(t), r)
	if err != nil {
		t.Fatalf("range: %v", err)
	}
	return page
}

func testPutGet(t *testing.T, h Harness) {
	r1 := put(t, h, "pg/a", "1")
	r2 := put(t, h, "pg/a", "2")
	if r2 <= r1 {
		t.Fatalf("revisions %d, %d do not grow", r1, r2)
	}
	page := get(t, h, kv.Range{Start: "pg/a"})
	if len(page.Pairs) != 1 || page.More || page.Revision < r2 {
		t.Fatalf("page %+v", page)
	}
	p := page.Pairs[0]
	if p.Key != "pg/a" || string(p.Value) != "2" || p.CreateRevision != r1 || p.ModRevision != r2 || p.Lease != 0 {
		t.Errorf("pair %+v, want create %d, mod %d", p, r1, r2)
	}
	put(t, h, "pg/empty", "")
	if page := get(t, h, kv.Range{Start: "pg/empty"}); len(page.Pairs) != 1 || len(page.Pairs[0].Value) != 0 {
		t.Errorf("empty value: %+v", page)
	}
	if page := get(t, h, kv.Range{Start: "pg/none"}); len(page.Pairs) != 0 {
		t.Errorf("absent key: %+v", page)
	}
	del := txn(t, h, kv.Txn{Then: []kv.Op{kv.Delete("pg/a")}})
	if del.Deleted != 1 {
		t.Errorf("deleted %d", del.Deleted)
	}
	again := put(t, h, "pg/a", "3")
	if p := get(t, h, kv.Range{Start: "pg/a"}).Pairs[0]; p.CreateRevision != again {
		t.Errorf("created again at %d, says %d", again, p.CreateRevision)
	}
}

func testRangePages(t *testing.T, h Harness) {
	var want []string
	for i := range 23 {
		key := fmt.Sprintf("rp/%02d", i)
		put(t, h, key, key)
		want = append(want, key)
	}
	put(t, h, "rq", "beyond")
	var got []string
	rev, err := kv.Scan(ctxOf(t), h.KV, "rp/", kv.PrefixEnd("rp/"), 5, func(p kv.Pair) error {
		if len(got) == 7 { // writes in between are not seen: all pages are of one revision
			put(t, h, "rp/99", "late")
			put(t, h, "rp/20", "changed")
		}
		if p.Key != string(p.Value) {
			t.Errorf("%s has the value %q", p.Key, p.Value)
		}
		got = append(got, p.Key)
		return nil
	})
	if err != nil || rev == 0 || !slices.Equal(got, want) {
		t.Errorf("scan: revision %d, error %v, keys %v", rev, err, got)
	}
	stop := errors.New("stop")
	if _, err := kv.Scan(ctxOf(t), h.KV, "rp/", "rq", 5, func(kv.Pair) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("scan with a failing callback: %v", err)
	}
}

func testRangeAtRevision(t *testing.T, h Harness) {
	r1 := put(t, h, "rr/a", "1")
	r2 := put(t, h, "rr/a", "2")
	txn(t, h, kv.Txn{Then: []kv.Op{kv.Delete("rr/a")}})
	for rev, want := range map[int64]string{r1: "1", r2: "2"} {
		if p := get(t, h, kv.Range{Start: "rr/a", Revision: rev}); len(p.Pairs) != 1 || string(p.Pairs[0].Value) != want {
			t.Errorf("at %d: %+v, want %s", rev, p, want)
		}
	}
	if err := h.Compact(ctxOf(t), r2+1); err != nil {
		t.Fatal(err)
	}
	if _, err := h.KV.Range(ctxOf(t), kv.Range{Start: "rr/a", Revision: r1}); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("read of a compacted revision: %v", err)
	}
}

func testCompares(t *testing.T, h Harness) {
	r1 := put(t, h, "co/a", "1")
	r2 := put(t, h, "co/a", "2")
	for _, tc := range []struct {
		name string
		c    kv.Compare
		want bool
	}{
		{"absent of a key that is there", kv.Absent("co/a"), false},
		{"absent of an absent key", kv.Absent("co/none"), true},
		{"exists", kv.Exists("co/a"), true},
		{"exists of an absent key", kv.Exists("co/none"), false},
		{"unchanged", kv.Unchanged("co/a", r2), true},
		{"changed", kv.Unchanged("co/a", r1), false},
		{"unchanged at 0 of an absent key", kv.Unchanged("co/none", 0), true},
		{"unchanged at 0 of a key that is there", kv.Unchanged("co/a", 0), false},
		{"create revision", kv.Compare{Key: "co/a", Target: kv.CreateRevision, Revision: r1}, true},
		{"other create revision", kv.Compare{Key: "co/a", Target: kv.CreateRevision, Revision: r2}, false},
	} {
		res := txn(t, h, kv.Txn{If: []kv.Compare{tc.c}, Then: []kv.Op{kv.Get("co/a")}})
		if res.Succeeded != tc.want {
			t.Errorf("%s: %v", tc.name, res.Succeeded)
		}
	}
	all := txn(t, h, kv.Txn{If: []kv.Compare{kv.Exists("co/a"), kv.Exists("co/none")}, Then: []kv.Op{kv.Put("co/b", nil)}})
	if all.Succeeded || len(get(t, h, kv.Range{Start: "co/b"}).Pairs) != 0 {
		t.Error("a transaction with one false comparison was performed")
	}
}

func testElse(t *testing.T, h Harness) {
	rev := put(t, h, "el/a", "1")
	res := txn(t, h, kv.Txn{
		If:   []kv.Compare{kv.Absent("el/a")},
		Then: []kv.Op{kv.Put("el/a", []byte("no"))},
		Else: []kv.Op{kv.Get("el/a"), kv.Get("el/none")},
	})
	if res.Succeeded || len(res.Gets) != 2 || len(res.Gets[0]) != 1 || len(res.Gets[1]) != 0 {
		t.Fatalf("%+v", res)
	}
	if p := res.Gets[0][0]; string(p.Value) != "1" || p.ModRevision != rev {
		t.Errorf("pair %+v", p)
	}
	res = txn(t, h, kv.Txn{Then: []kv.Op{kv.Put("el/b", []byte("2")), kv.Get("el/b"), {Kind: kv.OpGet, Key: "el/", End: "el0", Limit: 1}}})
	if len(res.Gets) != 2 || len(res.Gets[0]) != 1 || res.Gets[0][0].ModRevision != res.Revision || len(res.Gets[1]) != 1 {
		t.Errorf("a get does not see the transaction's own put: %+v", res)
	}
}

func testDeleteRange(t *testing.T, h Harness) {
	for i := range 10 {
		put(t, h, fmt.Sprintf("dr/%d", i), "x")
	}
	res := txn(t, h, kv.Txn{Then: []kv.Op{kv.DeleteRange("dr/3", "dr/7"), kv.Put("dr/8", []byte("y"))}})
	if !res.Succeeded || res.Deleted != 4 {
		t.Errorf("%+v", res)
	}
	if page := get(t, h, kv.Range{Start: "dr/", End: "dr0"}); len(page.Pairs) != 6 {
		t.Errorf("%d keys are left", len(page.Pairs))
	}
}

func testLimits(t *testing.T, h Harness) {
	ops := func(n, size int) (out []kv.Op) {
		for i := range n {
			out = append(out, kv.Put(fmt.Sprintf("li/%03d", i), make([]byte, size)))
		}
		return out
	}
	if res := txn(t, h, kv.Txn{Then: ops(kv.MaxTxnOps, 10)}); !res.Succeeded {
		t.Error("a full transaction was not performed")
	}
	if res := txn(t, h, kv.Txn{Then: ops(4, 250<<10)}); !res.Succeeded {
		t.Error("a large transaction was not performed")
	}
	for name, x := range map[string]kv.Txn{"ops": {Then: ops(kv.MaxTxnOps+1, 10)}, "bytes": {Then: ops(5, 250<<10)}} {
		if _, err := h.KV.Txn(ctxOf(t), x); !errors.Is(err, kv.ErrTooLarge) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
}

func testDuplicateKey(t *testing.T, h Harness) {
	_, err := h.KV.Txn(ctxOf(t), kv.Txn{Then: []kv.Op{kv.Put("dk/a", nil), kv.Put("dk/a", nil)}})
	if err == nil || errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("a key put twice: %v", err)
	}
	_, err = h.KV.Txn(ctxOf(t), kv.Txn{Then: []kv.Op{kv.Put("dk/a", nil), kv.Delete("dk/a")}})
	if err == nil || errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("a key put and deleted: %v", err)
	}
}

func testCancelled(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.KV.Range(ctx, kv.Range{Start: "x"}); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("range: %v", err)
	}
	if _, err := h.KV.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("x", nil)}}); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("txn: %v", err)
	}
}
