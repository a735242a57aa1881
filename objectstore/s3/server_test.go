package s3_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/acceptance"
	"github.com/tidemarkmq/tidemark/objectstore/prefixed"
	"github.com/tidemarkmq/tidemark/objectstore/s3"
)

const bucket = "tidemark-test"

// fakeServer is gofakes3 in this process, taught what it lacks: bodies with a trailing checksum, conditions that hold
// against races, and that a put replaces metadata.
type fakeServer struct {
	inner http.Handler
	mu    sync.Mutex // makes the check of a condition and the put that it guards one step
	// before sees every request and may answer it.
	before func(w http.ResponseWriter, r *http.Request) (answered bool)
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.before != nil && s.before(w, r) {
		return
	}
	if r.Method == http.MethodPut {
		if err := unwrapBody(r); err != nil {
			http.Error(w, "<Error><Code>XAmzContentChecksumMismatch</Code><Message>"+err.Error()+"</Message></Error>", http.StatusBadRequest)
			return
		}
		if name := "X-Amz-Meta-Tidemark-Nonce"; r.Header.Get(name) == "" {
			r.Header.Set(name, "") // it keeps an overwritten object's metadata
		}
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	s.inner.ServeHTTP(w, r)
}

// unwrapBody reads the whole body; from one with Content-Encoding aws-chunked it takes the chunks, and checks its trailer.
func unwrapBody(r *http.Request) error {
	if r.Header.Get("X-Amz-Content-Sha256") != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
		data, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(data))
		if want := r.Header.Get("X-Amz-Checksum-Crc32c"); err == nil && want != "" && want != checksumOf(data) {
			err = fmt.Errorf("checksum %q, want %q", checksumOf(data), want)
		}
		return err
	}
	var data []byte
	in := bufio.NewReader(r.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(strings.TrimSpace(line), 16, 31)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return err
		}
		data = append(data, chunk[:n]...)
	}
	trailer, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if want := "x-amz-checksum-crc32c:" + checksumOf(data); !strings.EqualFold(strings.TrimSpace(trailer), want) {
		return fmt.Errorf("trailer %q, want %q", trailer, want)
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	r.ContentLength = int64(len(data))
	r.Header.Set("Content-Length", strconv.Itoa(len(data)))
	for _, name := range []string{"X-Amz-Content-Sha256", "Content-Encoding", "X-Amz-Trailer", "X-Amz-Decoded-Content-Length"} {
		r.Header.Del(name)
	}
	return nil
}

// checksumOf is the CRC32C of data as S3 writes it.
func checksumOf(data []byte) string {
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// newFake starts a server and returns a store in its bucket.
func newFake(t *testing.T, opts s3.Options, before func(http.ResponseWriter, *http.Request) bool) *s3.Store {
	t.Helper()
	server := httptest.NewServer(&fakeServer{inner: gofakes3.New(s3mem.New()).Server(), before: before})
	t.Cleanup(server.Close)
	opts.Endpoint, opts.Bucket = server.URL, bucket
	opts.Credentials = s3.Credentials{AccessKey: "access", SecretKey: "secret-key"}
	s := newStore(t, opts)
	server.Config.Handler.(*fakeServer).before = nil
	if err := s.EnsureBucket(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler.(*fakeServer).before = before
	return s
}

func newStore(t *testing.T, opts s3.Options) *s3.Store {
	t.Helper()
	s, err := s3.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestAcceptance(t *testing.T) {
	for _, checksum := range []s3.Checksum{s3.ChecksumCRC32C, s3.ChecksumMD5, s3.ChecksumNone} {
		t.Run(string(checksum), func(t *testing.T) {
			acceptance.Run(t, func(t *testing.T) objectstore.Store { return newFake(t, s3.Options{Checksum: checksum}, nil) })
		})
	}
}

// realServer returns a store on the server at TIDEMARK_TEST_S3_ENDPOINT, or skips the test.
func realServer(t testing.TB, checksum s3.Checksum) *s3.Store {
	opts := s3.Options{
		Endpoint: os.Getenv("TIDEMARK_TEST_S3_ENDPOINT"),
		Bucket:   os.Getenv("TIDEMARK_TEST_S3_BUCKET"),
		Region:   os.Getenv("TIDEMARK_TEST_S3_REGION"),
		Credentials: s3.Credentials{
			AccessKey: os.Getenv("TIDEMARK_TEST_S3_ACCESS_KEY"),
			SecretKey: os.Getenv("TIDEMARK_TEST_S3_SECRET_KEY"),
		},
		Addressing: s3.AddressingPath,
		Checksum:   checksum,
	}
	if opts.Endpoint == "" {
		t.Skip("TIDEMARK_TEST_S3_ENDPOINT names no server")
	}
	if opts.Bucket == "" {
		opts.Bucket = bucket
	}
	s, err := s3.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.EnsureBucket(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAcceptanceRealServer runs the suite against a real server, each test below a prefix of its own, which it empties.
func TestAcceptanceRealServer(t *testing.T) {
	for _, checksum := range []s3.Checksum{s3.ChecksumCRC32C, s3.ChecksumMD5, s3.ChecksumNone} {
		t.Run(string(checksum), func(t *testing.T) {
			s := realServer(t, checksum)
			if err := objectstore.Probe(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			acceptance.Run(t, func(t *testing.T) objectstore.Store {
				view, err := prefixed.New(s, "acceptance/"+rand.Text())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { empty(t, view) })
				return view
			})
		})
	}
}

func empty(t *testing.T, s objectstore.Store) {
	var keys []string
	err := s.List(context.Background(), "", "", func(info objectstore.Info) error {
		keys = append(keys, info.Key)
		return nil
	})
	if err == nil {
		err = s.Delete(context.Background(), keys...)
	}
	if err != nil {
		t.Errorf("cleaning up: %v", err)
	}
}
