package prefixed_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/acceptance"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
	"github.com/tidemarkmq/tidemark/objectstore/prefixed"
)

func TestAcceptance(t *testing.T) {
	acceptance.Run(t, func(t *testing.T) objectstore.Store {
		inner := memory.New()
		for _, key := range []string{"p/other", "p/xy", "a", "z/1"} { // what is not below the prefix is never seen
			if err := inner.Put(t.Context(), key, strings.NewReader("foreign"), objectstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		s, err := prefixed.New(inner, "p/x")
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestNew(t *testing.T) {
	inner := memory.New()
	for _, prefix := range []string{"", "/"} {
		if s, err := prefixed.New(inner, prefix); err != nil || s != objectstore.Store(inner) {
			t.Errorf("New with the prefix %q = %v, %v; want the store itself", prefix, s, err)
		}
	}
	for _, bad := range []string{"..", "a//b", "a/../b", ".x", strings.Repeat("x", 124)} {
		if _, err := prefixed.New(inner, bad); !errors.Is(err, objectstore.ErrRejected) {
			t.Errorf("New with the prefix %q: %v, want ErrRejected", bad, err)
		}
	}
	s, err := prefixed.New(inner, "/a/b/")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "c", strings.NewReader("x"), objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := inner.Head(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
}
