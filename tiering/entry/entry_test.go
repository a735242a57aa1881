package entry

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
)

var update = flag.Bool("update", false, "rewrite golden files")

func sample() (Header, []byte) {
	h := Header{Partition: metadata.PartitionID{Topic: metadata.TopicID{0xde, 0xad, 15: 0xef}, Partition: 70_000}, LeaderEpoch: 258}
	b := make([]byte, HeaderBytes, HeaderBytes+5)
	Put(b, h)
	return h, append(b, "batch"...)
}

func TestGolden(t *testing.T) {
	h, b := sample()
	path := filepath.Join("testdata", "entry-v1.bin")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Fatalf("encoding changed:\n% x\nwant\n% x", b, want)
	}
	got, rest, err := Parse(want)
	if err != nil || got != h || string(rest) != "batch" {
		t.Fatalf("%+v %q %v", got, rest, err)
	}
	if s := got.String(); s != "3q0AAAAAAAAAAAAAAAAA7w-70000 epoch 258" {
		t.Fatal(s)
	}
}

func TestPutClearsUnusedFields(t *testing.T) {
	h, want := sample()
	b := bytes.Repeat([]byte{0xff}, HeaderBytes)
	Put(b, h)
	if !bytes.Equal(b, want[:HeaderBytes]) {
		t.Fatalf("% x", b)
	}
}

func TestParseRefuses(t *testing.T) {
	_, good := sample()
	for name, edit := range map[string]func([]byte) []byte{
		"empty":   func([]byte) []byte { return nil },
		"short":   func(b []byte) []byte { return b[:HeaderBytes-1] },
		"version": func(b []byte) []byte { b[0] = 2; return b },
		"kind":    func(b []byte) []byte { b[1] = 0; return b },
	} {
		if _, _, err := Parse(edit(bytes.Clone(good))); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, b := sample()
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := Parse(b)
		if err != nil {
			return
		}
		again := make([]byte, HeaderBytes)
		Put(again, h)
		if got, _, err := Parse(again); err != nil || got != h || len(rest) != len(b)-HeaderBytes {
			t.Fatalf("%+v, then %+v %v", h, got, err)
		}
	})
}
