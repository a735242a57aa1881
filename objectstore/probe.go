package objectstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// Probe puts a small object below "probe/", uses it and deletes it, and returns an error that names the first of the
// contract's promises that the store does not keep: so that a wrong key, a bucket that may only be read, or a server that
// ignores conditions or checksums shows at start and not when it matters. What it could not delete is harmless.
func Probe(ctx context.Context, s Store) error {
	key := "probe/" + rand.Text()
	if err := probe(ctx, s, key); err != nil {
		// Clean up under the caller's ctx, without hiding what went wrong.
		return errors.Join(fmt.Errorf("probing the object store: %w", err), s.Delete(ctx, key))
	}
	if err := s.Delete(ctx, key); err != nil {
		return fmt.Errorf("probing the object store: %w", err)
	}
	if _, err := s.Head(ctx, key); !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("probing the object store: a deleted object is still there (%w)", err)
	}
	return nil
}

func probe(ctx context.Context, s Store, key string) error {
	nonce, content := rand.Text(), []byte("tidemark probe")
	if err := s.Put(ctx, key, bytes.NewReader(content), PutOptions{IfAbsent: true, Nonce: nonce}); err != nil {
		return err
	}
	err := s.Put(ctx, key, bytes.NewReader([]byte("second")), PutOptions{IfAbsent: true, Nonce: rand.Text()})
	if err == nil {
		return fmt.Errorf("the store ignores conditions: a put with If-None-Match replaced an object")
	}
	if !errors.Is(err, ErrPreconditionFailed) {
		return err
	}
	info, err := s.Head(ctx, key)
	if err != nil {
		return err
	}
	if info.Nonce != nonce || info.SizeBytes != int64(len(content)) {
		return fmt.Errorf("the store lost an object's metadata: %d bytes and the nonce %q, want %d and %q", info.SizeBytes, info.Nonce, len(content), nonce)
	}
	p := make([]byte, len(content))
	if n, err := s.GetRange(ctx, key, p, 9); !errors.Is(err, io.EOF) || string(p[:n]) != "probe" {
		return fmt.Errorf("the store ignores ranges: it gave %q (%w)", p[:n], err)
	}
	listed := false
	err = s.List(ctx, key, "", func(info Info) error {
		listed = listed || info.Key == key
		return nil
	})
	if err == nil && !listed {
		err = errors.New("a new object is not listed")
	}
	if err != nil {
		return err
	}
	return VerifySums(ctx, s, key)
}
