package s3_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/s3"
)

// sentinels are all of the contract's errors.
var sentinels = []error{objectstore.ErrNotFound, objectstore.ErrPreconditionFailed, objectstore.ErrThrottled,
	objectstore.ErrOutcomeUnknown, objectstore.ErrRejected}

// wantKind fails unless err is an error of exactly this kind; nil stands for an error that is none of the sentinels.
func wantKind(t *testing.T, what string, err, want error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
	}
	for _, kind := range sentinels {
		wanted := want != nil && errors.Is(want, kind)
		if errors.Is(err, kind) != wanted {
			t.Errorf("%s: error %q: is %q: %v", what, err, kind, !wanted)
		}
	}
}

var calls = map[string]func(context.Context, *s3.Store) error{
	"put": func(ctx context.Context, s *s3.Store) error {
		return s.Put(ctx, "k", strings.NewReader("content"), objectstore.PutOptions{IfAbsent: true})
	},
	"get": func(ctx context.Context, s *s3.Store) error {
		_, err := s.GetRange(ctx, "k", make([]byte, 7), 0)
		return err
	},
	"head": func(ctx context.Context, s *s3.Store) error {
		_, err := s.Head(ctx, "k")
		return err
	},
	"list": func(ctx context.Context, s *s3.Store) error {
		return s.List(ctx, "", "", func(objectstore.Info) error { return nil })
	},
	"delete":      func(ctx context.Context, s *s3.Store) error { return s.Delete(ctx, "k") },
	"delete many": func(ctx context.Context, s *s3.Store) error { return s.Delete(ctx, "k", "l") },
}

// answer is a server that gives every request the same answer and counts them.
func answer(status int, code string, count *atomic.Int32) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		count.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>for the test</Message></Error>", code)
		}
		return true
	}
}

// TestErrors: what the server says becomes one of the contract's errors, and is asked for once only.
func TestErrors(t *testing.T) {
	none := error(nil)
	unknown, throttled, rejected := objectstore.ErrOutcomeUnknown, objectstore.ErrThrottled, objectstore.ErrRejected
	for _, test := range []struct {
		status       int
		code         string
		write, read  error // for puts and deletes, for gets and lists
		alsoHead     bool  // a HEAD has no body, and so no code
		onlyForReads bool
	}{
		{status: 503, code: "SlowDown", write: throttled, read: throttled, alsoHead: true},
		{status: 503, code: "SlowDownWrite", write: throttled, read: throttled},
		{status: 429, code: "TooManyRequests", write: throttled, read: throttled, alsoHead: true},
		{status: 503, code: "ServiceUnavailable", write: unknown, read: throttled, alsoHead: true},
		{status: 500, code: "InternalError", write: unknown, read: none, alsoHead: true},
		{status: 502, code: "", write: unknown, read: none, alsoHead: true},
		{status: 504, code: "GatewayTimeout", write: unknown, read: none, alsoHead: true},
		{status: 403, code: "AccessDenied", write: rejected, read: rejected, alsoHead: true},
		{status: 403, code: "SignatureDoesNotMatch", write: rejected, read: rejected},
		{status: 400, code: "ExpiredToken", write: none, read: none},
		{status: 400, code: "RequestTimeout", write: none, read: none},
		{status: 400, code: "BadDigest", write: none, read: none},
		{status: 400, code: "InvalidRequest", write: rejected, read: rejected, alsoHead: true},
		{status: 301, code: "PermanentRedirect", write: rejected, read: rejected},
		{status: 404, code: "NoSuchBucket", write: rejected, read: rejected},
		{status: 404, code: "NoSuchKey", read: objectstore.ErrNotFound, onlyForReads: true, alsoHead: true},
		{status: 412, code: "PreconditionFailed", write: objectstore.ErrPreconditionFailed, read: objectstore.ErrPreconditionFailed},
		{status: 409, code: "ConditionalRequestConflict", write: none, read: none},
		{status: 409, code: "OperationAborted", write: none, read: none},
	} {
		var count atomic.Int32
		s := newFake(t, s3.Options{}, answer(test.status, test.code, &count))
		for verb, call := range calls {
			want, isRead := test.write, verb == "get" || verb == "list" || verb == "head"
			if isRead {
				want = test.read
			}
			if verb == "head" && !test.alsoHead || !isRead && test.onlyForReads {
				continue
			}
			before := count.Load()
			wantKind(t, fmt.Sprintf("%s answered %d %s", verb, test.status, test.code), call(t.Context(), s), want)
			if n := count.Load() - before; n != 1 {
				t.Errorf("%s answered %d %s: %d requests, want 1", verb, test.status, test.code, n)
			}
		}
	}
}

// TestDeletePartly: DeleteObjects answers 200 and names what it did not delete.
func TestDeletePartly(t *testing.T) {
	reply := ""
	s := newFake(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) bool {
		fmt.Fprint(w, "<DeleteResult>"+reply+"</DeleteResult>")
		return true
	})
	const deleted = "<Deleted><Key>k</Key></Deleted>"
	for code, want := range map[string]error{"AccessDenied": objectstore.ErrRejected, "SlowDown": objectstore.ErrThrottled,
		"InternalError": objectstore.ErrOutcomeUnknown} {
		reply = deleted + "<Error><Key>l</Key><Code>" + code + "</Code><Message>no</Message></Error>"
		wantKind(t, code, s.Delete(t.Context(), "k", "l"), want)
	}
	reply = deleted
	wantKind(t, "silence about a key", s.Delete(t.Context(), "k", "l"), objectstore.ErrOutcomeUnknown)
	reply = deleted + "<Error><Key>l</Key><Code>NoSuchKey</Code></Error>"
	if err := s.Delete(t.Context(), "k", "l"); err != nil {
		t.Errorf("a missing key: %v", err)
	}
}

// cut ends the connection without an answer.
func cut(t *testing.T, w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	conn.Close()
}

// TestCutConnection: a put that the server may have got whole is of unknown outcome; one that it cannot have got is not.
func TestCutConnection(t *testing.T) {
	var readBody atomic.Bool
	readBody.Store(true)
	s := newFake(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) bool {
		if readBody.Load() {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		cut(t, w)
		return true
	})
	for verb, call := range calls {
		want := error(nil)
		if verb == "put" || strings.HasPrefix(verb, "delete") {
			want = objectstore.ErrOutcomeUnknown
		}
		wantKind(t, verb+" that was cut", call(t.Context(), s), want)
	}
	wantKind(t, "put of nothing", s.Put(t.Context(), "k", strings.NewReader(""), objectstore.PutOptions{}), objectstore.ErrOutcomeUnknown)
	readBody.Store(false)
	body := bytes.NewReader(make([]byte, 64<<20)) // more than the sockets can hold
	wantKind(t, "put that was cut early", s.Put(t.Context(), "k", body, objectstore.PutOptions{}), nil)
}

func TestNoServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	s := newStore(t, s3.Options{Endpoint: "http://" + address, Bucket: bucket, Credentials: s3.Credentials{AccessKey: "a", SecretKey: "s"}})
	for verb, call := range calls {
		wantKind(t, verb, call(t.Context(), s), nil)
	}
}

// TestHangingServer: no call waits for ever, even with a ctx that would.
func TestHangingServer(t *testing.T) {
	release := make(chan struct{})
	hang := func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
		return true
	}
	for name, opts := range map[string]s3.Options{
		"head of the response": {ResponseTimeout: 50 * time.Millisecond},
		"whole request":        {RequestTimeout: 50 * time.Millisecond},
	} {
		s := newFake(t, opts, hang)
		for verb, call := range calls {
			err := call(t.Context(), s)
			if verb == "put" || strings.HasPrefix(verb, "delete") {
				wantKind(t, name+": "+verb, err, objectstore.ErrOutcomeUnknown)
			} else {
				wantKind(t, name+": "+verb, err, nil)
			}
			if name == "whole request" && errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, but the caller's ctx is not done", verb, err)
			}
		}
	}
	close(release)
}

// TestHangingUpload: a server that stops taking bytes.
func TestHangingUpload(t *testing.T) {
	release := make(chan struct{})
	s := newFake(t, s3.Options{StallTimeout: 50 * time.Millisecond}, func(http.ResponseWriter, *http.Request) bool {
		<-release
		return true
	})
	err := s.Put(t.Context(), "k", bytes.NewReader(make([]byte, 64<<20)), objectstore.PutOptions{})
	close(release)
	wantKind(t, "put", err, nil) // the server cannot have got it whole
}

// TestTornDownload: a body that ends early or hangs is an error, not the end of the object.
func TestTornDownload(t *testing.T) {
	release := make(chan struct{})
	var hanging atomic.Bool
	s := newFake(t, s3.Options{RequestTimeout: 200 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Range", "bytes 10-109/1000")
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 40))
		w.(http.Flusher).Flush()
		if hanging.Load() {
			<-release
		}
		cut(t, w)
		return true
	})
	for _, hangs := range []bool{false, true} {
		hanging.Store(hangs)
		n, err := s.GetRange(t.Context(), "k", make([]byte, 100), 10)
		wantKind(t, fmt.Sprintf("torn get, hangs %v", hangs), err, nil)
		if n != 0 || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("torn get, hangs %v: %d, %v", hangs, n, err)
		}
		if !hangs && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("torn get: %v, want io.ErrUnexpectedEOF", err)
		}
	}
	close(release)
}

// TestWrongRange: bytes of another place are never taken for those asked for.
func TestWrongRange(t *testing.T) {
	for _, contentRange := range []string{"", "bytes 0-9/1000", "bytes 11-20/1000", "bytes 10-19/*", "bytes 10-19/5", "chunks 10-19/1000", "bytes 19-10/1000"} {
		s := newFake(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) bool {
			if contentRange != "" {
				w.Header().Set("Content-Range", contentRange)
			}
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			_, _ = w.Write(make([]byte, 10))
			return true
		})
		n, err := s.GetRange(t.Context(), "k", make([]byte, 10), 10)
		wantKind(t, "Content-Range "+contentRange, err, nil)
		if n != 0 || errors.Is(err, io.EOF) {
			t.Errorf("Content-Range %q: %d, %v", contentRange, n, err)
		}
	}
}

// TestCanceledPut: given up by the caller after the server had it all, a put is canceled and of unknown outcome.
func TestCanceledPut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	s := newFake(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-release
		return true
	})
	err := s.Put(ctx, "k", strings.NewReader("content"), objectstore.PutOptions{})
	close(release)
	wantKind(t, "put", err, objectstore.ErrOutcomeUnknown)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("put = %v, want context.Canceled too", err)
	}
}

// TestRequest: where the bucket's name goes, and that a request carries region, nonce and condition.
func TestRequest(t *testing.T) {
	var seen *http.Request
	s := newFake(t, s3.Options{Region: "eu-north-7", Addressing: s3.AddressingPath}, func(_ http.ResponseWriter, r *http.Request) bool {
		seen = r.Clone(context.Background())
		return false
	})
	if err := s.Put(t.Context(), "a/b", strings.NewReader("x"), objectstore.PutOptions{IfAbsent: true, Nonce: "n-1", ContentType: "text/x"}); err != nil {
		t.Fatal(err)
	}
	if seen.URL.Path != "/"+bucket+"/a/b" || seen.URL.RawQuery != "" {
		t.Errorf("put went to %s", seen.URL)
	}
	for name, want := range map[string]string{"If-None-Match": "*", "X-Amz-Meta-Tidemark-Nonce": "n-1", "Content-Type": "text/x"} {
		if got := seen.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if got := seen.Header.Get("Authorization"); !strings.Contains(got, "/eu-north-7/s3/aws4_request") {
		t.Errorf("signed as %q", got)
	}
}

func TestNewRefuses(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]s3.Options{
		"no bucket":         {},
		"endpoint's scheme": {Bucket: bucket, Endpoint: "ftp://host"},
		"no scheme":         {Bucket: bucket, Endpoint: "localhost:9000"},
		"path":              {Bucket: bucket, Endpoint: "http://host/path"},
		"secret alone":      {Bucket: bucket, Credentials: s3.Credentials{SecretKey: "x"}},
		"key file":          {Bucket: bucket, Credentials: s3.Credentials{AccessKeyFile: missing, SecretKeyFile: missing}},
		"CA file missing":   {Bucket: bucket, CAFile: missing},
		"CA file":           {Bucket: bucket, CAFile: noPEM},
		"checksum":          {Bucket: bucket, Checksum: "crc16"},
	} {
		if _, err := s3.New(opts); err == nil {
			t.Errorf("%s: New took it", name)
		}
	}
}

// TestTLS: a server whose certificate only the CA file vouches for.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it is about the first handshake, which is to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pemOf(server.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := s3.Options{Endpoint: server.URL, Bucket: bucket, Addressing: s3.AddressingPath, Credentials: s3.Credentials{AccessKey: "a", SecretKey: "s"}}
	_, err := newStore(t, opts).Head(t.Context(), "k")
	wantKind(t, "without the CA", err, nil)
	opts.CAFile = ca
	_, err = newStore(t, opts).Head(t.Context(), "k")
	wantKind(t, "with the CA", err, objectstore.ErrNotFound)
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	access, secret := filepath.Join(dir, "access"), filepath.Join(dir, "secret")
	if err := errors.Join(os.WriteFile(access, []byte("  from-file\n"), 0o600), os.WriteFile(secret, []byte("secret\r\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	var authorization string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	s := newStore(t, s3.Options{Endpoint: server.URL, Bucket: bucket, Credentials: s3.Credentials{AccessKeyFile: access, SecretKeyFile: secret}})
	_, err := s.Head(t.Context(), "k")
	wantKind(t, "head", err, objectstore.ErrNotFound)
	if !strings.Contains(authorization, "Credential=from-file/") {
		t.Errorf("signed as %q", authorization)
	}
}

func pemOf(certificate []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}
