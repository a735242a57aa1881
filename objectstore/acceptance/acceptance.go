// Package acceptance is the suite that every object store and every decorator passes. It tests objectstore.Store's promises
// and nothing else, so that it also runs against a real S3 server.
package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// patience bounds each test, so that a store that hangs fails instead of stopping the run.
const patience = 2 * time.Minute

// Run tests the stores that open returns. Each test asks for a store of its own, which must be empty and is used by that
// test only; open removes what it holds with t.Cleanup where that matters. The tests run one after another.
func Run(t *testing.T, open func(t *testing.T) objectstore.Store) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"PutGet", (*suite).putGet},
		{"EmptyObject", (*suite).emptyObject},
		{"BigObject", (*suite).bigObject},
		{"GetRange", (*suite).getRange},
		{"AlignedRanges", (*suite).alignedRanges},
		{"PutStretches", (*suite).putStretches},
		{"NotFound", (*suite).notFound},
		{"Overwrite", (*suite).overwrite},
		{"Head", (*suite).head},
		{"PutIfAbsent", (*suite).putIfAbsent},
		{"PutIfAbsentRace", (*suite).putIfAbsentRace},
		{"PutIfAbsentAfterDelete", (*suite).putIfAbsentAfterDelete},
		{"PutFromSection", (*suite).putFromSection},
		{"PutBodyFails", (*suite).putBodyFails},
		{"PutGivenUp", (*suite).putGivenUp},
		{"NeverTorn", (*suite).neverTorn},
		{"Delete", (*suite).delete},
		{"DeleteMany", (*suite).deleteMany},
		{"ListEmpty", (*suite).listEmpty},
		{"ListOrder", (*suite).listOrder},
		{"ListPages", (*suite).listPages},
		{"ListCallback", (*suite).listCallback},
		{"Keys", (*suite).keys},
		{"Canceled", (*suite).canceled},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			test.run(&suite{T: t, ctx: ctx, store: open(t)})
		})
	}
}

// suite is one test's view: its store and shorthands.
type suite struct {
	*testing.T
	ctx   context.Context
	store objectstore.Store
}

func (s *suite) put(key string, data []byte, opts objectstore.PutOptions) error {
	return s.store.Put(s.ctx, key, bytes.NewReader(data), opts)
}

func (s *suite) mustPut(key string, data []byte) {
	s.Helper()
	if err := s.put(key, data, objectstore.PutOptions{}); err != nil {
		s.Fatalf("Put(%s): %v", key, err)
	}
}

func (s *suite) wantData(key string, want []byte) {
	s.Helper()
	got, err := objectstore.ReadAll(s.ctx, s.store, key, int64(len(want)))
	if err != nil {
		s.Fatalf("reading %s: %v", key, err)
	}
	if !bytes.Equal(got, want) {
		s.Fatalf("%s holds %d bytes that differ from the %d that were put", key, len(got), len(want))
	}
}

func (s *suite) wantErr(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%s: got error %v, want %v", what, err, want)
	}
	for _, other := range []error{objectstore.ErrNotFound, objectstore.ErrPreconditionFailed, objectstore.ErrThrottled,
		objectstore.ErrOutcomeUnknown, objectstore.ErrRejected} {
		if !errors.Is(want, other) && errors.Is(err, other) {
			s.Fatalf("%s: error %v is %v too", what, err, other)
		}
	}
}

// list returns the keys that List reports, and fails unless they are in order and within what was asked.
func (s *suite) list(prefix, after string) []string {
	s.Helper()
	var keys []string
	err := s.store.List(s.ctx, prefix, after, func(info objectstore.Info) error {
		keys = append(keys, info.Key)
		return nil
	})
	if err != nil {
		s.Fatalf("List(%q, %q): %v", prefix, after, err)
	}
	for i, key := range keys {
		if key <= after || (i > 0 && key <= keys[i-1]) || len(key) < len(prefix) || key[:len(prefix)] != prefix {
			s.Fatalf("List(%q, %q) reports %q after %q", prefix, after, key, keys[:i])
		}
	}
	return keys
}

// pattern returns n bytes that look random and depend on seed.
func pattern(seed uint64, n int) []byte {
	p := make([]byte, n)
	var key [32]byte
	copy(key[:], fmt.Sprintf("pattern %d", seed))
	if _, err := rand.NewChaCha8(key).Read(p); err != nil {
		panic(err) // documented to be always nil
	}
	return p
}

// failingBody is a body that cannot be read to its end.
type failingBody struct {
	data []byte
	size int64
}

var errBody = errors.New("body cannot be read")

func (b failingBody) Size() int64 { return b.size }

func (b failingBody) ReadAt(p []byte, offset int64) (int, error) {
	if offset >= int64(len(b.data)) {
		return 0, errBody
	}
	n := copy(p, b.data[offset:])
	if n < len(p) {
		return n, errBody
	}
	return n, nil
}

// watchedBody cancels a context when a half of it was read, and knows when it is read too late.
type watchedBody struct {
	*bytes.Reader
	cancel context.CancelFunc
	over   atomic.Bool // the put has returned
	late   atomic.Bool // and the body was read afterwards
}

func (b *watchedBody) ReadAt(p []byte, offset int64) (int, error) {
	if b.over.Load() {
		b.late.Store(true)
	}
	if offset+int64(len(p)) > b.Size()/2 {
		b.cancel()
		runtime.Gosched() // give the store a chance to return too early
	}
	return b.Reader.ReadAt(p, offset)
}
