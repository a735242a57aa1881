// Package prefixed is a decorator that puts all keys of a store below a prefix, so that several clusters share a bucket.
package prefixed

import (
	"context"
	"fmt"
	"strings"

	"github.com/tidemarkmq/tidemark/objectstore"
)

type store struct {
	inner  objectstore.Store
	prefix string // ends with '/'
}

// maxPrefixBytes leaves objectstore.MaxKeyBytes for the caller.
const maxPrefixBytes = objectstore.MaxPrefixedKeyBytes - objectstore.MaxKeyBytes - len("/")

// New returns a view of inner below prefix, which is one or more parts of a key, 123 bytes at most; '/' at its ends is
// ignored. With an empty prefix it returns inner itself.
func New(inner objectstore.Store, prefix string) (objectstore.Store, error) {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return inner, nil
	}
	if err := objectstore.CheckKey(prefix); err != nil {
		return nil, fmt.Errorf("object store prefix: %w", err)
	}
	if len(prefix) > maxPrefixBytes {
		return nil, fmt.Errorf("object store prefix of %d bytes, more than %d: %w", len(prefix), maxPrefixBytes, objectstore.ErrRejected)
	}
	return &store{inner: inner, prefix: prefix + "/"}, nil
}

func (s *store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	if err := objectstore.CheckKey(key); err != nil {
		return err
	}
	return s.inner.Put(ctx, s.prefix+key, body, opts)
}

func (s *store) GetRange(ctx context.Context, key string, p []byte, offset int64) (int, error) {
	if err := objectstore.CheckKey(key); err != nil {
		return 0, err
	}
	return s.inner.GetRange(ctx, s.prefix+key, p, offset)
}

func (s *store) Head(ctx context.Context, key string) (objectstore.Info, error) {
	if err := objectstore.CheckKey(key); err != nil {
		return objectstore.Info{}, err
	}
	info, err := s.inner.Head(ctx, s.prefix+key)
	info.Key = strings.TrimPrefix(info.Key, s.prefix)
	return info, err
}

func (s *store) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	if err := objectstore.CheckPrefix(prefix); err != nil {
		return err
	}
	if after != "" {
		after = s.prefix + after
	}
	return s.inner.List(ctx, s.prefix+prefix, after, func(info objectstore.Info) error {
		info.Key = strings.TrimPrefix(info.Key, s.prefix)
		return fn(info)
	})
}

func (s *store) Delete(ctx context.Context, keys ...string) error {
	inner := make([]string, len(keys))
	for i, key := range keys {
		if err := objectstore.CheckKey(key); err != nil {
			return err
		}
		inner[i] = s.prefix + key
	}
	return s.inner.Delete(ctx, inner...)
}

// VerifySums passes on objectstore.Verifier.
func (s *store) VerifySums(ctx context.Context, key string) error {
	if err := objectstore.CheckKey(key); err != nil {
		return err
	}
	return objectstore.VerifySums(ctx, s.inner, s.prefix+key)
}
