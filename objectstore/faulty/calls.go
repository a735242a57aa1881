package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// Put is objectstore.Store's.
func (s *Store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	r := s.next(Put, key)
	if goOn, err := r.before(ctx, Put, key); !goOn {
		return err
	}
	switch r.Fault {
	case AppliedLost:
		_ = s.inner.Put(ctx, key, body, opts) // the answer is what is lost
		return unknown(Put, key)
	case Delayed:
		kept, err := snapshot(body)
		if err != nil {
			return err
		}
		s.delay(func(ctx context.Context) error { return s.inner.Put(ctx, key, kept, opts) })
		return unknown(Put, key)
	case Torn:
		return unknown(Put, key)
	}
	return s.inner.Put(ctx, key, body, opts)
}

// GetRange is objectstore.Store's.
func (s *Store) GetRange(ctx context.Context, key string, p []byte, offset int64) (int, error) {
	r := s.next(Get, key)
	if goOn, err := r.before(ctx, Get, key); !goOn {
		return 0, err
	}
	switch r.Fault {
	case Torn:
		if _, err := s.inner.GetRange(ctx, key, p[:len(p)/2], offset); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		return 0, fmt.Errorf("get %s: injected: %w", key, io.ErrUnexpectedEOF)
	case Corrupt:
		n, err := s.inner.GetRange(ctx, key, p, offset)
		if n > 0 {
			p[n/2] ^= 0x10
		}
		return n, err
	}
	return s.inner.GetRange(ctx, key, p, offset)
}

// Head is objectstore.Store's.
func (s *Store) Head(ctx context.Context, key string) (objectstore.Info, error) {
	r := s.next(Head, key)
	if goOn, err := r.before(ctx, Head, key); !goOn {
		return objectstore.Info{}, err
	}
	if r.Fault == Torn {
		return objectstore.Info{}, r.failure(Head, key)
	}
	return s.inner.Head(ctx, key)
}

// tornListing is after how many objects a torn list fails.
const tornListing = 500

// List is objectstore.Store's.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	r := s.next(List, prefix)
	if goOn, err := r.before(ctx, List, prefix); !goOn {
		return err
	}
	if r.Fault != Torn {
		return s.inner.List(ctx, prefix, after, fn)
	}
	var page []objectstore.Info
	full := errors.New("page is full")
	err := s.inner.List(ctx, prefix, after, func(info objectstore.Info) error {
		if len(page) == 2*tornListing {
			return full
		}
		page = append(page, info)
		return nil
	})
	if err != nil && !errors.Is(err, full) {
		return err
	}
	for _, info := range page[:len(page)/2] {
		if err := fn(info); err != nil {
			return err
		}
	}
	return r.failure(List, prefix)
}

// Delete is objectstore.Store's.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	r := s.next(Delete, keys...)
	first := ""
	if len(keys) > 0 {
		first = keys[0]
	}
	if goOn, err := r.before(ctx, Delete, first); !goOn {
		return err
	}
	switch r.Fault {
	case AppliedLost:
		_ = s.inner.Delete(ctx, keys...)
		return unknown(Delete, first)
	case Delayed:
		kept := append([]string(nil), keys...)
		s.delay(func(ctx context.Context) error { return s.inner.Delete(ctx, kept...) })
		return unknown(Delete, first)
	case Torn:
		if err := s.inner.Delete(ctx, keys[:len(keys)/2]...); err != nil {
			return err
		}
		return unknown(Delete, first)
	}
	return s.inner.Delete(ctx, keys...)
}
