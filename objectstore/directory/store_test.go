package directory_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/acceptance"
	"github.com/tidemarkmq/tidemark/objectstore/directory"
)

func open(t *testing.T, dir string) *directory.Store {
	t.Helper()
	s, err := directory.New(directory.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s objectstore.Store, key, content string, opts objectstore.PutOptions) {
	t.Helper()
	if err := s.Put(t.Context(), key, strings.NewReader(content), opts); err != nil {
		t.Fatalf("Put(%s): %v", key, err)
	}
}

// files returns the names of all files below dir, sorted.
func files(t *testing.T, dir string) []string {
	t.Helper()
	names := []string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, err = filepath.Rel(dir, name)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func TestAcceptance(t *testing.T) {
	acceptance.Run(t, func(t *testing.T) objectstore.Store { return open(t, t.TempDir()) })
}

// TestFilesAreObjects: the folder is the bucket's content, and outlives the process with its nonces.
func TestFilesAreObjects(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "new")
	s := open(t, dir)
	put(t, s, "ab/c/d.seg", "content", objectstore.PutOptions{IfAbsent: true, Nonce: "n-1"})
	if got, err := os.ReadFile(filepath.Join(dir, "ab", "c", "d.seg")); err != nil || string(got) != "content" {
		t.Fatalf("the object's file holds %q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	if info, err := again.Head(t.Context(), "ab/c/d.seg"); err != nil || info.Nonce != "n-1" {
		t.Fatalf("Head after opening again = %+v, %v", info, err)
	}
	err := again.Put(t.Context(), "ab/c/d.seg", strings.NewReader("other"), objectstore.PutOptions{IfAbsent: true})
	if !errors.Is(err, objectstore.ErrPreconditionFailed) {
		t.Fatalf("conditional put after opening again: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, ".tidemark")); err != nil { // as a copy that leaves it out
		t.Fatal(err)
	}
	if info, err := open(t, dir).Head(t.Context(), "ab/c/d.seg"); err != nil || info.Nonce != "" || info.SizeBytes != 7 {
		t.Fatalf("Head in a copy = %+v, %v", info, err)
	}
}

// TestLeavesNothing: objects come and go, and neither files nor folders stay behind, whatever the puts' outcome.
func TestLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, nonce := range []string{"", "n1", "n2", "n2"} {
		put(t, s, "deep/er/folder/o", "x", objectstore.PutOptions{Nonce: nonce})
	}
	for _, nonce := range []string{"", "n2", "n3"} {
		err := s.Put(t.Context(), "deep/er/folder/o", strings.NewReader("y"), objectstore.PutOptions{IfAbsent: true, Nonce: nonce})
		if !errors.Is(err, objectstore.ErrPreconditionFailed) {
			t.Fatalf("conditional put: %v", err)
		}
	}
	if info, err := s.Head(t.Context(), "deep/er/folder/o"); err != nil || info.Nonce != "n2" {
		t.Fatalf("Head = %+v, %v; want n2", info, err)
	}
	if got := files(t, dir); len(got) != 2 { // the object and its nonce
		t.Fatalf("one object needs the files %q", got)
	}
	if err := s.Delete(t.Context(), "deep/er/folder/o"); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Fatalf("without objects there are the files %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "deep")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the empty folder was not pruned: %v", err)
	}
}

// TestSweep: what a crash leaves is neither listed nor kept.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "a/object", "x", objectstore.PutOptions{Nonce: "kept"})
	tmp := filepath.Join(dir, ".tidemark", "tmp")
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{"torn", "linked", "named", "young"} {
		if err := os.WriteFile(filepath.Join(tmp, name), bytes.Repeat([]byte("t"), 10), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// One put crashed between its nonce and its name, another after its name.
	orphan := filepath.Join(dir, ".tidemark", "nonce", "00", strings.Repeat("0", 32)+".orphan")
	if err := errors.Join(os.MkdirAll(filepath.Dir(orphan), 0o755), os.Link(filepath.Join(tmp, "linked"), orphan),
		os.Link(filepath.Join(tmp, "named"), filepath.Join(dir, "a", "named"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"torn", "linked", "named"} {
		if err := os.Chtimes(filepath.Join(tmp, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, dir)
	var listed []string
	if err := again.List(t.Context(), "", "", func(info objectstore.Info) error {
		listed = append(listed, info.Key)
		return nil
	}); err != nil || !slices.Equal(listed, []string{"a/named", "a/object"}) {
		t.Fatalf("List = %q, %v", listed, err)
	}
	got := files(t, dir)
	if len(got) != 4 || !slices.Contains(got, ".tidemark/tmp/young") {
		t.Fatalf("after the sweep there are %q; want two objects, one nonce and the young temporary file", got)
	}
	if info, err := again.Head(t.Context(), "a/object"); err != nil || info.Nonce != "kept" {
		t.Fatalf("Head = %+v, %v", info, err)
	}
}

// TestNoEscape: not even a symbolic link leads out of the folder.
func TestNoEscape(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if err := errors.Join(os.Symlink(outside, filepath.Join(dir, "link")),
		os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "file"))); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	p := make([]byte, 6)
	for _, key := range []string{"link/secret", "file"} {
		if n, err := s.GetRange(t.Context(), key, p, 0); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("GetRange(%s) = %d, %v; want an error", key, n, err)
		}
	}
	if err := s.Put(t.Context(), "link/new", strings.NewReader("x"), objectstore.PutOptions{}); err == nil {
		t.Error("Put through a symbolic link succeeded")
	}
	if got := files(t, outside); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("outside there are %q", got)
	}
	if err := s.List(t.Context(), "", "", func(info objectstore.Info) error {
		t.Errorf("List reports %s", info.Key)
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestPruneRace: puts into a folder that deletes of its last object keep pruning.
func TestPruneRace(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for _, key := range []string{"p/q/1", "p/q/2", "p/q/3"} {
		wg.Go(func() {
			for range 60 {
				if err := s.Put(context.Background(), key, strings.NewReader(key), objectstore.PutOptions{IfAbsent: true}); err != nil {
					t.Errorf("Put(%s): %v", key, err)
				}
				if err := s.Delete(context.Background(), key); err != nil {
					t.Errorf("Delete(%s): %v", key, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestTwoProcesses: the condition holds between stores that share the folder.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	stores := []*directory.Store{open(t, dir), open(t, dir)}
	for round := range 20 {
		key := strings.Repeat("r", round+1)
		errs := make([]error, len(stores))
		var wg sync.WaitGroup
		for i, s := range stores {
			wg.Go(func() {
				errs[i] = s.Put(context.Background(), key, strings.NewReader("x"), objectstore.PutOptions{IfAbsent: true})
			})
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), objectstore.ErrPreconditionFailed) {
			t.Fatalf("round %d: %v and %v", round, errs[0], errs[1])
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s, err := directory.New(directory.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	body := bytes.NewReader(make([]byte, 8<<20))
	b.SetBytes(body.Size())
	for i := 0; b.Loop(); i++ {
		key := "ab/cluster/0/1-" + string(rune('a'+i%26)) + ".seg"
		if err := s.Put(b.Context(), key, body, objectstore.PutOptions{Nonce: "n"}); err != nil {
			b.Fatal(err)
		}
	}
}
