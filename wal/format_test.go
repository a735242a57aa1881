package wal_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

var update = flag.Bool("update", false, "write the golden files anew")

const goldenSegment, goldenDump = "testdata/v1.wal", "testdata/v1.dump"

// goldenStream is five entries in three groups, in a segment that held another stream before.
func goldenStream(t *testing.T) []byte {
	disk := crashfs.New()
	synctest.Test(t, func(t *testing.T) {
		o := wal.Options{FS: disk, Dir: "/old", FreeDir: testFree, Epoch: 41, SegmentBytes: 32 << 10, SlabBytes: 16 << 10}.WithTestSizes(1, 32<<10)
		write(t, o, 6)
		r, err := wal.Recover(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Remove(); err != nil {
			t.Fatal(err)
		}
		o = wal.Options{FS: disk, Dir: testDir, FreeDir: testFree, Epoch: 42, SegmentBytes: 32 << 10, SlabBytes: 16 << 10}.WithTestSizes(0x0123456789abcdef, 32<<10)
		l := startOK(t, o)
		if _, err := appendWait(t.Context(), l, []byte("first")); err != nil {
			t.Fatal(err)
		}
		book := newLedger()
		var open []*entry
		var regions []func()
		for _, s := range []string{"second", "third, in the same group", "x"} {
			a, err := l.Admit(t.Context(), len(s))
			if err != nil {
				t.Fatal(err)
			}
			e := &entry{book: book, done: make(chan error, 1)}
			r := l.Append(a, len(s), e)
			regions = append(regions, func() { r.Write([]byte(s)); e.ref = r.Ref(); r.Done() })
			open = append(open, e)
		}
		for _, fill := range regions {
			fill()
		}
		for _, e := range open {
			if err := <-e.done; err != nil {
				t.Fatal(err)
			}
		}
		if _, err := appendWait(t.Context(), l, bytes.Repeat([]byte("last "), 1000)); err != nil {
			t.Fatal(err)
		}
	})
	return disk.ReadFile(testDir + "/0000000000000001.wal")
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the format changed", path)
	}
}

// TestGolden: what is written stays what it is, what was written stays readable.
func TestGolden(t *testing.T) {
	golden(t, goldenSegment, goldenStream(t))
	dir := t.TempDir()
	b, err := os.ReadFile(goldenSegment)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "0000000000000001.wal")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := wal.Recover(wal.Options{Dir: dir, Epoch: 42})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = r.Scan(t.Context(), 0, r.End(), func(e wal.Entry) error {
		got = append(got, string(e.Data[:min(6, len(e.Data))]))
		return nil
	})
	if err != nil || len(got) != 5 || got[1] != "second" || got[4] != "last l" {
		t.Fatal(got, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var file, folder bytes.Buffer
	if err := wal.Dump(&file, path); err != nil {
		t.Fatal(err)
	}
	if err := wal.Dump(&folder, dir); err != nil || folder.String() != file.String() {
		t.Fatal(err)
	}
	golden(t, goldenDump, file.Bytes())
	if err := wal.Dump(&file, filepath.Join(dir, "none")); err == nil {
		t.Error("dumped a file that is not there")
	}
}

// FuzzRecover: no content of a segment file makes recovery or the dumper fail in another way than by an error, and what
// recovery accepts can be scanned.
func FuzzRecover(f *testing.F) {
	b, err := os.ReadFile(goldenSegment)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, 0, byte(0))
	f.Add(b, 4096+48, byte(0xff))
	f.Add(b, 8192+60, byte(1))
	f.Add(b, 4096+64, byte(0x80))
	f.Add([]byte{}, 0, byte(0))
	f.Add(b[:5000], 4, byte(1))
	f.Add(b[4096:], 0, byte(0))
	f.Fuzz(func(t *testing.T, data []byte, at int, mask byte) {
		if len(data) > 1<<20 {
			return
		}
		data = bytes.Clone(data)
		if at >= 0 && at < len(data) {
			data[at] ^= mask
		}
		if err := wal.DumpSegment(new(bytes.Buffer), "x", bytes.NewReader(data), int64(len(data))); err != nil {
			t.Fatalf("dump: %v", err)
		}
		disk := crashfs.New()
		if err := disk.MkdirAll(testDir); err != nil {
			t.Fatal(err)
		}
		disk.WriteFile(testDir+"/0000000000000001.wal", data)
		r, err := wal.Recover(wal.Options{FS: disk, Dir: testDir})
		if err != nil {
			return
		}
		ctx := context.Background()
		last := wal.Position(0)
		err = r.Scan(ctx, r.Start(), r.End(), func(e wal.Entry) error {
			if e.Pos <= last && last != 0 || e.Next <= e.Pos-1 {
				t.Fatalf("entry at %d after %d", e.Pos, last)
			}
			last = e.Pos
			return r.ReadEntry(ctx, e.Pos, make([]byte, len(e.Data)))
		})
		if err != nil {
			t.Fatalf("recovered [%d, %d), but: %v", r.Start(), r.End(), err)
		}
	})
}
