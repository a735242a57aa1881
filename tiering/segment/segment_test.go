package segment

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"reflect"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/codec"
)

var update = flag.Bool("update", false, "rewrite golden files")

func topic(b byte) metadata.TopicID { return metadata.TopicID{0: b, 15: 0xee} }

func sampleParts() ([]Part, []byte) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 40)
	block := func(base, next metadata.Offset, ts int64, from, to int, epoch metadata.LeaderEpoch) Block {
		return Block{BaseOffset: base, NextOffset: next, MaxTimestampMs: ts, Length: int32(to - from), LeaderEpoch: epoch, CRC: codec.CRC(data[from:to])}
	}
	return []Part{
		{Partition: metadata.PartitionID{Topic: topic(1)}, Start: 0, End: 10, Blocks: []Block{block(0, 4, 1700000000000, 0, 100, 3), block(4, 10, 1600000000000, 100, 250, 4)}},
		{Partition: metadata.PartitionID{Topic: topic(1), Partition: 7}, Start: 1 << 40, End: 1<<40 + 9, Producers: []byte("producer state"), ProducersAt: 1<<40 + 9,
			Blocks:  []Block{block(1<<40+2, 1<<40+3, -1, 250, 300, 0)},
			Aborted: []Aborted{{ProducerID: 9, FirstOffset: 1<<40 + 1, LastOffset: 1<<40 + 5, LastStable: 1<<40 + 6}}},
		{Partition: metadata.PartitionID{Topic: topic(2), Partition: 1}, Start: 5, End: 6, Blocks: []Block{block(5, 6, 0, 300, 640, 0)}},
	}, data
}

func sampleHeader() Header {
	return Header{ID: ID{Kind: Shared, Epoch: 77, Seq: 3, Nonce: 0xfeedfacecafe}, Cluster: "AAAAAAAAAAAAAAAAAAAAAA", Stream: "local-77", From: 4096, To: 8192, Created: 1700000000123}
}

// shifted makes a reader of block bytes from data that begins at the first block.
type shifted struct{ data []byte }

func (s shifted) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s.data).ReadAt(p, off-HeaderBytes)
}

func sampleObject(t testing.TB) ([]byte, *Layout) {
	t.Helper()
	parts, data := sampleParts()
	l, err := Plan(sampleHeader(), parts)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, l.SizeBytes())
	if n, err := l.Body(shifted{data}).ReadAt(b, 0); err != nil || n != len(b) {
		t.Fatalf("read %d of %d: %v", n, len(b), err)
	}
	return b, l
}

func TestObjectRoundTrip(t *testing.T) {
	b, l := sampleObject(t)
	h, err := DecodeHeader(b)
	if err != nil || h != sampleHeader() {
		t.Fatalf("header %+v: %v", h, err)
	}
	x, f, err := DecodeTail(b[l.Footer.IndexAt:])
	if err != nil || f != l.Footer {
		t.Fatalf("tail %+v: %v", f, err)
	}
	if !reflect.DeepEqual(*x, l.Index) {
		t.Fatalf("index differs:\n%+v\n%+v", *x, l.Index)
	}
	for i := range x.Parts {
		if x.Part(x.Parts[i].Partition) != &x.Parts[i] {
			t.Errorf("part %d not found by its partition", i)
		}
		for j := range x.Parts[i].Blocks {
			if err := VerifyBlock(bytes.NewReader(b), &x.Parts[i].Blocks[j]); err != nil {
				t.Error(err)
			}
		}
	}
	if x.Part(metadata.PartitionID{Topic: topic(1), Partition: 3}) != nil {
		t.Error("a partition that is not there was found")
	}
}

func TestBodyReadsAtEveryPosition(t *testing.T) {
	whole, l := sampleObject(t)
	_, data := sampleParts()
	body := l.Body(shifted{data})
	for off := 0; off <= len(whole); off += 13 {
		p := make([]byte, 97)
		n, err := body.ReadAt(p, int64(off))
		want := whole[off:min(off+len(p), len(whole))]
		if !bytes.Equal(p[:n], want) || (n < len(p)) != (err == io.EOF) {
			t.Fatalf("at %d: %d bytes, %v", off, n, err)
		}
	}
}

func TestGolden(t *testing.T) {
	b, _ := sampleObject(t)
	const path = "testdata/object-v1.bin"
	if *update {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("the encoding changed: objects in buckets could no longer be read")
	}
	var out bytes.Buffer
	if err := Dump(&out, bytes.NewReader(want), int64(len(want)), DumpOptions{Blocks: true, Verify: true}); err != nil {
		t.Fatal(err)
	}
	const dumpPath = "testdata/object-v1.txt"
	if *update {
		if err := os.WriteFile(dumpPath, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wantDump, err := os.ReadFile(dumpPath)
	if err != nil || out.String() != string(wantDump) {
		t.Errorf("dump differs (%v):\n%s", err, out.String())
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	good, _ := sampleObject(t)
	ignored := map[int]bool{}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if err := Dump(io.Discard, bytes.NewReader(bad), int64(len(bad)), DumpOptions{Verify: true}); err == nil {
			ignored[i] = true
		} else if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Errorf("byte %d: unexpected error %v", i, err)
		}
	}
	if len(ignored) != 0 {
		t.Errorf("changes went unnoticed at %v", ignored)
	}
	for n := range good {
		if err := Dump(io.Discard, bytes.NewReader(good[:n]), int64(n), DumpOptions{}); err == nil {
			t.Fatalf("an object cut to %d bytes was accepted", n)
		}
	}
}

func TestPlanRefusesMalformedParts(t *testing.T) {
	p := metadata.PartitionID{Topic: topic(1)}
	cases := map[string][]Part{
		"overlap":     {{Partition: p, End: 9, Blocks: []Block{{NextOffset: 5, Length: 1}, {BaseOffset: 4, NextOffset: 9, Length: 1}}}},
		"past end":    {{Partition: p, End: 4, Blocks: []Block{{NextOffset: 5, Length: 1}}}},
		"empty block": {{Partition: p, End: 5, Blocks: []Block{{NextOffset: 5}}}},
		"twice":       {{Partition: p, End: 5}, {Partition: p, End: 5}},
		"no offsets":  {{Partition: p, End: 5, Blocks: []Block{{Length: 3}}}},
	}
	for name, parts := range cases {
		if _, err := Plan(sampleHeader(), parts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestKeys(t *testing.T) {
	const cluster = "AAAAAAAAAAAAAAAAAAAAAA"
	for _, id := range []ID{{Kind: Shared, Epoch: 1, Seq: 2, Nonce: 3}, {Kind: Manifests, Epoch: 1 << 63, Seq: 1<<64 - 1}, {Kind: Merged, Nonce: 9}, {Kind: Single}} {
		key := id.Key(cluster)
		got, err := ParseKey(cluster, key)
		if err != nil || got != id {
			t.Errorf("%s: %+v, %v", key, got, err)
		}
		found := false
		for _, p := range Prefixes(cluster) {
			found = found || len(key) > len(p) && key[:len(p)] == p
		}
		if !found {
			t.Errorf("%s has none of the prefixes", key)
		}
	}
	good := ID{Kind: Shared, Epoch: 1}.Key(cluster)
	for _, bad := range []string{"", "x", good + "0", "zz" + good[2:], good[:len(good)-1], "00/other/s/0-0-0"} {
		if _, err := ParseKey(cluster, bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestEndBlock(t *testing.T) {
	cases := []struct {
		block, batch int
		epochs       [2]metadata.LeaderEpoch
		want         bool
	}{
		{0, 5 << 20, [2]metadata.LeaderEpoch{0, 3}, false},
		{100, 100, [2]metadata.LeaderEpoch{1, 1}, false},
		{100, 100, [2]metadata.LeaderEpoch{1, 2}, true},
		{BlockBytes, 1, [2]metadata.LeaderEpoch{1, 1}, true},
		{BlockBytes - 1, MaxBlockBytes - BlockBytes + 1, [2]metadata.LeaderEpoch{1, 1}, false},
		{BlockBytes - 1, MaxBlockBytes - BlockBytes + 2, [2]metadata.LeaderEpoch{1, 1}, true},
	}
	for _, c := range cases {
		if got := EndBlock(c.block, c.batch, c.epochs[0], c.epochs[1]); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, l := sampleObject(f)
	f.Add(b)
	f.Add(b[l.Footer.IndexAt:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = DecodeHeader(b)
		_, _, _ = DecodeTail(b)
		_ = Dump(io.Discard, bytes.NewReader(b), int64(len(b)), DumpOptions{Blocks: true, Verify: true})
		x, err := DecodeIndex(b)
		if err != nil {
			return
		}
		again, err := DecodeIndex(AppendIndex(nil, x))
		if err != nil || !reflect.DeepEqual(x, again) {
			t.Fatalf("an index that was read is not read again: %v", err)
		}
	})
}
