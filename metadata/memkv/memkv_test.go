package memkv_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
	"github.com/tidemarkmq/tidemark/metadata/kv/kvtest"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

func TestAcceptance(t *testing.T) {
	kvtest.Run(t, func(*testing.T) kvtest.Harness {
		s := memkv.New()
		return kvtest.Harness{KV: s, Compact: s.Compact}
	})
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memkv.New()
		put := func(key string) error {
			_, err := s.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(key, nil)}})
			return err
		}
		has := func(key string) bool {
			page, err := s.Range(t.Context(), kv.Range{Start: key})
			if err != nil {
				t.Fatal(err)
			}
			return len(page.Pairs) == 1
		}
		s.SetFaults(func(c memkv.Call) memkv.Fault {
			if c.Kind != memkv.OpTxn {
				return memkv.Fault{}
			}
			return map[int]memkv.Fault{1: {Lost: true}, 2: {Unknown: true}, 3: {Late: time.Second}, 4: {Delay: time.Minute}, 5: {Answer: time.Minute}}[c.N]
		})
		for i, key := range []string{"lost", "unknown", "late"} {
			if err := put(key); !errors.Is(err, kv.ErrUnavailable) {
				t.Errorf("call %d: %v", i+1, err)
			}
		}
		if has("lost") || !has("unknown") || has("late") {
			t.Errorf("lost %v, unknown %v, late %v", has("lost"), has("unknown"), has("late"))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !has("late") {
			t.Error("the late transaction was never performed")
		}
		start := time.Now()
		if err := put("slow"); err != nil || time.Since(start) != time.Minute {
			t.Errorf("slow: %v after %s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("unheard", nil)}}); !errors.Is(err, kv.ErrUnavailable) || !has("unheard") {
			t.Errorf("slow answer: %v, performed %v", err, has("unheard"))
		}
	})
}
