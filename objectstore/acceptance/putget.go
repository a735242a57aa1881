package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

const mib = 1 << 20

func (s *suite) putGet() {
	data := pattern(1, 10_000)
	s.mustPut("ab/cluster/1-2-x.seg", data)
	s.wantData("ab/cluster/1-2-x.seg", data)
	s.mustPut("top-level", []byte("x"))
	s.wantData("top-level", []byte("x"))
}

func (s *suite) emptyObject() {
	if err := s.put("e/empty", nil, objectstore.PutOptions{IfAbsent: true, Nonce: "n1"}); err != nil {
		s.Fatalf("Put of an empty object: %v", err)
	}
	info, err := s.store.Head(s.ctx, "e/empty")
	if err != nil || info.SizeBytes != 0 || info.Nonce != "n1" {
		s.Fatalf("Head = %+v, %v; want 0 bytes and nonce n1", info, err)
	}
	for _, offset := range []int64{0, 1, 1000} {
		if n, err := s.store.GetRange(s.ctx, "e/empty", make([]byte, 10), offset); n != 0 || err != io.EOF { //nolint:errorlint // the contract says: itself
			s.Fatalf("GetRange at %d = %d, %v; want 0, io.EOF", offset, n, err)
		}
	}
	s.wantErr("second put", s.put("e/empty", nil, objectstore.PutOptions{IfAbsent: true}), objectstore.ErrPreconditionFailed)
	if keys := s.list("", ""); len(keys) != 1 {
		s.Fatalf("List reports %q, want the empty object", keys)
	}
}

// bigObject is larger than the part size from which S3 clients like to use multipart uploads, which lose the condition.
func (s *suite) bigObject() {
	data := pattern(2, 20*mib+4321)
	opts := objectstore.PutOptions{IfAbsent: true, Nonce: "big-1"}
	if err := s.put("b/big", data, opts); err != nil {
		s.Fatalf("Put of %d bytes: %v", len(data), err)
	}
	s.wantData("b/big", data)
	s.wantErr("second put", s.put("b/big", pattern(3, len(data)), objectstore.PutOptions{IfAbsent: true}), objectstore.ErrPreconditionFailed)
	s.wantData("b/big", data)
	p := make([]byte, mib)
	offset := int64(len(data)) - mib - 7
	if n, err := s.store.GetRange(s.ctx, "b/big", p, offset); n != mib || err != nil || !bytes.Equal(p, data[offset:offset+mib]) {
		s.Fatalf("GetRange near the end = %d, %v, or wrong bytes", n, err)
	}
}

func (s *suite) getRange() {
	data := pattern(4, 1000)
	s.mustPut("r/object", data)
	for _, test := range []struct {
		offset  int64
		length  int
		wantN   int
		wantEOF bool
	}{
		{0, 1, 1, false}, {0, 999, 999, false}, {0, 1000, 1000, false}, {0, 1001, 1000, true}, {0, 5000, 1000, true},
		{1, 999, 999, false}, {1, 1000, 999, true}, {500, 100, 100, false}, {999, 1, 1, false}, {999, 2, 1, true},
		{1000, 1, 0, true}, {1001, 1, 0, true}, {1 << 40, 10, 0, true}, {0, 0, 0, false}, {1000, 0, 0, false},
	} {
		const guard = 0xA5
		buf := bytes.Repeat([]byte{guard}, test.length+1)
		n, err := s.store.GetRange(s.ctx, "r/object", buf[:test.length:test.length], test.offset)
		if n != test.wantN || (err == io.EOF) != test.wantEOF || (err != nil && err != io.EOF) { //nolint:errorlint // the contract says: itself
			s.Errorf("GetRange(%d bytes at %d) = %d, %v; want %d, EOF %v", test.length, test.offset, n, err, test.wantN, test.wantEOF)
			continue
		}
		if n > 0 && !bytes.Equal(buf[:n], data[test.offset:test.offset+int64(n)]) {
			s.Errorf("GetRange(%d bytes at %d): wrong bytes", test.length, test.offset)
		}
		if buf[test.length] != guard {
			s.Errorf("GetRange(%d bytes at %d) wrote past p", test.length, test.offset)
		}
	}
	_, err := s.store.GetRange(s.ctx, "r/object", make([]byte, 1), -1)
	s.wantErr("GetRange at a negative offset", err, objectstore.ErrRejected)
}

func (s *suite) notFound() {
	s.mustPut("n/other", []byte("x"))
	for _, key := range []string{"n/missing", "missing", "n/oth", "n/other2", "a/b/c/d"} {
		_, err := s.store.GetRange(s.ctx, key, make([]byte, 10), 0)
		s.wantErr("GetRange of "+key, err, objectstore.ErrNotFound)
		_, err = s.store.GetRange(s.ctx, key, make([]byte, 10), 1<<30)
		s.wantErr("GetRange far into "+key, err, objectstore.ErrNotFound)
		_, err = s.store.GetRange(s.ctx, key, nil, 0)
		s.wantErr("empty GetRange of "+key, err, objectstore.ErrNotFound)
		_, err = s.store.Head(s.ctx, key)
		s.wantErr("Head of "+key, err, objectstore.ErrNotFound)
	}
	_, err := s.store.Head(s.ctx, "n")
	s.wantErr("Head of a folder", err, objectstore.ErrNotFound)
	_, err = s.store.GetRange(s.ctx, "n", make([]byte, 10), 0)
	s.wantErr("GetRange of a folder", err, objectstore.ErrNotFound)
}

func (s *suite) overwrite() {
	for i, size := range []int{500, 2000, 0, 100} {
		data := pattern(uint64(10+i), size)
		nonce := fmt.Sprintf("v%d", i)
		if err := s.put("o/key", data, objectstore.PutOptions{Nonce: nonce}); err != nil {
			s.Fatalf("put %d: %v", i, err)
		}
		s.wantData("o/key", data)
		if info, err := s.store.Head(s.ctx, "o/key"); err != nil || info.Nonce != nonce {
			s.Fatalf("Head after put %d = %+v, %v; want nonce %s", i, info, err, nonce)
		}
	}
	s.mustPut("o/key", []byte("without a nonce"))
	if info, err := s.store.Head(s.ctx, "o/key"); err != nil || info.Nonce != "" {
		s.Fatalf("Head = %+v, %v; want no nonce: the put had none", info, err)
	}
}

func (s *suite) head() {
	nonce := strings.Repeat("N-_.9", 30)[:objectstore.MaxNonceBytes]
	data := pattern(20, 12345)
	if err := s.put("h/key", data, objectstore.PutOptions{Nonce: nonce, ContentType: "application/vnd.tidemark.test"}); err != nil {
		s.Fatalf("Put: %v", err)
	}
	info, err := s.store.Head(s.ctx, "h/key")
	if err != nil {
		s.Fatalf("Head: %v", err)
	}
	if info.Key != "h/key" || info.SizeBytes != int64(len(data)) || info.Nonce != nonce {
		s.Fatalf("Head = %+v, want h/key, %d bytes, nonce %s", info, len(data), nonce)
	}
	if age := time.Since(info.ModTime); age < -time.Hour || age > time.Hour {
		s.Fatalf("Head says that an object put just now is %v old", age)
	}
}

func (s *suite) putIfAbsent() {
	first, second := pattern(30, 3000), pattern(31, 3000)
	if err := s.put("c/key", first, objectstore.PutOptions{IfAbsent: true, Nonce: "first"}); err != nil {
		s.Fatalf("first put: %v", err)
	}
	for range 3 {
		err := s.put("c/key", second, objectstore.PutOptions{IfAbsent: true, Nonce: "second"})
		s.wantErr("put over an existing object", err, objectstore.ErrPreconditionFailed)
	}
	s.wantData("c/key", first)
	if info, err := s.store.Head(s.ctx, "c/key"); err != nil || info.Nonce != "first" {
		s.Fatalf("Head = %+v, %v; want the first put's nonce", info, err)
	}
	s.mustPut("c/key", second) // without the condition it is replaced
	s.wantData("c/key", second)
}

// putIfAbsentRace: of many racing conditional puts of one key exactly one wins, and the object is the winner's.
func (s *suite) putIfAbsentRace() {
	const rounds, racers = 5, 12
	for round := range rounds {
		key := fmt.Sprintf("race/%d", round)
		var start, done sync.WaitGroup
		start.Add(1)
		errs := make([]error, racers)
		for i := range racers {
			done.Go(func() {
				start.Wait()
				opts := objectstore.PutOptions{IfAbsent: true, Nonce: fmt.Sprintf("racer-%d-%d", round, i)}
				errs[i] = s.put(key, pattern(uint64(100+i), 20_000+i), opts)
			})
		}
		start.Done()
		done.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil {
				if winner >= 0 {
					s.Fatalf("round %d: both %d and %d won", round, winner, i)
				}
				winner = i
				continue
			}
			// Some servers answer 409 to a put that races another, which says nothing about who wins.
			if !errors.Is(err, objectstore.ErrPreconditionFailed) && errors.Is(err, objectstore.ErrOutcomeUnknown) {
				s.Fatalf("round %d: racer %d: %v", round, i, err)
			}
		}
		if winner < 0 {
			s.Fatalf("round %d: nobody won: %v", round, errs)
		}
		s.wantData(key, pattern(uint64(100+winner), 20_000+winner))
		info, err := s.store.Head(s.ctx, key)
		if want := fmt.Sprintf("racer-%d-%d", round, winner); err != nil || info.Nonce != want {
			s.Fatalf("round %d: Head = %+v, %v; want nonce %s", round, info, err, want)
		}
	}
}

func (s *suite) putIfAbsentAfterDelete() {
	for i := range 3 {
		nonce := fmt.Sprintf("life-%d", i)
		if err := s.put("d/again", pattern(uint64(i), 100), objectstore.PutOptions{IfAbsent: true, Nonce: nonce}); err != nil {
			s.Fatalf("put %d: %v", i, err)
		}
		if info, err := s.store.Head(s.ctx, "d/again"); err != nil || info.Nonce != nonce {
			s.Fatalf("Head %d = %+v, %v; want nonce %s", i, info, err, nonce)
		}
		if err := s.store.Delete(s.ctx, "d/again"); err != nil {
			s.Fatalf("delete %d: %v", i, err)
		}
	}
}

// putFromSection puts a part of something larger: a store must not look behind Body's Size.
func (s *suite) putFromSection() {
	whole := pattern(40, 100_000)
	body := io.NewSectionReader(bytes.NewReader(whole), 1234, 56_789)
	for range 2 { // a body can be put again
		if err := s.store.Put(s.ctx, "s/section", body, objectstore.PutOptions{}); err != nil {
			s.Fatalf("Put: %v", err)
		}
		s.wantData("s/section", whole[1234:1234+56_789])
	}
}

// putBodyFails: a body that ends early leaves no object behind.
func (s *suite) putBodyFails() {
	for _, opts := range []objectstore.PutOptions{{}, {IfAbsent: true, Nonce: "f"}} {
		for _, size := range []int64{1000, 3 * mib} {
			body := failingBody{data: pattern(50, int(size)/2), size: size}
			if err := s.store.Put(s.ctx, "f/object", body, opts); err == nil {
				s.Fatal("Put of a body that cannot be read succeeded")
			}
			_, err := s.store.Head(s.ctx, "f/object")
			s.wantErr("Head after the failed put", err, objectstore.ErrNotFound)
		}
	}
	if keys := s.list("", ""); len(keys) != 0 {
		s.Fatalf("failed puts left %q", keys)
	}
}

// putGivenUp: when a put has returned, the caller may reuse the bytes of the body, also if it was given up. So nobody reads
// it any more, and what is there is the whole object or none.
func (s *suite) putGivenUp() {
	data := pattern(60, 8*mib)
	for i := range 5 {
		key := fmt.Sprintf("g/%d", i)
		ctx, cancel := context.WithCancel(s.ctx)
		body := &watchedBody{Reader: bytes.NewReader(data), cancel: cancel}
		err := s.store.Put(ctx, key, body, objectstore.PutOptions{IfAbsent: true})
		body.over.Store(true)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			s.Fatalf("Put that was given up: %v", err)
		}
		_, headErr := s.store.Head(s.ctx, key)
		switch {
		case headErr == nil:
			if err != nil && !errors.Is(err, objectstore.ErrOutcomeUnknown) {
				s.Fatalf("Put that was given up took effect, and says: %v", err)
			}
			s.wantData(key, data)
		case !errors.Is(headErr, objectstore.ErrNotFound) || err == nil:
			s.Fatalf("Put = %v, and Head = %v", err, headErr)
		}
		if body.late.Load() {
			s.Fatal("the body was read after Put had returned")
		}
	}
}

// neverTorn reads an object while it is being overwritten: every read is of one whole version.
func (s *suite) neverTorn() {
	const versions, readers = 25, 3
	version := func(v int) []byte { return pattern(uint64(v), 50_000+(v%7)*10_000) }
	s.mustPut("t/object", version(0))
	var newest atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			p := make([]byte, 200_000)
			for {
				oldest := newest.Load()
				n, err := s.store.GetRange(s.ctx, "t/object", p, 0)
				if err != io.EOF { //nolint:errorlint // the contract says: itself
					s.Errorf("GetRange during overwrites = %d, %v; want io.EOF", n, err)
					return
				}
				whole := false
				for v := oldest; v <= newest.Load()+1 && !whole; v++ {
					whole = bytes.Equal(p[:n], version(int(v)))
				}
				if !whole {
					s.Errorf("a reader saw %d bytes that are no version from %d on", n, oldest)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for v := 1; v <= versions; v++ {
		if err := s.put("t/object", version(v), objectstore.PutOptions{}); err != nil {
			s.Errorf("put of version %d: %v", v, err)
			break
		}
		newest.Store(int64(v))
	}
	close(stop)
	wg.Wait()
}
