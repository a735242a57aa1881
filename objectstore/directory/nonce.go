package directory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// acquire waits for the key's stripe.
func (s *Store) acquire(ctx context.Context, key string) (release func(), err error) {
	h := fnv.New32a()
	_, _ = io.WriteString(h, key) // never fails
	stripe := s.writers[h.Sum32()%writerStripes]
	select {
	case stripe <- struct{}{}:
		return func() { <-stripe }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// nonceLink returns the folder and the beginning of the name of the links that hold the key's nonces.
func nonceLink(key string) (dir, prefix string) {
	sum := sha256.Sum256([]byte(key))
	hash := hex.EncodeToString(sum[:16])
	return nonceDir + "/" + hash[:2], hash + "."
}

// linkNonce ties the nonce to the temporary file. It is not synced: after a crash the put has no caller left who would ask.
// The caller holds the key's stripe.
func (s *Store) linkNonce(tmp, key string, opts objectstore.PutOptions) error {
	dir, prefix := nonceLink(key)
	if err := s.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	link := dir + "/" + prefix + opts.Nonce
	err := s.root.Link(tmp, link)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	// An earlier put used the same nonce. Where its object is there, the condition has failed, and the link stays as it is.
	if file, err := s.root.Lstat(link); err == nil && opts.IfAbsent && s.isFile(key, file) {
		return objectstore.ErrPreconditionFailed
	}
	again := tmp + ".nonce"
	if err := s.root.Link(tmp, again); err != nil {
		return err
	}
	if err := s.root.Rename(again, link); err != nil {
		_ = s.root.Remove(again) // or the sweep will
		return err
	}
	return nil
}

// nonces calls fn with each nonce that is linked for the key and with the file it belongs to.
func (s *Store) nonces(key string, fn func(link, nonce string, file fs.FileInfo)) error {
	dir, prefix := nonceLink(key)
	d, err := s.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		nonce, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		file, err := s.root.Lstat(dir + "/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		fn(dir+"/"+name, nonce, file)
	}
	return nil
}

// nonceOf returns the nonce with which the file was put under key.
func (s *Store) nonceOf(key string, file fs.FileInfo) (string, error) {
	found := ""
	err := s.nonces(key, func(_, nonce string, f fs.FileInfo) {
		if os.SameFile(f, file) {
			found = nonce
		}
	})
	return found, err
}

// unlinkNonces removes those of the key's nonces whose file is chosen. What it fails to remove costs space only.
func (s *Store) unlinkNonces(key string, chosen func(fs.FileInfo) bool) {
	_ = s.nonces(key, func(link, _ string, f fs.FileInfo) {
		if chosen(f) {
			_ = s.root.Remove(link)
		}
	})
}

// isFile says whether name is the file f.
func (s *Store) isFile(name string, f fs.FileInfo) bool {
	info, err := s.root.Lstat(name)
	return err == nil && os.SameFile(info, f)
}

// sweep removes temporary files that are older than age, and nonces that belong to nothing else: a crash between the two
// steps of a commit leaves both.
func (s *Store) sweep(age time.Duration, logger *slog.Logger) error {
	d, err := s.root.Open(tmpDir)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	var swept int
	var sweptBytes int64
	for _, name := range names {
		name = tmpDir + "/" + name
		file, err := s.root.Lstat(name)
		if err != nil || time.Since(file.ModTime()) < age {
			continue
		}
		s.sweepNonce(file)
		if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		swept++
		sweptBytes += file.Size()
	}
	if swept > 0 {
		logger.Info("swept unfinished puts that a crash left", "dir", s.dir, "files", swept, "bytes", sweptBytes)
	}
	return nil
}

// sweepNonce removes the nonce link of a temporary file whose put never got as far as naming the object: the temporary name
// and the nonce are then its only two names. With a third, the object exists and keeps its nonce.
func (s *Store) sweepNonce(file fs.FileInfo) {
	if names, ok := linkCount(file); !ok || names != 2 {
		return
	}
	shards, err := fs.ReadDir(s.root.FS(), nonceDir)
	if err != nil {
		return
	}
	for _, shard := range shards {
		links, err := fs.ReadDir(s.root.FS(), nonceDir+"/"+shard.Name())
		if err != nil {
			continue
		}
		for _, link := range links {
			if info, err := link.Info(); err == nil && os.SameFile(info, file) {
				_ = s.root.Remove(nonceDir + "/" + shard.Name() + "/" + link.Name())
				return
			}
		}
	}
}
