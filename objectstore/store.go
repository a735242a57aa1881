// Package objectstore is the contract that Tidemark asks of an object store. The stores that keep it are in the folders
// below: s3, directory and memory; so are the decorators: prefixed, metered, retry and, for tests, faulty. dial opens a
// store by URL. One acceptance suite (objectstore/acceptance) holds for all of them.
package objectstore

import (
	"context"
	"errors"
	"io"
	"time"
)

// The few errors that callers tell apart; test with errors.Is. Any other error means that the call had no effect (for Get,
// Head and List: gave no answer) and may succeed when tried again. A call that was given up because its ctx was done
// returns an error that is ctx.Err(); if it was a put or delete that the store may have seen, it is ErrOutcomeUnknown too.
var (
	// ErrNotFound says that no object has the key.
	ErrNotFound = errors.New("object not found")
	// ErrPreconditionFailed says that a conditional put met an existing object. After an unknown outcome it may be the
	// caller's own: compare the nonce that Head returns (the retry decorator does).
	ErrPreconditionFailed = errors.New("object precondition failed")
	// ErrThrottled says that the store asks for fewer requests (HTTP 429, 503 SlowDown). The call had no effect.
	ErrThrottled = errors.New("object store throttled the request")
	// ErrOutcomeUnknown says that a put or delete may or may not have taken effect, now or later.
	ErrOutcomeUnknown = errors.New("object store outcome unknown")
	// ErrRejected says that the store will never serve the request as it is: a malformed key, wrong credentials, no such
	// bucket. The call had no effect and trying again does not help until somebody changes something.
	ErrRejected = errors.New("object store rejected the request")
)

// Body is the content of an object to be put. It is read by position, so that a retry can start again; *bytes.Reader and
// *io.SectionReader are bodies. It must not change before Put returns; a store never reads it afterwards.
type Body interface {
	io.ReaderAt
	// Size is the length in bytes. It must not change.
	Size() int64
}

// Stretches is a Body that lies in memory: a store may use the memory as it is instead of having it copied.
type Stretches interface {
	Body
	// Stretch returns bytes of the content from offset on, at least one, which are the body's: they must not be changed, and not
	// be read after Put has returned. offset is in [0, Size()).
	Stretch(offset int64) []byte
}

// Summed is a Body whose checksum is known before it is read, as a rule from checksums of its parts that are older than its
// place in memory: what happened to the bytes since then shows when the store compares.
type Summed interface {
	Body
	// CRC32C returns the CRC-32C (Castagnoli) of the whole content. A store that is told so by its options has the server
	// compare it; others may ignore it.
	CRC32C() uint32
}

// Verifier is a store that can show that its server compares checksums. Decorators pass it on; Probe calls it.
type Verifier interface {
	// VerifySums puts objects under key, one of them with a wrong checksum, and returns an error if the server took that one or
	// changed the other. It leaves an object under key, or none. With a store that was told to send no checksums it does nothing.
	VerifySums(ctx context.Context, key string) error
}

// VerifySums calls the store's, if it has one.
func VerifySums(ctx context.Context, s Store, key string) error {
	if v, ok := s.(Verifier); ok {
		return v.VerifySums(ctx, key)
	}
	return nil
}

// PutOptions qualify a put.
type PutOptions struct {
	// IfAbsent makes the put fail with ErrPreconditionFailed where the key exists (S3 If-None-Match: *). Of many such puts of
	// one key, however they race, exactly one succeeds.
	IfAbsent bool
	// ContentType is stored with the object where the store can (S3); empty means application/octet-stream.
	ContentType string
	// Nonce, if not empty, is stored as metadata and returned by Head, to recognise one's own object after
	// ErrOutcomeUnknown. It must be unique to this content of this key: whoever finds it takes the object for the one that
	// was to be put. At most MaxNonceBytes letters, digits, '-', '_' and '.'.
	Nonce string
}

// Info describes an object.
type Info struct {
	Key       string
	SizeBytes int64
	ModTime   time.Time // by the store's clock
	Nonce     string    // set by Head only; empty if the object was put without one
}

// Store is an object store. All methods may be called concurrently and give up soon after ctx is done.
//
// Keys are relative to the store's prefix; CheckKey has the rules, and a key that breaks them is ErrRejected. No key may be
// another key's folder ("a" beside "a/b"): S3 itself would allow it, MinIO and directories do not. Keys are never
// normalised.
//
// Puts are atomic: a reader sees the whole object or none, also while it is being overwritten. After Put has returned, Get,
// Head and List see the object, and after Delete they do not (strong consistency, as Amazon S3 gives since December 2020).
type Store interface {
	// Put stores the object under key, replacing what was there unless opts.IfAbsent is set. It is durable when Put returns
	// nil. It is always sent in one piece, whatever the size, because S3 clients drop the condition on multipart uploads;
	// so an object has at most 5 GiB.
	Put(ctx context.Context, key string, body Body, opts PutOptions) error
	// GetRange fills p with the bytes of the object from offset on and returns how many it read: fewer than len(p) only at
	// the end of the object, then with io.EOF itself, not wrapped (so an offset at or past the end gives 0, io.EOF). All
	// bytes of one call come from one version of the object. When it returns another error, p may hold anything and n is 0.
	// The store keeps no reference to p. An empty p gives 0, nil if the object exists.
	GetRange(ctx context.Context, key string, p []byte, offset int64) (n int, err error)
	// Head returns size, time and nonce of the object.
	Head(ctx context.Context, key string) (Info, error)
	// List calls fn for each object whose key begins with prefix and is greater than after, in byte order of keys, until fn
	// returns an error, which List returns as it is. The prefix may end within a part. Pages are bounded; fn may call the
	// store. Objects put or deleted meanwhile may or may not be seen; all others are seen exactly once.
	List(ctx context.Context, prefix, after string, fn func(Info) error) error
	// Delete removes the objects, of which there may be any number; a key without an object is no error. When it returns an
	// error, any of them may be gone. A store may forget a delete if its machine fails soon after.
	Delete(ctx context.Context, keys ...string) error
}
