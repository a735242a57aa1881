package s3_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/s3"
)

// inMemory is a body in pieces of 1 MiB, as an uploader's are.
type inMemory struct{ pieces [][]byte }

func newInMemory(pieces int) inMemory {
	m := inMemory{pieces: make([][]byte, pieces)}
	for i := range m.pieces {
		m.pieces[i] = bytes.Repeat([]byte{byte(i)}, 1<<20)
	}
	return m
}

func (m inMemory) Size() int64 { return int64(len(m.pieces)) << 20 }

func (m inMemory) Stretch(offset int64) []byte { return m.pieces[offset>>20][offset&(1<<20-1):] }

func (m inMemory) ReadAt(p []byte, offset int64) (int, error) {
	n := 0
	for n < len(p) && offset+int64(n) < m.Size() {
		n += copy(p[n:], m.Stretch(offset+int64(n)))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// summed is a body in memory whose checksum is known.
type summed struct {
	inMemory
	sum uint32
}

func newSummed(pieces int) summed {
	m, sum := newInMemory(pieces), uint32(0)
	for _, p := range m.pieces {
		sum = crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), p)
	}
	return summed{m, sum}
}

func (s summed) CRC32C() uint32 { return s.sum }

// wrong is a body whose memory has changed since its checksum was computed.
func wrong(pieces int) summed {
	s := newSummed(pieces)
	s.pieces[pieces-1][77] ^= 1
	return s
}

func wantContent(t *testing.T, s *s3.Store, key string, body objectstore.Body) {
	t.Helper()
	want, got := make([]byte, body.Size()), make([]byte, body.Size()+1)
	if _, err := body.ReadAt(want, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	n, err := s.GetRange(t.Context(), key, got, 0)
	if !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want) {
		t.Errorf("%s: read %d bytes, %v: not the %d that were put", key, n, err, len(want))
	}
}

// TestChecksumSent: every put carries a checksum, in its head where it is known.
func TestChecksumSent(t *testing.T) {
	var seen *http.Request
	s := newFake(t, s3.Options{}, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			seen = r.Clone(context.Background())
		}
		return false
	})
	body := newSummed(3)
	small := []byte("small")
	for name, test := range map[string]struct {
		body     objectstore.Body
		checksum string // empty: as a trailer
	}{
		"summed":           {body, checksumOf(bytes.Join(body.pieces, nil))},
		"small":            {bytes.NewReader(small), checksumOf(small)},
		"empty":            {strings.NewReader(""), checksumOf(nil)},
		"memory":           {body.inMemory, checksumOf(bytes.Join(body.pieces, nil))},
		"bytes":            {bytes.NewReader(body.pieces[0]), checksumOf(body.pieces[0])},
		"reader":           {io.NewSectionReader(body, 5, 1<<20), ""},
		"summed, unmapped": {struct{ objectstore.Summed }{body}, checksumOf(bytes.Join(body.pieces, nil))},
	} {
		if err := s.Put(t.Context(), "k", test.body, objectstore.PutOptions{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantContent(t, s, "k", test.body)
		payload, trailer := "UNSIGNED-PAYLOAD", ""
		if test.checksum == "" {
			payload, trailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-checksum-crc32c"
		}
		for header, want := range map[string]string{"X-Amz-Checksum-Crc32c": test.checksum, "X-Amz-Content-Sha256": payload, "X-Amz-Trailer": trailer} {
			if got := seen.Header.Get(header); got != want {
				t.Errorf("%s: header %s is %q, want %q", name, header, got, want)
			}
		}
		if signed := seen.Header.Get("Authorization"); test.checksum != "" && !strings.Contains(signed, "x-amz-checksum-crc32c") {
			t.Errorf("%s: the checksum is not signed: %s", name, signed)
		}
	}
}

// verifies fails unless the server finds bytes that changed since their checksum was computed.
func verifies(t *testing.T, s *s3.Store) {
	t.Helper()
	wantKind(t, "put of changed bytes", s.Put(t.Context(), "sums/changed", wrong(3), objectstore.PutOptions{}), nil)
	_, err := s.Head(t.Context(), "sums/changed")
	wantKind(t, "head of what was refused", err, objectstore.ErrNotFound)
	if err := s.VerifySums(t.Context(), "sums/k"); err != nil {
		t.Error(err)
	}
	body := newSummed(3)
	if err := s.Put(t.Context(), "sums/k", body, objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "sums/k", body)
	if err := s.Delete(t.Context(), "sums/k"); err != nil {
		t.Error(err)
	}
}

func TestChecksumVerified(t *testing.T)           { verifies(t, newFake(t, s3.Options{}, nil)) }
func TestChecksumVerifiedRealServer(t *testing.T) { verifies(t, realServer(t, s3.ChecksumCRC32C)) }

// TestVerifySums: servers that do not compare what the head says, or that keep a trailer as if it were content, are refused at the
// start, with a hint.
func TestVerifySums(t *testing.T) {
	ignoresHead := func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("X-Amz-Checksum-Crc32c")
		return false
	}
	keepsTrailer := func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("X-Amz-Content-Sha256")
		return false
	}
	for name, before := range map[string]func(http.ResponseWriter, *http.Request) bool{"head": ignoresHead, "trailer": keepsTrailer} {
		err := objectstore.Probe(t.Context(), newFake(t, s3.Options{}, before))
		wantKind(t, name, err, objectstore.ErrRejected)
		if err != nil && !strings.Contains(err.Error(), "md5") {
			t.Errorf("%s: %v: does not say what to do", name, err)
		}
		for _, checksum := range []s3.Checksum{s3.ChecksumMD5, s3.ChecksumNone} {
			if err := objectstore.Probe(t.Context(), newFake(t, s3.Options{Checksum: checksum}, before)); err != nil {
				t.Errorf("%s, checksum %s: %v", name, checksum, err)
			}
		}
	}
}

// TestMemoryIsLeftAlone: once a put has returned, whatever the reason, nothing reads the caller's memory (the race detector would
// see it), and a put whose server takes no more bytes does not wait for them.
func TestMemoryIsLeftAlone(t *testing.T) {
	for _, how := range []string{"canceled", "refused", "cut"} {
		t.Run(how, func(t *testing.T) {
			release := make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			s := newFake(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) bool {
				_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
				switch how {
				case "canceled":
					cancel()
					<-release
				case "refused":
					http.Error(w, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden)
				case "cut":
					cut(t, w)
				}
				return true
			})
			body, start := newSummed(64), time.Now()
			err := s.Put(ctx, "k", body, objectstore.PutOptions{})
			for _, p := range body.pieces {
				clear(p)
			}
			close(release)
			cancel()
			if err == nil || errors.Is(err, objectstore.ErrOutcomeUnknown) {
				t.Errorf("put = %v: the server cannot have got it whole", err)
			}
			if took := time.Since(start); took > 20*time.Second { // StallTimeout is 30 s
				t.Errorf("the put took %v to return", took)
			}
		})
	}
}

// TestNoChecksumAtGoogle: minio-go sends none there, which must not go unnoticed.
func TestNoChecksumAtGoogle(t *testing.T) {
	for checksum, ok := range map[s3.Checksum]bool{"": false, s3.ChecksumCRC32C: false, s3.ChecksumMD5: true} {
		_, err := s3.New(s3.Options{Endpoint: "https://storage.googleapis.com", Bucket: bucket, Checksum: checksum,
			Credentials: s3.Credentials{AccessKey: "a", SecretKey: "s"}})
		if (err == nil) != ok {
			t.Errorf("checksum %q at Google: %v", checksum, err)
		}
	}
}
