package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// TestSimLateDelete: a transaction that deletes absorbed objects from the pending list is sent twice, because the first answer is missing, and
// the first one comes through late, when the run that sent it is dead. It must not take an object of the same stream that its successor has
// committed in the meantime.
func TestSimLateDelete(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOutage(t, func(c *Config) { c.SealAge = time.Second })
		held := false
		o.w.mu.Lock()
		o.r.hold = func(t kv.Txn) bool {
			deletes := len(t.Then) > 0 && t.Then[0].Kind == kv.OpDelete && strings.Contains(t.Then[0].Key, "/pending/")
			if !deletes || held {
				return false
			}
			held = true
			return true
		}
		o.w.mu.Unlock()
		for range 5 {
			o.must(2)
			time.Sleep(2 * time.Second) // sealed
		}
		time.Sleep(5 * time.Second) // absorbed
		if !held || o.r.broker.meta.PendingCount() > 0 {
			t.Fatalf("held %v, %d pending", held, o.r.broker.meta.PendingCount())
		}
		o.must(3) // only in the log
		o.r.crash()
		<-o.r.done
		second := o.w.restart(o.r, crashPoint{})
		if !second.await() {
			t.Fatal(second.err)
		}
		for _, late := range o.r.held {
			if err := late(); err != nil {
				t.Fatal(err)
			}
		}
		second.crash()
		<-second.done
		third := o.w.restart(second, crashPoint{})
		if !third.await() {
			t.Fatalf("after a late delete: %v", third.err)
		}
		o.c.close()
		o.must(1)
		o.finish()
	})
}
