package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/acceptance"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
	"github.com/tidemarkmq/tidemark/objectstore/retry"
)

var (
	ifAbsent = objectstore.PutOptions{IfAbsent: true, Nonce: "mine"}
	forever  = faulty.Forever
	// quick is for tests in real time.
	quick = retry.Options{MinBackoff: time.Microsecond, MaxBackoff: time.Millisecond, MaxAttempts: 50, Budget: 1 << 30}
)

func newStore(t *testing.T, inner objectstore.Store, opts retry.Options) objectstore.Store {
	t.Helper()
	s, err := retry.New(inner, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bed is a memory store behind a script of faults behind retries.
func bed(t *testing.T, opts retry.Options, rules ...faulty.Rule) (objectstore.Store, *faulty.Store) {
	t.Helper()
	f := faulty.New(memory.New(), rules...)
	return newStore(t, f, opts), f
}

func put(ctx context.Context, s objectstore.Store, key, content string, opts objectstore.PutOptions) error {
	return s.Put(ctx, key, strings.NewReader(content), opts)
}

func wantContent(t *testing.T, s objectstore.Store, key, want string) {
	t.Helper()
	if got, err := objectstore.ReadAll(t.Context(), s, key, 1<<20); err != nil || string(got) != want {
		t.Fatalf("%s holds %q, %v; want %q", key, got, err, want)
	}
}

func TestAcceptance(t *testing.T) {
	t.Run("Reliable", func(t *testing.T) {
		acceptance.Run(t, func(t *testing.T) objectstore.Store { return newStore(t, memory.New(), quick) })
	})
	// Every second call fails, in turn in each way: the suite does not notice.
	t.Run("Unreliable", func(t *testing.T) {
		acceptance.Run(t, func(t *testing.T) objectstore.Store {
			faults := []faulty.Fault{faulty.Throttled, faulty.AppliedLost, faulty.Torn, faulty.Failed, faulty.Lost}
			s := &alternating{Store: memory.New(), faults: faults, calls: map[string]int{}}
			return newStore(t, s, quick)
		})
	})
}

// alternating fails every second call of a kind with a key, going through faults.
type alternating struct {
	*memory.Store
	faults []faulty.Fault
	mu     sync.Mutex
	calls  map[string]int
	failed int
}

func (a *alternating) next(op, key string) objectstore.Store {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls[op+key]++
	if a.calls[op+key]%2 == 0 {
		return a.Store
	}
	a.failed++
	return faulty.New(a.Store, faulty.Rule{Fault: a.faults[a.failed%len(a.faults)]})
}

func (a *alternating) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	return a.next("Put", key).Put(ctx, key, body, opts)
}

func (a *alternating) GetRange(ctx context.Context, key string, p []byte, offset int64) (int, error) {
	return a.next("GetRange", key).GetRange(ctx, key, p, offset)
}

func (a *alternating) Head(ctx context.Context, key string) (objectstore.Info, error) {
	return a.next("Head", key).Head(ctx, key)
}

func (a *alternating) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	return a.next("List", prefix).List(ctx, prefix, after, fn)
}

func (a *alternating) Delete(ctx context.Context, keys ...string) error {
	return a.next("Delete", strings.Join(keys, " ")).Delete(ctx, keys...)
}

// TestOwnObjectIsSuccess: a put whose answer was lost has taken effect. Its retry gets 412 for one's own object, which must
// not be taken for somebody else's.
func TestOwnObjectIsSuccess(t *testing.T) {
	for name, rules := range map[string][]faulty.Rule{
		"Head says so at once":        {{Op: faulty.Put, Fault: faulty.AppliedLost}},
		"Head fails, then 412":        {{Op: faulty.Put, Fault: faulty.AppliedLost}, {Op: faulty.Head, Fault: faulty.Failed, Count: 8}},
		"Head fails often, then 412":  {{Op: faulty.Put, Fault: faulty.AppliedLost}, {Op: faulty.Head, Fault: faulty.Throttled, Count: 12}},
		"twice lost":                  {{Op: faulty.Put, Fault: faulty.AppliedLost, Count: 2}, {Op: faulty.Head, Fault: faulty.Failed, Count: 8}},
		"lost, then throttled":        {{Op: faulty.Put, Fault: faulty.AppliedLost}, {Op: faulty.Put, Nth: 2, Fault: faulty.Throttled}},
		"never arrived":               {{Op: faulty.Put, Fault: faulty.Lost, Count: 3}},
		"412 without a known failure": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, f := bed(t, retry.Options{}, rules...)
				if rules == nil { // a proxy between has repeated the request
					if err := put(t.Context(), f, "k", "content", ifAbsent); err != nil {
						t.Fatal(err)
					}
				}
				if err := put(t.Context(), s, "k", "content", ifAbsent); err != nil {
					t.Fatalf("Put: %v", err)
				}
				wantContent(t, s, "k", "content")
			})
		})
	}
}

// TestDelayedPut: a put of unknown outcome that takes effect only after its retry was sent.
func TestDelayedPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := bed(t, retry.Options{}, faulty.Rule{Op: faulty.Put, Fault: faulty.Delayed})
		if err := put(t.Context(), s, "k", "content", ifAbsent); err != nil {
			t.Fatalf("Put: %v", err)
		}
		if n := f.Settle(t.Context()); n != 1 {
			t.Fatalf("%d delayed puts, want 1", n)
		}
		wantContent(t, s, "k", "content")
	})
}

// TestForeignObjectIsRefused: what somebody else has put is never taken for one's own, whatever was lost.
func TestForeignObjectIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		rules []faulty.Rule
		other objectstore.PutOptions
		size  int
	}{
		"412 at once":             {nil, objectstore.PutOptions{Nonce: "theirs"}, 7},
		"412 after lost":          {[]faulty.Rule{{Op: faulty.Put, Fault: faulty.Lost}}, objectstore.PutOptions{Nonce: "theirs"}, 7},
		"without a nonce":         {[]faulty.Rule{{Op: faulty.Put, Fault: faulty.Lost}}, objectstore.PutOptions{}, 7},
		"same nonce, other bytes": {nil, objectstore.PutOptions{Nonce: "mine"}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := memory.New()
				theirs := strings.Repeat("t", test.size)
				if err := put(t.Context(), inner, "k", theirs, test.other); err != nil {
					t.Fatal(err)
				}
				s := newStore(t, faulty.New(inner, test.rules...), retry.Options{})
				err := put(t.Context(), s, "k", "content", ifAbsent)
				if !errors.Is(err, objectstore.ErrPreconditionFailed) || errors.Is(err, objectstore.ErrOutcomeUnknown) {
					t.Fatalf("Put: %v, want ErrPreconditionFailed and nothing unknown", err)
				}
				wantContent(t, s, "k", theirs)
			})
		})
	}
}

// TestUnknownStaysUnknown: one attempt of unknown outcome makes the whole put's unknown, if the later ones fail.
func TestUnknownStaysUnknown(t *testing.T) {
	lost := faulty.Rule{Op: faulty.Put, Fault: faulty.AppliedLost}
	noHead := faulty.Rule{Op: faulty.Head, Fault: faulty.Failed, Count: forever}
	for name, test := range map[string]struct {
		rules []faulty.Rule
		opts  objectstore.PutOptions
		also  error
	}{
		"then throttled for ever": {[]faulty.Rule{lost, noHead, {Op: faulty.Put, Fault: faulty.Throttled, Count: forever}}, ifAbsent, objectstore.ErrThrottled},
		"then rejected": {[]faulty.Rule{lost, noHead, {Op: faulty.Put, Nth: 2, Fault: faulty.Failed, Err: objectstore.ErrRejected}},
			ifAbsent, objectstore.ErrRejected},
		"then 412, and no Head":    {[]faulty.Rule{lost, noHead}, ifAbsent, objectstore.ErrPreconditionFailed},
		"then 412, and no nonce":   {[]faulty.Rule{lost}, objectstore.PutOptions{IfAbsent: true}, objectstore.ErrPreconditionFailed},
		"unconditional, then fail": {[]faulty.Rule{lost, {Op: faulty.Put, Fault: faulty.Failed, Count: forever}}, objectstore.PutOptions{}, faulty.ErrInjected},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := bed(t, retry.Options{}, test.rules...)
				err := put(t.Context(), s, "k", "content", test.opts)
				if !errors.Is(err, objectstore.ErrOutcomeUnknown) || !errors.Is(err, test.also) {
					t.Fatalf("Put: %v, want ErrOutcomeUnknown and %v", err, test.also)
				}
			})
		})
	}
}

// TestGivenUp: a put that the caller gives up after it was sent is both canceled and of unknown outcome; one that was never
// sent is canceled only.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := bed(t, retry.Options{}, faulty.Rule{Op: faulty.Put, Fault: faulty.Hang})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := put(ctx, s, "k", "content", ifAbsent)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, objectstore.ErrOutcomeUnknown) {
			t.Fatalf("Put that hung: %v", err)
		}
		f.Script(faulty.Rule{Op: faulty.Put, Fault: faulty.Throttled, Count: forever})
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = put(ctx, s, "k", "content", ifAbsent)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, objectstore.ErrThrottled) || errors.Is(err, objectstore.ErrOutcomeUnknown) {
			t.Fatalf("Put that was throttled: %v", err)
		}
	})
}

// TestAttemptTimeout: an attempt that hangs is ended, and the next one tried. That the time of an attempt is up is not that
// of the caller.
func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := bed(t, retry.Options{AttemptTimeout: 10 * time.Second, SlowestBytesPerSecond: 1 << 20},
			faulty.Rule{Op: faulty.Put, Fault: faulty.Hang}, faulty.Rule{Op: faulty.Get, Fault: faulty.Hang},
			faulty.Rule{Op: faulty.List, Fault: faulty.Hang}, faulty.Rule{Op: faulty.Delete, Fault: faulty.Hang})
		start := time.Now()
		if err := s.Put(t.Context(), "k", bytes.NewReader(make([]byte, 5<<20)), ifAbsent); err != nil {
			t.Fatalf("Put: %v", err)
		}
		if took := time.Since(start); took < 15*time.Second || took > 16*time.Second {
			t.Fatalf("Put of 5 MiB took %v: want 10 s, 1 s for each MiB, and the backoff", took)
		}
		if n, err := s.GetRange(t.Context(), "k", make([]byte, 10), 0); n != 10 || err != nil {
			t.Fatalf("GetRange = %d, %v", n, err)
		}
		if err := s.List(t.Context(), "", "", func(objectstore.Info) error { return nil }); err != nil {
			t.Fatalf("List: %v", err)
		}
		if err := s.Delete(t.Context(), "k"); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		f.Script(faulty.Rule{Fault: faulty.Hang, Count: forever})
		_, err := s.Head(t.Context(), "k")
		if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Fatalf("Head of a store that hangs: %v, want an error that is not the caller's ctx's", err)
		}
		err = put(t.Context(), s, "k", "x", ifAbsent)
		if !errors.Is(err, objectstore.ErrOutcomeUnknown) || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Put into a store that hangs: %v", err)
		}
	})
}

// TestListGoesOn: a list that fails half way continues where it was, however often, and fn sees each object once.
func TestListGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := bed(t, retry.Options{MaxAttempts: 2})
		const objects = 3000
		for i := range objects {
			if err := put(t.Context(), f, fmt.Sprintf("k/%05d", i), "", objectstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		f.Script(faulty.Rule{Op: faulty.List, Fault: faulty.Torn, Count: 5})
		seen := 0
		err := s.List(t.Context(), "k/", "", func(info objectstore.Info) error {
			if want := fmt.Sprintf("k/%05d", seen); info.Key != want {
				return fmt.Errorf("got %s, want %s", info.Key, want)
			}
			seen++
			time.Sleep(time.Minute) // a slow fn is not a slow store
			return nil
		})
		if err != nil || seen != objects {
			t.Fatalf("List = %v after %d objects", err, seen)
		}
	})
}

func TestListStops(t *testing.T) {
	s, f := bed(t, retry.Options{})
	if err := put(t.Context(), s, "k", "", objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	stop := fmt.Errorf("mine, and not the store's: %w", objectstore.ErrThrottled)
	if err := s.List(t.Context(), "", "", func(objectstore.Info) error { return stop }); err != stop {
		t.Fatalf("List = %v, want fn's own error", err)
	}
	if n := f.Count(faulty.List); n != 1 {
		t.Fatalf("List was tried %d times for an error of fn", n)
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	for _, test := range []struct {
		err      error
		attempts int
	}{
		{objectstore.ErrNotFound, 1}, {objectstore.ErrRejected, 1}, {objectstore.ErrPreconditionFailed, 1},
		{objectstore.ErrThrottled, 4}, {objectstore.ErrOutcomeUnknown, 4}, {errors.New("connection reset"), 4},
		{fmt.Errorf("wrapped: %w", io.ErrUnexpectedEOF), 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, f := bed(t, retry.Options{MaxAttempts: 4}, faulty.Rule{Fault: faulty.Failed, Err: test.err, Count: forever})
			if _, err := s.GetRange(t.Context(), "k", make([]byte, 1), 0); !errors.Is(err, test.err) {
				t.Errorf("GetRange = %v, want %v", err, test.err)
			}
			if got := f.Count(faulty.Get); got != test.attempts {
				t.Errorf("%v: %d attempts, want %d", test.err, got, test.attempts)
			}
		})
	}
}

// TestBackoff: the pauses double from the minimum to the maximum, and are longer where the store throttles.
func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		fault faulty.Fault
		want  time.Duration
	}{
		{faulty.Failed, (10 + 20 + 40 + 80 + 100 + 100) * time.Millisecond},
		{faulty.Throttled, (40 + 80 + 100 + 100 + 100 + 100) * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, _ := bed(t, retry.Options{MaxAttempts: 7, MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
				Jitter: func() float64 { return 1 }}, faulty.Rule{Fault: test.fault, Count: forever})
			start := time.Now()
			if _, err := s.Head(t.Context(), "k"); err == nil {
				t.Fatal("Head succeeded")
			}
			if took := time.Since(start); took != test.want {
				t.Errorf("fault %d: the pauses take %v, want %v", test.fault, took, test.want)
			}
		})
	}
}

// TestBudget: in an outage the retries run dry, so that a store under load sees hardly more than one request a call; when it
// is back, they return.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := bed(t, retry.Options{Budget: 20, BudgetPerSecond: 0.5}, faulty.Rule{Fault: faulty.Throttled, Count: forever})
		const calls = 400
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() {
				if _, err := s.Head(t.Context(), "k"); !errors.Is(err, objectstore.ErrThrottled) {
					t.Errorf("Head = %v", err)
				}
			})
		}
		wg.Wait()
		if got := f.Count(faulty.Head); got < calls+20 || got > calls+40 {
			t.Fatalf("%d calls made %d requests; want 20 more, and what some seconds give back", calls, got)
		}
		time.Sleep(10 * time.Second)
		before := f.Count(faulty.Any)
		f.Script(faulty.Rule{Fault: faulty.Throttled, Count: 3})
		if err := put(t.Context(), s, "k", "x", ifAbsent); err != nil {
			t.Fatalf("Put after a rest: %v", err)
		}
		if got := f.Count(faulty.Any) - before; got != 4 {
			t.Fatalf("after a rest the put needed %d requests, want 4", got)
		}
	})
}
