// Package objectstore is the contract that Tidemark asks of an object store, and the stores that keep it: S3, a local
// directory, memory, and decorators (retry, metrics, faults). One acceptance suite (objectstore/acceptance) holds for all.
package objectstore

import (
	"context"
	"errors"
	"io"
	"time"
)

// The few errors that callers tell apart; test with errors.Is. Any other error means that the call had no effect or, for
// Get, Head and List, no answer.
var (
	// ErrNotFound says that no object has the key.
	ErrNotFound = errors.New("object not found")
	// ErrPreconditionFailed says that a conditional put met an existing object. After an unknown outcome it may be the caller's own.
	ErrPreconditionFailed = errors.New("object precondition failed")
	// ErrThrottled says that the store asks for fewer requests (HTTP 429, 503 SlowDown). The call had no effect.
	ErrThrottled = errors.New("object store throttled the request")
	// ErrOutcomeUnknown says that a put or delete may or may not have taken effect, now or later.
	ErrOutcomeUnknown = errors.New("object store outcome unknown")
)

// Body is the content of an object to be put. It is read by position, so that a retry can start again; *bytes.Reader and
// *io.SectionReader are bodies. It must not change before Put returns.
type Body interface {
	io.ReaderAt
	Size() int64
}

// PutOptions qualify a put.
type PutOptions struct {
	// IfAbsent makes the put fail with ErrPreconditionFailed where the key exists (S3 If-None-Match: *).
	// It is sent as a single-part put whatever the size, because S3 clients drop the condition on multipart.
	IfAbsent bool
	// ContentType is stored with the object; empty means application/octet-stream.
	ContentType string
	// Nonce, if not empty, is stored as user metadata and returned by Head, to recognise one's own object after ErrOutcomeUnknown.
	Nonce string
}

// Info describes an object.
type Info struct {
	Key       string
	SizeBytes int64
	ModTime   time.Time
	Nonce     string // set by Head only
}

// Store is an object store. All methods may be called concurrently and give up when ctx is done. Keys are relative to the
// store's prefix, use '/' between parts, have no empty, "." or ".." part and at most 900 bytes.
// Puts are atomic: a reader sees the whole object or none. After Put, Get, Head and List see the object (strong consistency).
type Store interface {
	// Put stores the object. It is durable when Put returns nil.
	Put(ctx context.Context, key string, body Body, opts PutOptions) error
	// GetRange fills p with the bytes from offset on and returns how many it read: fewer than len(p) only at the end of
	// the object, then with io.EOF. The store keeps no reference to p.
	GetRange(ctx context.Context, key string, p []byte, offset int64) (int, error)
	// Head returns size, time and nonce of the object.
	Head(ctx context.Context, key string) (Info, error)
	// List calls fn for each object whose key begins with prefix and is greater than after, in byte order of keys, until fn
	// returns an error, which List returns. Pages are bounded; fn may call the store.
	List(ctx context.Context, prefix, after string, fn func(Info) error) error
	// Delete removes the objects; a key without an object is no error.
	Delete(ctx context.Context, keys ...string) error
}
