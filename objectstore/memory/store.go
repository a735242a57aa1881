// Package memory is an object store in the memory of the process, for tests and for `tidemark dev` without a data folder.
// Nothing survives the process.
package memory

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// listPage is how many objects one look at the index takes; the lock is not held while the caller's fn runs.
const listPage = 1000

type object struct {
	data    []byte // never changed: a put replaces the object
	modTime time.Time
	nonce   string
}

// Store keeps objects in memory. The zero value is not ready; use New.
type Store struct {
	mu      sync.RWMutex
	objects map[string]object
	keys    []string // sorted
}

var _ objectstore.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{objects: make(map[string]object)}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Put copies the body, and compares its checksum if it has one. See objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	if err := objectstore.CheckPut(key, body, opts); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	data := make([]byte, body.Size())
	if n, err := body.ReadAt(data, 0); n < len(data) {
		return fmt.Errorf("put %s: body ends after %d of %d bytes: %w", key, n, len(data), err)
	}
	if summed, ok := body.(objectstore.Summed); ok {
		if want, got := summed.CRC32C(), crc32.Checksum(data, castagnoli); got != want {
			return fmt.Errorf("put %s: the body has the checksum %08x and says %08x", key, got, want)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearch(s.keys, key)
	if found && opts.IfAbsent {
		return fmt.Errorf("put %s: %w", key, objectstore.ErrPreconditionFailed)
	}
	if !found {
		if err := s.checkFoldersLocked(key, i); err != nil {
			return err
		}
		s.keys = slices.Insert(s.keys, i, key)
	}
	s.objects[key] = object{data: data, modTime: time.Now(), nonce: opts.Nonce}
	return nil
}

// checkFoldersLocked refuses a key that is a folder of another or lies in another as in a folder, as directories and MinIO
// do, so that what works here works there. The place i is where key belongs in s.keys.
func (s *Store) checkFoldersLocked(key string, i int) error {
	j, _ := slices.BinarySearch(s.keys[i:], key+"/")
	if i += j; i < len(s.keys) && strings.HasPrefix(s.keys[i], key+"/") {
		return fmt.Errorf("put %s: the key is a folder of %s: %w", key, s.keys[i], objectstore.ErrRejected)
	}
	for i, c := range key {
		if c != '/' {
			continue
		}
		if _, ok := s.objects[key[:i]]; ok {
			return fmt.Errorf("put %s: its folder %s is an object: %w", key, key[:i], objectstore.ErrRejected)
		}
	}
	return nil
}

func (s *Store) get(ctx context.Context, verb, key string) (object, error) {
	if err := objectstore.CheckKey(key); err != nil {
		return object{}, err
	}
	if err := ctx.Err(); err != nil {
		return object{}, fmt.Errorf("%s %s: %w", verb, key, err)
	}
	s.mu.RLock()
	o, ok := s.objects[key]
	s.mu.RUnlock()
	if !ok {
		return object{}, fmt.Errorf("%s %s: %w", verb, key, objectstore.ErrNotFound)
	}
	return o, nil
}

// GetRange copies from the object. See objectstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, p []byte, offset int64) (int, error) {
	o, err := s.get(ctx, "get", key)
	if err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, fmt.Errorf("get %s: negative offset %d: %w", key, offset, objectstore.ErrRejected)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if offset >= int64(len(o.data)) {
		return 0, io.EOF
	}
	n := copy(p, o.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Head describes the object. See objectstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objectstore.Info, error) {
	o, err := s.get(ctx, "head", key)
	if err != nil {
		return objectstore.Info{}, err
	}
	return o.info(key, o.nonce), nil
}

func (o object) info(key, nonce string) objectstore.Info {
	return objectstore.Info{Key: key, SizeBytes: int64(len(o.data)), ModTime: o.modTime, Nonce: nonce}
}

// List pages through the index. See objectstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	if err := objectstore.CheckPrefix(prefix); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		page := s.page(prefix, after)
		for _, info := range page {
			if err := fn(info); err != nil {
				return err
			}
		}
		if len(page) < listPage {
			return nil
		}
		after = page[len(page)-1].Key
	}
}

func (s *Store) page(prefix, after string) []objectstore.Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, _ := slices.BinarySearch(s.keys, prefix)
	if j, found := slices.BinarySearch(s.keys, after); found {
		i = max(i, j+1)
	} else {
		i = max(i, j)
	}
	var page []objectstore.Info
	for ; i < len(s.keys) && len(page) < listPage && strings.HasPrefix(s.keys[i], prefix); i++ {
		page = append(page, s.objects[s.keys[i]].info(s.keys[i], ""))
	}
	return page
}

// Delete forgets the objects. See objectstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objectstore.CheckKey(key); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %d objects: %w", len(keys), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if i, found := slices.BinarySearch(s.keys, key); found {
			s.keys = slices.Delete(s.keys, i, i+1)
			delete(s.objects, key)
		}
	}
	return nil
}
