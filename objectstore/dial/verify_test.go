package dial_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/dial"
)

// TestVerifySums: the probe of checksums gets through all that Open puts around a store.
func TestVerifySums(t *testing.T) {
	var path atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { // takes whatever comes
		_, _ = io.Copy(io.Discard, r.Body)
		path.Store(r.URL.Path)
	}))
	t.Cleanup(server.Close)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := dial.Open(t.Context(), dial.Config{URL: "s3://bucket/prefix?path-style=true&endpoint=" + server.URL,
		AccessKeyFile: key, SecretKeyFile: key, Meter: noop.Meter{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := objectstore.VerifySums(t.Context(), s, "k"); !errors.Is(err, objectstore.ErrRejected) {
		t.Errorf("VerifySums of a server that compares nothing = %v", err)
	}
	if got := path.Load(); got != "/bucket/prefix/k" {
		t.Errorf("the probe put %v", got)
	}
}
