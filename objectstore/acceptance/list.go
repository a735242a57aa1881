package acceptance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tidemarkmq/tidemark/objectstore"
)

func (s *suite) delete() {
	if err := s.store.Delete(s.ctx); err != nil {
		s.Fatalf("Delete of nothing: %v", err)
	}
	if err := s.store.Delete(s.ctx, "never/there"); err != nil {
		s.Fatalf("Delete of a missing key: %v", err)
	}
	if err := s.store.Delete(s.ctx, "never/there", "nor/this"); err != nil {
		s.Fatalf("Delete of two missing keys: %v", err)
	}
	s.mustPut("a/b/1", []byte("1"))
	s.mustPut("a/b/2", []byte("2"))
	for range 2 { // the second time it is gone already
		if err := s.store.Delete(s.ctx, "a/b/1"); err != nil {
			s.Fatalf("Delete: %v", err)
		}
		_, err := s.store.Head(s.ctx, "a/b/1")
		s.wantErr("Head of a deleted object", err, objectstore.ErrNotFound)
		_, err = s.store.GetRange(s.ctx, "a/b/1", make([]byte, 1), 0)
		s.wantErr("GetRange of a deleted object", err, objectstore.ErrNotFound)
	}
	if err := s.store.Delete(s.ctx, "a/b"); err != nil {
		s.Fatalf("Delete of a folder's name: %v", err)
	}
	s.wantData("a/b/2", []byte("2"))
	if err := s.store.Delete(s.ctx, "a/b/2"); err != nil {
		s.Fatalf("Delete: %v", err)
	}
	s.mustPut("a", []byte("what was a folder may be an object now"))
	if keys := s.list("", ""); !slices.Equal(keys, []string{"a"}) {
		s.Fatalf("List reports %q, want a", keys)
	}
}

// putMany puts small objects with some concurrency.
func (s *suite) putMany(keys []string) {
	s.Helper()
	work := make(chan string)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range 16 {
		wg.Go(func() {
			for key := range work {
				if err := s.put(key, []byte(key), objectstore.PutOptions{}); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for _, key := range keys {
		work <- key
	}
	close(work)
	wg.Wait()
	if failed != nil {
		s.Fatalf("Put: %v", failed)
	}
}

// manyKeys are more than one page of S3 (1,000 keys) in several folders, in no order.
func manyKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[(i*7)%n] = fmt.Sprintf("%02x/many/%05d", i%5, i)
	}
	return keys
}

func (s *suite) deleteMany() {
	keys := manyKeys(1103)
	s.putMany(keys)
	s.mustPut("zz/survivor", []byte("x"))
	if err := s.store.Delete(s.ctx, append(slices.Clone(keys), "no/such/key")...); err != nil {
		s.Fatalf("Delete of %d objects: %v", len(keys), err)
	}
	if left := s.list("", ""); !slices.Equal(left, []string{"zz/survivor"}) {
		s.Fatalf("after the delete there are %d objects, want the survivor only", len(left))
	}
}

func (s *suite) listEmpty() {
	for _, prefix := range []string{"", "p", "p/", "p/q"} {
		if keys := s.list(prefix, ""); len(keys) != 0 {
			s.Fatalf("List(%q) of an empty store reports %q", prefix, keys)
		}
	}
}

// listOrder uses keys whose byte order differs from the order of a walk through folders: '-' and '.' are less than '/', and
// capitals are less than lower case.
func (s *suite) listOrder() {
	keys := []string{
		"A/1", "a-/1", "a-b", "a.b/1", "a/1", "a/1-0", "a/1.x/y", "a/10/x", "a/2", "a/B", "a/b/c", "a/b-c", "a0", "aa/0", "b", "z/z/z/z/z/z",
	}
	s.putMany(keys)
	slices.Sort(keys)
	prefixes := []string{"", "a", "a-", "a/", "a/1", "a/1-", "a/b", "a/b/", "aa", "z/z/z", "zz", "b", "b/", "A/1", "a/10/xyz"}
	afters := append([]string{"", "Z", "a", "a/", "a/1", "a/10", "a/99", "a/b", "a/b/", "zzz", "a-", "a.", "z/z/z/z/z/z"}, keys...)
	for _, prefix := range prefixes {
		for _, after := range afters {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			if got := s.list(prefix, after); !slices.Equal(got, want) {
				s.Errorf("List(%q, %q) = %q, want %q", prefix, after, got, want)
			}
		}
	}
}

func (s *suite) listPages() {
	keys := manyKeys(1303)
	s.putMany(keys)
	slices.Sort(keys)
	var got []string
	err := s.store.List(s.ctx, "", "", func(info objectstore.Info) error {
		if info.SizeBytes != int64(len(info.Key)) || info.ModTime.IsZero() {
			return fmt.Errorf("object %s: size %d, time %v", info.Key, info.SizeBytes, info.ModTime)
		}
		got = append(got, info.Key)
		return nil
	})
	if err != nil || !slices.Equal(got, keys) {
		s.Fatalf("List reports %d keys, error %v; want the %d that were put", len(got), err, len(keys))
	}
	if got := s.list("", keys[1100]); !slices.Equal(got, keys[1101:]) {
		s.Fatalf("List after the key 1100 reports %d keys, want %d", len(got), len(keys)-1101)
	}
	if got := s.list("02/many/", ""); len(got) != 261 {
		s.Fatalf("List of one folder reports %d keys, want 261", len(got))
	}
}

func (s *suite) listCallback() {
	s.putMany([]string{"l/1", "l/2", "l/3", "l/4"})
	stop := errors.New("that is enough")
	calls := 0
	err := s.store.List(s.ctx, "l/", "", func(objectstore.Info) error {
		if calls++; calls == 2 {
			return stop
		}
		return nil
	})
	if err != stop || calls != 2 { //nolint:errorlint // the contract says: as it is
		s.Fatalf("List = %v after %d calls; want the callback's own error after 2", err, calls)
	}
	// The callback may use the store, also on what is being listed.
	err = s.store.List(s.ctx, "l/", "", func(info objectstore.Info) error { return s.store.Delete(s.ctx, info.Key) })
	if err != nil {
		s.Fatalf("List that deletes: %v", err)
	}
	if keys := s.list("l/", ""); len(keys) != 0 {
		s.Fatalf("List reports %q after all were deleted", keys)
	}
}

func (s *suite) keys() {
	long := strings.Repeat("abcdefgh/", 100)[:objectstore.MaxKeyBytes-4] + "-end"
	longPart := "p/" + strings.Repeat("x", objectstore.MaxPartBytes)
	for _, key := range []string{"x", "UPPER/lower", "a.b..c", "-=+,@~!()'_.", "0/1/2/3/4/5/6/7/8/9", long, longPart} {
		s.mustPut(key, []byte("content of "+key))
		s.wantData(key, []byte("content of "+key))
		if keys := s.list(key, ""); !slices.Equal(keys, []string{key}) {
			s.Fatalf("List(%q) = %q", key, keys)
		}
	}
	for _, key := range []string{"", "/", "/abs", "dir/", "a//b", ".", "..", "../up", "a/../../b", "a/./b", ".hidden/x", "a/.x", "sp ace", "nul\x00",
		"back\\slash", "ümlaut", "per%cent", "que?ry", strings.Repeat("k/", 512) + "k", strings.Repeat("k", 256)} {
		s.wantErr(fmt.Sprintf("Put(%q)", key), s.put(key, []byte("x"), objectstore.PutOptions{}), objectstore.ErrRejected)
		_, err := s.store.GetRange(s.ctx, key, make([]byte, 1), 0)
		s.wantErr(fmt.Sprintf("GetRange(%q)", key), err, objectstore.ErrRejected)
		_, err = s.store.Head(s.ctx, key)
		s.wantErr(fmt.Sprintf("Head(%q)", key), err, objectstore.ErrRejected)
		s.wantErr(fmt.Sprintf("Delete(%q)", key), s.store.Delete(s.ctx, "x", key), objectstore.ErrRejected)
	}
	s.wantData("x", []byte("content of x")) // a delete that is refused deletes nothing
	for _, prefix := range []string{"/", "../", "a/../", "a//", "."} {
		err := s.store.List(s.ctx, prefix, "", func(objectstore.Info) error { return nil })
		s.wantErr(fmt.Sprintf("List(%q)", prefix), err, objectstore.ErrRejected)
	}
	s.wantErr("Put with a bad nonce", s.put("x", nil, objectstore.PutOptions{Nonce: "a\r\nb"}), objectstore.ErrRejected)
}

func (s *suite) canceled() {
	s.mustPut("k/1", []byte("1"))
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.store.GetRange(ctx, "k/1", make([]byte, 1), 0)
	s.wantErr("GetRange", err, context.Canceled)
	_, err = s.store.Head(ctx, "k/1")
	s.wantErr("Head", err, context.Canceled)
	s.wantErr("List", s.store.List(ctx, "", "", func(objectstore.Info) error { return nil }), context.Canceled)
	// What is done before it was sent has a known outcome: none.
	s.wantErr("Put", s.store.Put(ctx, "k/2", strings.NewReader("2"), objectstore.PutOptions{IfAbsent: true, Nonce: "n"}), context.Canceled)
	s.wantErr("Delete", s.store.Delete(ctx, "k/1"), context.Canceled)
	if keys := s.list("", ""); !slices.Equal(keys, []string{"k/1"}) {
		s.Fatalf("canceled calls had effects: %q", keys)
	}
}
