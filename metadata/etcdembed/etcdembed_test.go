package etcdembed_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/tidemarkmq/tidemark/metadata/etcdembed"
	"github.com/tidemarkmq/tidemark/metadata/kv"
	"github.com/tidemarkmq/tidemark/metadata/kv/kvtest"
)

func start(t testing.TB, dir string) *etcdembed.Server {
	t.Helper()
	s, err := etcdembed.Start(t.Context(), etcdembed.Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestAcceptance(t *testing.T) {
	s := start(t, t.TempDir())
	kvtest.Run(t, func(*testing.T) kvtest.Harness { return kvtest.Harness{KV: s.KV(), Compact: s.KV().Compact} })
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		began := time.Now()
		s := start(t, dir)
		t.Logf("start %d: ready after %s", i, time.Since(began))
		page, err := s.KV().Range(t.Context(), kv.Range{Start: "n", End: "o"})
		if err != nil || len(page.Pairs) != i {
			t.Fatalf("start %d: %d keys, %v", i, len(page.Pairs), err)
		}
		if _, err := s.KV().Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put("n"+string(rune('0'+i)), nil)}}); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}

func TestCloseEndsWatch(t *testing.T) {
	s := start(t, t.TempDir())
	done := make(chan error, 1)
	seen := make(chan struct{})
	go func() {
		done <- s.KV().Watch(t.Context(), "a", "b", 1, func(kv.Batch) error { close(seen); return nil })
	}()
	if _, err := s.KV().Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put("a", nil)}}); err != nil {
		t.Fatal(err)
	}
	<-seen
	s.Close()
	if err := <-done; !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("watch ended with %v", err)
	}
	if _, err := s.KV().Range(t.Context(), kv.Range{Start: "a"}); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("range after close: %v", err)
	}
}

func TestFolderInUse(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	began := time.Now()
	if _, err := etcdembed.Start(t.Context(), etcdembed.Options{Dir: dir}); err == nil || time.Since(began) > time.Second {
		t.Errorf("second server in the folder: %v after %s", err, time.Since(began))
	}
	s.Close()
	start(t, dir)
}

// A first start, a use and an end without trouble log nothing.
func TestQuiet(t *testing.T) {
	var log lockedBuffer
	s, err := etcdembed.Start(t.Context(), etcdembed.Options{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.KV().Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put("a", nil)}}); err != nil {
		t.Error(err)
	}
	s.Close()
	<-s.Stopped()
	if got := log.String(); got != "" {
		t.Errorf("logged:\n%s", got)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A disk that has no room at the first start is an error with its reason, not a panic.
func TestNoRoom(t *testing.T) {
	start(t, t.TempDir()).Close() // from here on the size of a segment stays as it is set
	usual := etcdwal.SegmentSizeBytes
	defer func() { etcdwal.SegmentSizeBytes = usual }()
	etcdwal.SegmentSizeBytes = 1 << 60 // more than any file system has
	s, err := etcdembed.Start(t.Context(), etcdembed.Options{Dir: t.TempDir()})
	if err == nil {
		s.Close()
		t.Fatal("started without room")
	}
	if !strings.Contains(err.Error(), "failed to create WAL: ") {
		t.Errorf("no reason in %v", err)
	}
}
