package metadata

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata/kv"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestRegister(t *testing.T) {
	inBubble(t, func(h *harness) {
		b, ok := h.s.Image().Broker(1)
		if !ok || b.Host != "one.test" || b.Port != 9092 || b.Incarnation != h.inc || h.inc == 0 {
			h.Errorf("%+v", b)
		}
		page, err := h.kv.Range(h.Context(), kv.Range{Start: h.s.keys.broker(1)})
		h.must(err)
		if got := page.Pairs[0].CreateRevision; got != int64(h.inc) {
			h.Errorf("incarnation %d, create revision %d", h.inc, got)
		}
		other := h.open()
		for _, token := range []string{"data-2", ""} {
			_, err := other.Register(h.Context(), Broker{ID: 1, Host: "two.test", Token: token}, 9*time.Second)
			if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "one.test:9092") {
				h.Errorf("second broker with the id: %v", err)
			}
		}
		for name, b := range map[string]Broker{"id": {ID: -1}, "port": {Port: 70000}, "host": {Host: strings.Repeat("x", 2000)}} {
			if _, err := h.s.Register(h.Context(), b, time.Second); !errors.Is(err, ErrInvalid) {
				h.Errorf("bad %s: %v", name, err)
			}
		}
		two := h.register(other, Broker{ID: 2, Host: "two.test", Port: 1, Rack: "r"})
		if _, err := h.s.Register(h.Context(), Broker{ID: 2}, time.Second); !errors.Is(err, ErrExists) {
			h.Errorf("two brokers without tokens: %v", err)
		}
		synctest.Wait()
		if im := h.s.Image(); len(im.Brokers()) != 2 || im.Brokers()[1].Rack != "r" || im.Controller() != 1 {
			h.Errorf("%+v, controller %d", im.Brokers(), im.Controller())
		}
		h.must(two.SetAddress(h.Context(), "moved.test", 7))
		h.must(two.SetDraining(h.Context(), true))
		if b, _ := other.Image().Broker(2); b.Host != "moved.test" || b.Port != 7 || !b.Draining || b.Incarnation != two.Incarnation {
			h.Errorf("%+v", b)
		}
		if err := two.SetAddress(h.Context(), "x", -1); !errors.Is(err, ErrInvalid) {
			h.Errorf("bad address: %v", err)
		}
		time.Sleep(time.Hour) // leases are kept alive
		if len(h.s.Image().Brokers()) != 2 || closed(two.Done()) {
			h.Error("a live broker is gone")
		}
		h.must(h.reg.Close(h.Context()))
		if _, ok := h.s.Image().Broker(1); ok || !closed(h.reg.Done()) || h.reg.Err() != nil {
			h.Errorf("after closing: %v, %v", ok, h.reg.Err())
		}
		if h.s.Image().Controller() != 2 {
			h.Error("the controller is gone with its broker")
		}
	})
}

// After kill -9 the same data directory registers at once, long before the lease ends.
func TestRegisterTakesOver(t *testing.T) {
	inBubble(t, func(h *harness) {
		again := h.open()
		start := time.Now()
		r, err := again.Register(h.Context(), Broker{ID: 1, Token: "data-1"}, 9*time.Second)
		h.must(err)
		defer r.Close(h.Context())
		if d := time.Since(start); d > time.Second {
			h.Errorf("took %s", d)
		}
		if r.Incarnation <= h.inc {
			h.Errorf("incarnation %d after %d", r.Incarnation, h.inc)
		}
		time.Sleep(time.Minute)
		if !closed(h.reg.Done()) || !errors.Is(h.reg.Err(), ErrFenced) {
			h.Errorf("the old registration: %v", h.reg.Err())
		}
		if _, err := h.s.CreateStream(h.Context(), 1, h.inc, ClassLocal); !errors.Is(err, ErrFenced) {
			h.Errorf("the old run opens a stream: %v", err)
		}
		if err := h.reg.Close(h.Context()); err != nil {
			h.Errorf("close: %v", err)
		}
		if b, ok := again.Image().Broker(1); !ok || b.Incarnation != r.Incarnation {
			h.Error("closing the old registration removed the new one")
		}
		topic := h.create2(again, r.Incarnation)
		if err := h.s.AcquirePartitions(h.Context(), 1, h.inc, []PartitionID{{topic.ID, 0}}); !errors.Is(err, ErrFenced) {
			h.Errorf("the old run acquires: %v", err)
		}
	})
}

func (h *harness) create2(s *Store, inc Incarnation) *Topic {
	h.Helper()
	t, err := s.CreateTopic(h.Context(), TopicSpec{Name: "orders", Partitions: 1, Owner: 1, Incarnation: inc})
	h.must(err)
	synctest.Wait()
	return t
}

// The lease is lost although the broker lives: it registers again under its incarnation and nothing else changes.
func TestLeaseLost(t *testing.T) {
	inBubble(t, func(h *harness) {
		st := h.stream()
		h.kv.ExpireAll()
		synctest.Wait()
		if _, ok := h.s.Image().Broker(1); ok {
			h.Error("the broker counts as live without a lease")
		}
		time.Sleep(10 * time.Second)
		b, ok := h.s.Image().Broker(1)
		if !ok || b.Incarnation != h.inc || b.Host != "one.test" || closed(h.reg.Done()) {
			h.Errorf("%v %+v", ok, b)
		}
		h.must(h.s.CommitObjects(h.Context(), st.ID, st.Revision, []PendingObject{object(st.ID, 1, 0, 1)}))
		h.must(h.reg.SetAddress(h.Context(), "new.test", 1))
		if b, _ := h.s.Image().Broker(1); b.Incarnation != h.inc || b.Host != "new.test" {
			h.Errorf("%+v", b)
		}
		// SetAddress right after the loss renews it too.
		h.kv.ExpireAll()
		h.must(h.reg.SetAddress(h.Context(), "newer.test", 1))
		if b, ok := h.s.Image().Broker(1); !ok || b.Host != "newer.test" {
			h.Errorf("%v %+v", ok, b)
		}
	})
}

// While the lease was lost another data directory took the id: the registration ends.
func TestLeaseLostAndTaken(t *testing.T) {
	inBubble(t, func(h *harness) {
		other := h.open()
		h.kv.ExpireAll()
		r := h.register(other, Broker{ID: 1, Host: "usurper.test", Token: "data-2"})
		time.Sleep(10 * time.Second)
		if !closed(h.reg.Done()) || !errors.Is(h.reg.Err(), ErrFenced) {
			h.Errorf("done %v, %v", closed(h.reg.Done()), h.reg.Err())
		}
		if b, _ := h.s.Image().Broker(1); b.Incarnation != r.Incarnation {
			h.Errorf("%+v", b)
		}
		if err := h.reg.SetAddress(h.Context(), "x", 1); !errors.Is(err, ErrFenced) {
			h.Errorf("set address: %v", err)
		}
	})
}

// etcd does not answer for longer than the lease lives, which ends meanwhile.
func TestEtcdAway(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.down()
		time.Sleep(time.Minute)
		if closed(h.reg.Done()) {
			h.Fatal("gave up while etcd was away")
		}
		h.kv.SetFaults(nil)
		time.Sleep(10 * time.Second)
		if b, ok := h.s.Image().Broker(1); !ok || b.Incarnation != h.inc || closed(h.reg.Done()) {
			h.Errorf("%v %+v", ok, b)
		}
	})
}

func TestRegisterUnknownOutcomes(t *testing.T) {
	for i, kind := range []memkv.OpKind{memkv.OpTxn, memkv.OpGrant, memkv.OpTxn, memkv.OpGrant} {
		token := []string{"", "data-2"}[i/2]
		for _, f := range []memkv.Fault{{Lost: true}, {Unknown: true}, {Late: time.Minute}} {
			inBubble(t, func(h *harness) {
				first := h.kv.Calls(kind)
				h.kv.SetFaults(func(c memkv.Call) memkv.Fault {
					if c.Kind == kind && c.N == first+1 {
						return f
					}
					return memkv.Fault{}
				})
				r := h.register(h.s, Broker{ID: 2, Token: token})
				time.Sleep(2 * time.Minute)
				b, ok := h.s.Image().Broker(2)
				if !ok || b.Incarnation != r.Incarnation || closed(r.Done()) {
					h.Errorf("%v %+v, incarnation %d after %s %+v", ok, b, r.Incarnation, kind, f)
				}
				if _, err := h.s.CreateStream(h.Context(), 2, r.Incarnation, ClassLocal); err != nil { // fenced by the incarnation
					h.Error(err)
				}
			})
		}
	}
	inBubble(t, func(h *harness) {
		h.down()
		if _, err := h.s.Register(h.Context(), Broker{ID: 2}, time.Second); !errors.Is(err, ErrUnavailable) {
			h.Errorf("etcd is away: %v", err)
		}
	})
}
