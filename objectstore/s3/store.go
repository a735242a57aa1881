// Package s3 is an object store in a bucket of Amazon S3 or of a server that speaks its protocol. It asks the server for
// strong consistency and for If-None-Match on PutObject, which Amazon S3 has since August 2024 and MinIO since 2023;
// objectstore.Probe tells whether a server has them.
//
// The bucket needs no versioning; in a versioned one deletes leave the old versions to the bucket's lifecycle rules.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// nonceMeta is the user metadata that holds a put's nonce: on the wire x-amz-meta-tidemark-nonce.
const nonceMeta = "Tidemark-Nonce"

const (
	listPage   = 1000 // S3's own limit
	deletePage = 1000 // likewise
)

// Store keeps objects in a bucket. It makes no retries of its own: see package retry.
type Store struct {
	client    *minio.Core
	transport *http.Transport
	opts      Options
}

var _ objectstore.Store = (*Store)(nil)

// New returns a store for the bucket. It sends nothing; the first call finds out whether the server is there.
func New(opts Options) (*Store, error) {
	opts.setDefaults()
	client, transport, err := opts.client()
	if err != nil {
		return nil, fmt.Errorf("s3 bucket %q: %w", opts.Bucket, err)
	}
	return &Store{client: client, transport: transport, opts: opts}, nil
}

// Close closes idle connections. Calls may still be made.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// EnsureBucket creates the bucket if it does not exist.
func (s *Store) EnsureBucket(ctx context.Context) error {
	c := s.begin(ctx, "create bucket", s.opts.Bucket, 0)
	defer c.end()
	exists, err := s.client.BucketExists(c.ctx, s.opts.Bucket)
	if err == nil && !exists {
		err = s.client.MakeBucket(c.ctx, s.opts.Bucket, minio.MakeBucketOptions{Region: s.opts.Region})
		if code := minio.ToErrorResponse(err).Code; code == minio.BucketAlreadyOwnedByYou || code == "BucketAlreadyExists" {
			err = nil // another process was faster; whether it is ours, the first request will say
		}
	}
	return c.explain(err)
}

// Put sends one PutObject request, whatever the size. See objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	return s.put(ctx, key, body, opts, false)
}

// put sends the checksum as a trailer if it must or is told to.
func (s *Store) put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions, trailer bool) error {
	if err := objectstore.CheckPut(key, body, opts); err != nil {
		return err
	}
	c := s.begin(ctx, "put", key, body.Size())
	defer c.end()
	put := minio.PutObjectOptions{
		ContentType:          opts.ContentType,
		DisableMultipart:     true,
		DisableContentSha256: true,
		SendContentMd5:       s.opts.Checksum == ChecksumMD5,
		UserMetadata:         make(map[string]string, 2),
	}
	if opts.Nonce != "" {
		put.UserMetadata[nonceMeta] = opts.Nonce
	}
	if opts.IfAbsent {
		put.SetMatchETagExcept("*")
	}
	asItIs := s.opts.Checksum != ChecksumMD5 // which minio-go computes
	if s.opts.Checksum == ChecksumCRC32C && !trailer {
		sum, known, err := sumOf(body)
		if err != nil {
			return c.explain(err)
		}
		if known {
			put.UserMetadata[headerCRC32C] = encodeSum(sum)
		}
		trailer = !known
	}
	if trailer {
		put.Checksum = minio.ChecksumCRC32C // without this, minio-go announces a checksum and sends none
	}
	c.body = newSentBody(body)
	defer c.body.close()
	content, putCtx := io.Reader(io.NewSectionReader(c.body, 0, c.body.size)), c.ctx
	if asItIs && !trailer {
		content = &stream{body: c.body}
		putCtx = withStream(c.ctx, content.(*stream))
	}
	_, err := s.client.Client.PutObject(putCtx, s.opts.Bucket, key, content, c.body.size, put)
	return c.explain(err)
}

// GetRange sends one GetObject request. See objectstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, p []byte, offset int64) (int, error) {
	if err := objectstore.CheckKey(key); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, fmt.Errorf("get %s: negative offset %d: %w", key, offset, objectstore.ErrRejected)
	}
	if len(p) == 0 {
		_, err := s.Head(ctx, key)
		return 0, err
	}
	c := s.begin(ctx, "get", key, int64(len(p)))
	defer c.end()
	n, err := s.getRange(c, key, p, offset)
	switch {
	case err == io.EOF: //nolint:errorlint // getRange's own; a wrapped one is a broken connection
		return n, err
	case minio.ToErrorResponse(err).Code == minio.InvalidRange:
		return 0, io.EOF // the object exists and has no such byte
	case err != nil:
		return 0, c.explain(err)
	}
	return n, nil
}

func (s *Store) getRange(c *call, key string, p []byte, offset int64) (int, error) {
	var opts minio.GetObjectOptions
	last := int64(math.MaxInt64)
	if offset <= last-int64(len(p)) {
		last = offset + int64(len(p)) - 1
	}
	if err := opts.SetRange(offset, last); err != nil {
		return 0, err
	}
	body, info, header, err := s.client.GetObject(c.ctx, s.opts.Bucket, key, opts)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	total := info.Size
	if contentRange := header.Get("Content-Range"); contentRange != "" {
		var start int64
		if start, total, err = parseContentRange(contentRange); err != nil || start != offset {
			return 0, fmt.Errorf("asked for bytes from %d on, the server answers %q: %w", offset, contentRange, errors.Join(err, errProtocol))
		}
	} else if offset > 0 {
		return 0, fmt.Errorf("asked for bytes from %d on, the server sends the whole object: %w", offset, errProtocol)
	}
	want := min(int64(len(p)), total-offset)
	// A short body is a broken connection, not the end of the object: the header knows where that is.
	if n, err := io.ReadFull(body, p[:want]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, fmt.Errorf("the body ends after %d of %d bytes: %w", n, want, err)
	}
	if want < int64(len(p)) {
		return int(want), io.EOF
	}
	return int(want), nil
}

var errProtocol = errors.New("answer against the protocol")

// parseContentRange takes "bytes 5-9/100" apart (RFC 9110, 14.4).
func parseContentRange(s string) (start, total int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	first, lastByte, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, errors.New("malformed Content-Range")
	}
	var errs [3]error
	var end int64
	start, errs[0] = strconv.ParseInt(first, 10, 64)
	end, errs[1] = strconv.ParseInt(lastByte, 10, 64)
	total, errs[2] = strconv.ParseInt(size, 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return 0, 0, fmt.Errorf("malformed Content-Range: %w", err)
	}
	if start < 0 || end < start || total <= end {
		return 0, 0, errors.New("impossible Content-Range")
	}
	return start, total, nil
}

// Head sends one HeadObject request. See objectstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objectstore.Info, error) {
	if err := objectstore.CheckKey(key); err != nil {
		return objectstore.Info{}, err
	}
	c := s.begin(ctx, "head", key, 0)
	defer c.end()
	info, err := s.client.StatObject(c.ctx, s.opts.Bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return objectstore.Info{}, c.explain(err)
	}
	return objectstore.Info{Key: key, SizeBytes: info.Size, ModTime: info.LastModified, Nonce: info.UserMetadata[nonceMeta]}, nil
}

// List sends a ListObjectsV2 request for each 1,000 objects. See objectstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	if err := objectstore.CheckPrefix(prefix); err != nil {
		return err
	}
	for {
		page, err := s.page(ctx, prefix, after)
		if err != nil {
			return err
		}
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

// page returns the next listPage objects, or fewer at the end. Each page begins after a key instead of at a continuation
// token, so that it does not matter how long fn takes and no page outlives its timeout.
func (s *Store) page(ctx context.Context, prefix, after string) ([]objectstore.Info, error) {
	c := s.begin(ctx, "list", prefix, 0)
	defer c.end()
	noOwner := false
	var page []objectstore.Info
	for o := range s.client.ListObjectsIter(c.ctx, s.opts.Bucket, minio.ListObjectsOptions{
		Prefix: prefix, StartAfter: after, Recursive: true, MaxKeys: listPage, FetchOwner: &noOwner,
	}) {
		if o.Err != nil {
			return nil, c.explain(o.Err)
		}
		if strings.HasSuffix(o.Key, "/") {
			continue // a folder's marker, made by some browser: nothing of ours
		}
		page = append(page, objectstore.Info{Key: o.Key, SizeBytes: o.Size, ModTime: o.LastModified})
		if len(page) == listPage {
			break
		}
	}
	if err := c.ctx.Err(); err != nil { // the iterator just ends then
		return nil, c.explain(err)
	}
	return page, nil
}

// Delete sends a DeleteObjects request for each 1,000 keys, or DeleteObject for a single one. See objectstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objectstore.CheckKey(key); err != nil {
			return err
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), deletePage)
		if err := s.deletePage(ctx, keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (s *Store) deletePage(ctx context.Context, keys []string) error {
	c := s.begin(ctx, "delete", keys[0], 0)
	defer c.end()
	c.mutates = true
	if len(keys) == 1 {
		err := s.client.RemoveObject(c.ctx, s.opts.Bucket, keys[0], minio.RemoveObjectOptions{})
		if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
			err = nil // some servers mind
		}
		return c.explain(err)
	}
	results, err := s.client.RemoveObjectsWithIter(c.ctx, s.opts.Bucket, func(yield func(minio.ObjectInfo) bool) {
		for _, key := range keys {
			if !yield(minio.ObjectInfo{Key: key}) {
				return
			}
		}
	}, minio.RemoveObjectsOptions{})
	if err != nil {
		return c.explain(err)
	}
	var failed error
	answered := 0
	for result := range results {
		answered++
		if result.Err != nil && minio.ToErrorResponse(result.Err).Code != minio.NoSuchKey && failed == nil {
			failed = result.Err
		}
	}
	if failed == nil && c.ctx.Err() != nil { // the iterator just ends then
		failed = c.ctx.Err()
	}
	if failed == nil && answered < len(keys) {
		failed = fmt.Errorf("the server answers for %d of %d keys: %w", answered, len(keys), errProtocol)
	}
	return c.explain(failed)
}

// begin starts a call of at most RequestTimeout and what its bytes take at SlowestBytesPerSecond.
func (s *Store) begin(ctx context.Context, verb, key string, sizeBytes int64) *call {
	timeout := s.opts.RequestTimeout + time.Duration(float64(sizeBytes)/float64(s.opts.SlowestBytesPerSecond)*float64(time.Second))
	return newCall(ctx, verb, key, timeout)
}
