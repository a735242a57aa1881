package objectstore_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
)

// lacking is a store that lacks one thing that some servers lack.
type lacking struct {
	*memory.Store
	what string
}

func (l lacking) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	opts.IfAbsent = opts.IfAbsent && l.what != "conditions"
	if l.what == "metadata" {
		opts.Nonce = ""
	}
	return l.Store.Put(ctx, key, body, opts)
}

func (l lacking) GetRange(ctx context.Context, key string, p []byte, offset int64) (int, error) {
	if l.what == "ranges" {
		offset = 0
	}
	return l.Store.GetRange(ctx, key, p, offset)
}

func (l lacking) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	if l.what == "listed" {
		return nil
	}
	return l.Store.List(ctx, prefix, after, fn)
}

func (l lacking) Delete(ctx context.Context, keys ...string) error {
	if l.what == "still there" {
		return nil
	}
	return l.Store.Delete(ctx, keys...)
}

func TestProbe(t *testing.T) {
	inner := memory.New()
	if err := objectstore.Probe(t.Context(), inner); err != nil {
		t.Fatalf("a good store: %v", err)
	}
	for _, what := range []string{"conditions", "metadata", "ranges", "listed", "still there"} {
		if err := objectstore.Probe(t.Context(), lacking{inner, what}); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("a store that lacks %s: %v", what, err)
		}
	}
	denied := faulty.New(inner, faulty.Rule{Fault: faulty.Failed, Err: objectstore.ErrRejected, Count: faulty.Forever})
	if err := objectstore.Probe(t.Context(), denied); !errors.Is(err, objectstore.ErrRejected) {
		t.Errorf("a store that refuses: %v", err)
	}
	_ = inner.List(t.Context(), "", "", func(info objectstore.Info) error {
		if strings.HasPrefix(info.Key, "probe/") {
			return nil // of the store that keeps what is deleted
		}
		t.Errorf("left behind: %s", info.Key)
		return nil
	})
}

func TestReadAll(t *testing.T) {
	s := memory.New()
	if err := s.Put(t.Context(), "k", strings.NewReader("content"), objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := objectstore.ReadAll(t.Context(), s, "k", 7); err != nil || string(got) != "content" {
		t.Errorf("ReadAll = %q, %v", got, err)
	}
	if _, err := objectstore.ReadAll(t.Context(), s, "k", 6); err == nil {
		t.Error("ReadAll took an object of more bytes than allowed")
	}
	if _, err := objectstore.ReadAll(t.Context(), s, "missing", 6); !errors.Is(err, objectstore.ErrNotFound) {
		t.Errorf("ReadAll of a missing object: %v", err)
	}
	torn := faulty.New(s, faulty.Rule{Op: faulty.Get, Fault: faulty.Torn})
	if _, err := objectstore.ReadAll(t.Context(), torn, "k", 7); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAll of a torn object: %v", err)
	}
}
