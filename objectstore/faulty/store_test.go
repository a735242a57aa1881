package faulty_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/acceptance"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
)

func TestAcceptance(t *testing.T) {
	acceptance.Run(t, func(*testing.T) objectstore.Store { return faulty.New(memory.New()) })
}

func put(t *testing.T, s objectstore.Store, key string) error {
	return s.Put(t.Context(), key, strings.NewReader("content"), objectstore.PutOptions{IfAbsent: true})
}

func exists(t *testing.T, s objectstore.Store, key string) bool {
	_, err := s.Head(t.Context(), key)
	if err != nil && !errors.Is(err, objectstore.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestPutFaults(t *testing.T) {
	mine := errors.New("mine")
	for _, test := range []struct {
		rule    faulty.Rule
		err     error
		applied bool
	}{
		{faulty.Rule{Fault: faulty.None}, nil, true},
		{faulty.Rule{Fault: faulty.Throttled}, objectstore.ErrThrottled, false},
		{faulty.Rule{Fault: faulty.Failed}, faulty.ErrInjected, false},
		{faulty.Rule{Fault: faulty.Failed, Err: mine}, mine, false},
		{faulty.Rule{Fault: faulty.Lost}, objectstore.ErrOutcomeUnknown, false},
		{faulty.Rule{Fault: faulty.AppliedLost}, objectstore.ErrOutcomeUnknown, true},
		{faulty.Rule{Fault: faulty.Torn}, objectstore.ErrOutcomeUnknown, false},
	} {
		inner := memory.New()
		s := faulty.New(inner, test.rule)
		if err := put(t, s, "k"); !errors.Is(err, test.err) {
			t.Errorf("fault %d: Put = %v, want %v", test.rule.Fault, err, test.err)
		}
		if got := exists(t, inner, "k"); got != test.applied {
			t.Errorf("fault %d: the object exists %v, want %v", test.rule.Fault, got, test.applied)
		}
	}
}

func TestGetFaults(t *testing.T) {
	inner := memory.New()
	if err := put(t, inner, "k"); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 7)
	s := faulty.New(inner, faulty.Rule{Op: faulty.Get, Fault: faulty.Torn})
	if n, err := s.GetRange(t.Context(), "k", p, 0); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Errorf("torn GetRange = %d, %v", n, err)
	}
	if n, err := s.GetRange(t.Context(), "k", p, 0); n != 7 || err != nil || string(p) != "content" {
		t.Errorf("GetRange after the fault = %d, %v, %q", n, err, p)
	}
	s.Script(faulty.Rule{Fault: faulty.Corrupt})
	if n, err := s.GetRange(t.Context(), "k", p, 0); n != 7 || err != nil || string(p) == "content" {
		t.Errorf("corrupt GetRange = %d, %v, %q", n, err, p)
	}
}

func TestDelayed(t *testing.T) {
	inner := memory.New()
	s := faulty.New(inner, faulty.Rule{Op: faulty.Put, Fault: faulty.Delayed}, faulty.Rule{Op: faulty.Delete, Fault: faulty.Delayed})
	data := []byte("content")
	if err := s.Put(t.Context(), "k", bytes.NewReader(data), objectstore.PutOptions{}); !errors.Is(err, objectstore.ErrOutcomeUnknown) {
		t.Fatalf("Put = %v", err)
	}
	data[0] = 'X' // the put has returned: the caller may reuse the bytes
	if exists(t, inner, "k") {
		t.Fatal("a delayed put took effect at once")
	}
	if n := s.Settle(t.Context()); n != 1 {
		t.Fatalf("Settle = %d", n)
	}
	if got, err := objectstore.ReadAll(t.Context(), inner, "k", 100); err != nil || string(got) != "content" {
		t.Fatalf("the delayed put left %q, %v", got, err)
	}
	if err := s.Delete(t.Context(), "k"); !errors.Is(err, objectstore.ErrOutcomeUnknown) || !exists(t, inner, "k") {
		t.Fatalf("delayed Delete = %v", err)
	}
	if s.Settle(t.Context()); exists(t, inner, "k") {
		t.Fatal("the delayed delete never took effect")
	}
}

func TestSlowAndHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New()
		s := faulty.New(inner, faulty.Rule{Op: faulty.Put, Fault: faulty.Slow, Delay: time.Minute}, faulty.Rule{Op: faulty.Delete, Fault: faulty.Hang},
			faulty.Rule{Op: faulty.Get, Fault: faulty.Hang})
		start := time.Now()
		if err := put(t, s, "k"); err != nil || time.Since(start) != time.Minute {
			t.Fatalf("slow Put = %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := s.Delete(ctx, "k")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, objectstore.ErrOutcomeUnknown) || !exists(t, inner, "k") {
			t.Fatalf("hanging Delete = %v", err)
		}
		if _, err := s.GetRange(ctx, "k", nil, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("hanging GetRange = %v", err)
		}
	})
}

func TestTornListAndDelete(t *testing.T) {
	s := faulty.New(memory.New())
	var keys []string
	for i := range 10 {
		keys = append(keys, fmt.Sprintf("k/%d", i))
		if err := put(t, s, keys[i]); err != nil {
			t.Fatal(err)
		}
	}
	s.Script(faulty.Rule{Op: faulty.List, Fault: faulty.Torn}, faulty.Rule{Op: faulty.Delete, Fault: faulty.Torn})
	list := func() (got []string, err error) {
		err = s.List(t.Context(), "k/", "", func(info objectstore.Info) error {
			got = append(got, info.Key)
			return nil
		})
		return got, err
	}
	if got, err := list(); !errors.Is(err, faulty.ErrInjected) || !slices.Equal(got, keys[:5]) {
		t.Fatalf("torn List = %q, %v", got, err)
	}
	if err := s.Delete(t.Context(), keys...); !errors.Is(err, objectstore.ErrOutcomeUnknown) {
		t.Fatalf("torn Delete = %v", err)
	}
	if got, err := list(); err != nil || !slices.Equal(got, keys[5:]) {
		t.Fatalf("List after the torn delete = %q, %v", got, err)
	}
}

func TestScript(t *testing.T) {
	inner := memory.New()
	s := faulty.New(inner,
		faulty.Rule{Op: faulty.Put, Key: "safe/*", Fault: faulty.None, Count: faulty.Forever},
		faulty.Rule{Op: faulty.Put, Key: "a/*/x*", Nth: 2, Count: 2, Fault: faulty.Throttled},
		faulty.Rule{Op: faulty.Put, Nth: 6, Count: faulty.Forever, Fault: faulty.Failed},
	)
	want := []struct {
		key string
		err error
	}{
		{"a/1/x1", nil}, {"a/1/y", nil}, {"a/2/x/deep/er", objectstore.ErrThrottled}, {"a/3/x", objectstore.ErrThrottled}, {"a/4/x", nil},
		{"b", faulty.ErrInjected}, {"safe/even/now", nil}, {"c", faulty.ErrInjected},
	}
	for i, test := range want {
		if err := put(t, s, test.key); !errors.Is(err, test.err) {
			t.Errorf("put %d of %s = %v, want %v", i, test.key, err, test.err)
		}
	}
	if got := s.Count(faulty.Put); got != len(want) || s.Count(faulty.Get) != 0 || s.Count(faulty.Any) != got {
		t.Errorf("counted %d puts, want %d", got, len(want))
	}
	if call := s.Calls()[2]; call != (faulty.Call{Op: faulty.Put, Key: "a/2/x/deep/er", Keys: 1, Fault: faulty.Throttled}) {
		t.Errorf("call 2 = %+v", call)
	}
}
