package dial_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/dial"
)

func open(t *testing.T, cfg dial.Config) *dial.Store {
	t.Helper()
	cfg.Meter = noop.NewMeterProvider().Meter("test")
	s, err := dial.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Open(%s): %v", cfg.URL, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close of %s: %v", s, err)
		}
	})
	return s
}

func TestOpenLocal(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, u := range []string{"memory://", "memory://some/prefix", "file://" + filepath.ToSlash(dir) + "/a", "file://localhost" + filepath.ToSlash(dir) + "/b",
		"dir://" + filepath.ToSlash(dir) + "/c", "dir:" + filepath.ToSlash(dir) + "/d%20e", "dir:relative/f"} {
		s := open(t, dial.Config{URL: u})
		if err := objectstore.Probe(t.Context(), s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, name := range []string{"a", "b", "c", "d e", "relative/f"} {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name), ".tidemark")); err != nil {
			t.Errorf("no store at %s: %v", name, err)
		}
	}
}

func TestOpenS3(t *testing.T) {
	dir := t.TempDir()
	access, secret := filepath.Join(dir, "access"), filepath.Join(dir, "secret")
	for _, name := range []string{access, secret} {
		if err := os.WriteFile(name, []byte("key"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	backend := s3mem.New()
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	s := open(t, dial.Config{
		URL: "s3://bucket/some/prefix?endpoint=" + server.URL +
			"&region=eu-north-1&path-style=true&checksum=md5&create-bucket=true&max-connections=4&timeout=30s",
		AccessKeyFile: access, SecretKeyFile: secret,
	})
	if err := objectstore.Probe(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "a/b", strings.NewReader("x"), objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := backend.HeadObject("bucket", "some/prefix/a/b"); err != nil {
		t.Errorf("the object is not below the prefix: %v", err)
	}
}

// TestOpenSendsNothing: a store that is down does not keep a process from starting.
func TestOpenSendsNothing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("Open sent %s %s", r.Method, r.URL)
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	open(t, dial.Config{URL: "s3://bucket?endpoint=" + server.URL})
}

func TestOpenRefuses(t *testing.T) {
	for u, want := range map[string]string{
		"":                                   "no URL",
		"bucket":                             "scheme",
		"gs://bucket":                        `"gs"`,
		"s3://":                              "bucket",
		"s3://b?colour=red":                  `"colour"`,
		"s3://b?path-style=perhaps":          `"path-style"`,
		"s3://b?region=a&region=b":           `"region"`,
		"s3://b?timeout=-1s":                 `"timeout"`,
		"s3://b?max-connections=-1":          `"max-connections"`,
		"s3://b?endpoint=localhost:1":        "endpoint",
		"s3://b?checksum=x":                  "checksum",
		"s3://bucket/../c":                   "prefix",
		"s3://key:hunter2@b":                 "environment",
		"s3://b#fragment":                    "fragment",
		"s3://key:hunter2@b:port":            "URL",
		"memory://?x=1":                      `"x"`,
		"file://relative/path":               "three slashes",
		"file://":                            "no folder",
		"file:///tmp?sync=no":                `"sync"`,
		"s3://b?endpoint=http://u:hunter2@h": "endpoint",
		"s3://x/y":                           "shorter than 3",
		"s3://Upper/y":                       "no bucket can have this name",
		"s3://10.0.0.1/y?endpoint=http://h":  "ip address",
		"s3://localhost:9000/bucket":         "s3://BUCKET",
	} {
		s, err := dial.Open(t.Context(), dial.Config{URL: u})
		if err == nil {
			s.Close()
			t.Errorf("Open(%s) succeeded", u)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%s) = %v; want one that says %s and no secret", u, err, want)
		}
	}
}

func TestKeysAreForS3(t *testing.T) {
	for _, cfg := range []dial.Config{{URL: "memory://", AccessKeyFile: "x"}, {URL: "dir:" + filepath.ToSlash(t.TempDir()), CAFile: "x"}} {
		if s, err := dial.Open(t.Context(), cfg); err == nil {
			s.Close()
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
