package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/tidemarkmq/tidemark"
	root   = "../.." // of the module, from here
)

// floors says which of our packages the packages below a folder may import. The longest matching folder holds; a folder
// may always import what lies below itself.
var floors = map[string][]string{
	"objectstore":      {},
	"wal":              {},
	"metadata":         {"objectstore", "wal"},
	"tiering":          {"objectstore", "wal", "metadata"},
	"tiering/batch":    {},
	"tiering/entry":    {"metadata"},
	"tiering/codec":    {},
	"tiering/segment":  {"metadata", "tiering/batch", "tiering/codec", "tiering/producers"},
	"tiering/manifest": {"metadata", "tiering/batch", "tiering/codec", "tiering/producers", "tiering/segment"},
	"broker":           {"objectstore", "wal", "metadata", "tiering"},
	"broker/wire":      {"tiering/batch"},
	"broker/server":    {"broker/wire"},
	"broker/configs":   {},
	"broker/group":     {"metadata"},
	"cmd":              {"objectstore", "wal", "metadata", "tiering", "broker", "loadtest/bench", "loadtest/process"},
	"loadtest":         {},
	"deploy":           {},
	".":                {},
}

// impure are imports that a PURE package may not have: I/O, clocks, randomness, processes, networks.
var impure = []string{"os", "net", "net/http", "crypto/rand", "math/rand", "math/rand/v2", "io/fs", "path/filepath", "os/exec", "syscall", "log/slog"}

// pure are the folders whose non-test files hold decisions and codecs only.
var pure = []string{"tiering/batch", "tiering/entry", "tiering/producers", "tiering/codec", "tiering/segment", "tiering/manifest", "broker/configs", "broker/group/classic", "broker/group/consumer", "broker/group/record", "broker/txn/core", "metadata/placement"}

// topLevel are the only entries that the root of the tree may have, hidden files aside.
var topLevel = regexp.MustCompile(`^(cmd|broker|tiering|metadata|wal|objectstore|loadtest|deploy|go\.(mod|sum)|LICENSE|Makefile|README\.md|ARCHITECTURE\.md)$`)

func TestTopLevelFolders(t *testing.T) {
	t.Chdir(root)
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, ".") && !topLevel.MatchString(name) && !ignoredByGit(name) {
			t.Errorf("%s stands at the top of the tree; only %s may", name, topLevel)
		}
	}
}

// ignoredByGit tells whether a name at the top is one of the plain patterns of .gitignore: what a build or `tidemark dev` leaves.
func ignoredByGit(name string) bool {
	rules, err := os.ReadFile(".gitignore")
	if err != nil {
		return false
	}
	for _, rule := range strings.Fields(string(rules)) {
		if ok, _ := path.Match(strings.Trim(rule, "/"), name); ok {
			return true
		}
	}
	return false
}

func TestFloors(t *testing.T) {
	eachGoFile(t, func(file, folder string, imports []string) {
		allowed, own := allowedFor(folder)
		for _, imp := range imports {
			rel, ours := strings.CutPrefix(imp, module+"/")
			if !ours || within(rel, own) || slices.ContainsFunc(allowed, func(a string) bool { return within(rel, a) }) {
				continue
			}
			if strings.HasSuffix(file, "_test.go") && !strings.HasPrefix(own, "loadtest") && !within(rel, "broker") && !within(rel, "cmd") {
				continue // tests may drive lower floors' twins
			}
			t.Errorf("%s imports %s: the floor %s may import only %v", file, rel, own, allowed)
		}
	})
}

func TestPurePackages(t *testing.T) {
	eachGoFile(t, func(file, folder string, imports []string) {
		if strings.HasSuffix(file, "_test.go") || !slices.ContainsFunc(pure, func(p string) bool { return within(folder, p) }) {
			return
		}
		for _, imp := range imports {
			if slices.Contains(impure, imp) {
				t.Errorf("%s imports %s, but %s is PURE", file, imp, folder)
			}
		}
	})
}

func eachGoFile(t *testing.T, fn func(file, folder string, imports []string)) {
	t.Helper()
	t.Chdir(root)
	seen := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" || ownModule(file)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		imports := make([]string, 0, len(parsed.Imports))
		for _, spec := range parsed.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, imp)
		}
		seen++
		fn(filepath.ToSlash(file), path.Dir(filepath.ToSlash(file)), imports)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Fatalf("only %d Go files found", seen)
	}
}

// ownModule tells whether the folder is the root of a Go module of its own.
func ownModule(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

func allowedFor(folder string) (allowed []string, own string) {
	for own = folder; ; own = path.Dir(own) {
		if allowed, ok := floors[own]; ok {
			return allowed, own
		}
		if own == "." {
			return nil, folder
		}
	}
}

func within(name, folder string) bool {
	return name == folder || strings.HasPrefix(name, folder+"/")
}
