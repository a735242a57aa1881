// Package directory is an object store in a local folder: one file per object, named by its key, so that the folder can be
// copied into a bucket and back. It needs a file system with hard links and atomic rename.
//
// Layout below the root folder (version 1):
//
//	<key>                                 the object's bytes, nothing else
//	.tidemark/tmp/<random>                puts under way; what a crash leaves is swept by New
//	.tidemark/nonce/<hh>/<hash>.<nonce>   a hard link to the object's file: how Head knows the nonce
//
// Here hash is the first 32 hex digits of the SHA-256 of the key, and hh its first two. Objects cannot have such names,
// because no part of a key begins with a dot. Tying the nonce to the file itself, instead of writing it to a file beside the
// object, keeps the two from ever disagreeing. A copy of the folder without .tidemark is a whole store; it has forgotten the
// nonces, which nobody asks for once a put's outcome is known.
//
// A put writes a temporary file, syncs it, gives it the key's name by link(2) (fails where the name exists: the condition)
// or rename(2), and syncs the folders up to the root. So several processes may share the folder.
package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

const (
	ownDir   = ".tidemark"
	tmpDir   = ownDir + "/tmp"
	nonceDir = ownDir + "/nonce"

	copyBytes     = 1 << 20
	writerStripes = 64
	// createAttempts bounds how often a put makes its folder again because deletes of the last neighbour pruned it.
	createAttempts = 100
)

// Options say where and how to store.
type Options struct {
	// Dir is the root folder; New makes it.
	Dir string
	// SweepAfter is how old a temporary file must be for New to remove it as a crash's leftover: default 1 hour. Younger ones
	// may belong to another process.
	SweepAfter time.Duration
	// Logger gets a line about leftovers that were swept; nil discards it.
	Logger *slog.Logger
}

// Store keeps objects in a folder. It is safe for concurrent use.
type Store struct {
	root *os.Root
	dir  string
	// calls are the system's, but in tests.
	calls calls
	// writers serialises the puts and deletes of one key within this process. They are semaphores, because file I/O happens
	// while they are held. Between processes only tidiness depends on it: a nonce's link may outlive its object.
	writers [writerStripes]chan struct{}
}

var _ objectstore.Store = (*Store)(nil)

// New opens the store, makes its folders and removes temporary files that a crash left. Close frees its file descriptor.
func New(opts Options) (*Store, error) {
	if opts.Dir == "" {
		return nil, fmt.Errorf("directory store: no folder given")
	}
	if opts.SweepAfter == 0 {
		opts.SweepAfter = time.Hour
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("directory store: %w", err)
	}
	root, err := os.OpenRoot(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("directory store: %w", err)
	}
	s := &Store{root: root, dir: opts.Dir, calls: systemCalls}
	for i := range s.writers {
		s.writers[i] = make(chan struct{}, 1)
	}
	if err := s.prepare(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("directory store %s: %w", opts.Dir, err), root.Close())
	}
	return s, nil
}

// Close frees the store's file descriptor. Calls after it fail.
func (s *Store) Close() error { return s.root.Close() }

func (s *Store) prepare(opts Options) error {
	for _, dir := range []string{tmpDir, nonceDir} {
		if err := s.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// The root's own entry may be as new as the store.
	if parent, err := os.Open(filepath.Dir(filepath.Clean(opts.Dir))); err == nil {
		err = parent.Sync()
		parent.Close()
		if err != nil {
			return err
		}
	}
	return s.sweep(opts.SweepAfter, opts.Logger)
}

// Put writes, syncs and names a file. See objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	if err := objectstore.CheckPut(key, body, opts); err != nil {
		return err
	}
	if err := s.put(ctx, key, body, opts); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if opts.IfAbsent { // spares the writing where the answer is known
		if info, err := s.root.Lstat(key); err == nil && info.Mode().IsRegular() {
			return objectstore.ErrPreconditionFailed
		}
	}
	tmp := tmpDir + "/" + rand.Text()
	defer func() { _ = s.root.Remove(tmp) }() // a rename has taken it away already
	if err := s.write(ctx, tmp, body); err != nil {
		return err
	}
	release, err := s.acquire(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	if err := s.commit(tmp, key, opts); err != nil {
		return err
	}
	if err := s.syncUp(path.Dir(key)); err != nil {
		// The object can be read, and nobody knows whether a crash would take it away.
		return fmt.Errorf("%w: %w", objectstore.ErrOutcomeUnknown, err)
	}
	return nil
}

// write makes the temporary file, durable but for its name.
func (s *Store) write(ctx context.Context, name string, body objectstore.Body) error {
	f, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	done, err := s.writeDirect(ctx, f, body)
	if err == nil && !done {
		err = writeCached(ctx, f, body)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// writeCached writes body through the page cache and syncs it.
func writeCached(ctx context.Context, f *os.File, body objectstore.Body) error {
	size := body.Size()
	buf := make([]byte, min(size, copyBytes))
	for offset := int64(0); offset < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(size-offset, copyBytes)]
		if err := readBody(body, p, offset); err != nil {
			return err
		}
		if _, err := f.Write(p); err != nil {
			return err
		}
		offset += int64(len(p))
	}
	return f.Sync()
}

// readBody fills p; a body that ends early is an error.
func readBody(body objectstore.Body, p []byte, offset int64) error {
	n, err := body.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// commit gives the temporary file the key's name, atomically. The caller holds the key's stripe.
func (s *Store) commit(tmp, key string, opts objectstore.PutOptions) error {
	if opts.Nonce != "" {
		if err := s.linkNonce(tmp, key, opts); err != nil {
			return err
		}
	}
	err := s.name(tmp, key, opts.IfAbsent)
	if err != nil && opts.Nonce != "" {
		s.unlinkNonces(key, func(f fs.FileInfo) bool { return s.isFile(tmp, f) })
	}
	if err == nil && !opts.IfAbsent {
		s.unlinkNonces(key, func(f fs.FileInfo) bool { return !s.isFile(key, f) }) // those of what was replaced
	}
	return err
}

func (s *Store) name(tmp, key string, ifAbsent bool) error {
	for attempt := 1; ; attempt++ {
		err := s.root.MkdirAll(path.Dir(key), 0o755)
		if errors.Is(err, fs.ErrExist) && attempt < createAttempts {
			continue // a folder was there when it was to be made, and pruned before it was looked at
		}
		if err == nil {
			if ifAbsent {
				err = s.root.Link(tmp, key)
			} else {
				err = s.root.Rename(tmp, key)
			}
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrNotExist) && attempt < createAttempts:
			continue // a delete pruned the folder in between
		}
		if info, statErr := s.root.Lstat(key); statErr == nil && info.IsDir() {
			return fmt.Errorf("the key is a folder of other objects: %w", objectstore.ErrRejected)
		}
		if errors.Is(err, syscall.ENOTDIR) {
			return fmt.Errorf("a folder of the key is an object: %w", objectstore.ErrRejected)
		}
		if ifAbsent && errors.Is(err, fs.ErrExist) {
			return objectstore.ErrPreconditionFailed
		}
		return err
	}
}

// syncUp syncs the folder and all above it. That no put can skip the upper ones, although they are old, is because another
// put may have made them a moment ago and not have synced them yet; syncing a clean folder costs little.
func (s *Store) syncUp(dir string) error {
	for {
		f, err := s.root.Open(dir)
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil || dir == "." {
			return err
		}
		dir = path.Dir(dir)
	}
}

// GetRange reads from the file. See objectstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, p []byte, offset int64) (int, error) {
	if err := objectstore.CheckKey(key); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, fmt.Errorf("get %s: negative offset %d: %w", key, offset, objectstore.ErrRejected)
	}
	n, err := s.getRange(ctx, key, p, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("get %s: %w", key, notFound(err))
	}
	return n, err
}

func (s *Store) getRange(ctx context.Context, key string, p []byte, offset int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f, err := s.root.Open(key)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, objectstore.ErrNotFound
	}
	if n, done, err := s.readDirect(ctx, f, p, offset, info.Size()); done {
		return n, err
	}
	advise(f, offset, int64(len(p)))
	n := 0
	for n < len(p) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		m, err := f.ReadAt(p[n:min(n+copyBytes, len(p))], offset+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Head describes the file. See objectstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objectstore.Info, error) {
	if err := objectstore.CheckKey(key); err != nil {
		return objectstore.Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return objectstore.Info{}, fmt.Errorf("head %s: %w", key, err)
	}
	file, err := s.root.Lstat(key)
	if err == nil && !file.Mode().IsRegular() {
		err = objectstore.ErrNotFound
	}
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("head %s: %w", key, notFound(err))
	}
	nonce, err := s.nonceOf(key, file)
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("head %s: nonce: %w", key, err)
	}
	return objectstore.Info{Key: key, SizeBytes: file.Size(), ModTime: file.ModTime(), Nonce: nonce}, nil
}

// Delete removes files and the folders that become empty. It does not sync: a power failure may bring objects back. See
// objectstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objectstore.CheckKey(key); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := s.deleteOne(ctx, key); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	return nil
}

func (s *Store) deleteOne(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	release, err := s.acquire(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	file, err := s.root.Lstat(key)
	if err != nil || !file.Mode().IsRegular() {
		if err = notFound(err); errors.Is(err, objectstore.ErrNotFound) {
			err = nil
		}
		return err
	}
	// First the nonce: were it last, a crash in between would leave a link that holds the object's space for ever.
	s.unlinkNonces(key, func(f fs.FileInfo) bool { return os.SameFile(f, file) })
	if err := s.root.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Removing a folder fails where somebody has put something into it: exactly what is wanted.
	for dir := path.Dir(key); dir != "."; dir = path.Dir(dir) {
		if s.root.Remove(dir) != nil {
			break
		}
	}
	return nil
}

// notFound maps what the file system says about a missing file: also that what should be its folder is a file.
func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return objectstore.ErrNotFound
	}
	return err
}
