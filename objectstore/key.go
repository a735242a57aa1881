package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of names. They fit S3 (1,024 bytes a key), file systems (255 bytes a part) and HTTP headers.
const (
	// MaxKeyBytes is how long a key may be that is sure to fit below any prefix that package prefixed takes.
	MaxKeyBytes = 900
	// MaxPrefixedKeyBytes is how long a key may be together with the prefixes before it.
	MaxPrefixedKeyBytes = 1024
	MaxPartBytes        = 200
	MaxNonceBytes       = 128
)

// CheckKey returns nil if key may name an object, and otherwise an error that says why not and is ErrRejected. A key is one
// or more parts with '/' between them, MaxPrefixedKeyBytes in all. A part has 1 to MaxPartBytes letters, digits and any of -_.=+,@~!()' and does not
// begin with a dot: so there is no "." and no "..", a directory store has names for itself, and no key needs escaping in a
// URL path, in XML or in a file system.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("empty object key: %w", ErrRejected)
	}
	if len(key) > MaxPrefixedKeyBytes {
		return fmt.Errorf("object key of %d bytes, more than %d: %w", len(key), MaxPrefixedKeyBytes, ErrRejected)
	}
	start := 0
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			if !keyByte[key[i]] {
				return fmt.Errorf("object key %q: byte %q at %d is not allowed: %w", key, key[i], i, ErrRejected)
			}
			continue
		}
		switch {
		case i == start:
			return fmt.Errorf("object key %q has an empty part: %w", key, ErrRejected)
		case key[start] == '.':
			return fmt.Errorf("object key %q has a part that begins with a dot: %w", key, ErrRejected)
		case i-start > MaxPartBytes:
			return fmt.Errorf("object key has a part of %d bytes, more than %d: %w", i-start, MaxPartBytes, ErrRejected)
		}
		start = i + 1
	}
	return nil
}

// CheckPrefix returns nil if prefix may be listed: it is empty, or the beginning of a key that CheckKey takes.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if strings.HasSuffix(prefix, "/") {
		prefix += "x"
	}
	return CheckKey(prefix)
}

// CheckPut returns nil if a put with these arguments may be tried, and otherwise an error that is ErrRejected.
func CheckPut(key string, body Body, opts PutOptions) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if body == nil || body.Size() < 0 {
		return fmt.Errorf("object %s: no body, or one of negative size: %w", key, ErrRejected)
	}
	if len(opts.Nonce) > MaxNonceBytes {
		return fmt.Errorf("object %s: nonce of %d bytes, more than %d: %w", key, len(opts.Nonce), MaxNonceBytes, ErrRejected)
	}
	for i := range len(opts.Nonce) {
		if c := opts.Nonce[i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("object %s: nonce %q: byte %q is not allowed: %w", key, opts.Nonce, c, ErrRejected)
		}
	}
	return nil
}

// ReadAll returns the whole object, or an error if it has more than maxBytes. It needs a Head and a GetRange.
func ReadAll(ctx context.Context, s Store, key string, maxBytes int64) ([]byte, error) {
	info, err := s.Head(ctx, key)
	if err != nil {
		return nil, err
	}
	if info.SizeBytes > maxBytes {
		return nil, fmt.Errorf("object %s has %d bytes, more than the %d that are expected", key, info.SizeBytes, maxBytes)
	}
	// One byte more than the size: io.EOF then proves that the object did not grow in between.
	p := make([]byte, info.SizeBytes+1)
	n, err := s.GetRange(ctx, key, p, 0)
	switch {
	case err == nil:
		return nil, fmt.Errorf("object %s was overwritten while it was read", key)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return p[:n], nil
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

var keyByte = func() (t [256]bool) {
	for c := range 256 {
		t[c] = isAlphanumeric(byte(c))
	}
	for _, c := range "-_.=+,@~!()'" {
		t[c] = true
	}
	return t
}()
