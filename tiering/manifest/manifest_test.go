package manifest

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
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

var update = flag.Bool("update", false, "rewrite golden files")

var part = metadata.PartitionID{Topic: metadata.TopicID{1, 2, 3}, Partition: 300}

func sample() *Manifest {
	return &Manifest{
		Partition: part, Generation: 9, CreatedMs: 1700000000999, End: 1000,
		Children: []Child{
			{Object: segment.ID{Kind: segment.Manifests, Epoch: 5, Seq: 1, Nonce: 77}, Position: 17, Length: 9999, CRC: 1, Start: 10, End: 100, Segments: 30, SizeBytes: 1 << 40, MaxTimestampMs: 1699999999999},
			{Object: segment.ID{Kind: segment.Manifests, Epoch: 5, Seq: 2, Nonce: 78}, Length: 99, CRC: 2, Start: 100, End: 200, Segments: 3, SizeBytes: 5, MaxTimestampMs: -1},
		},
		Segments: []Segment{
			{Object: segment.ID{Kind: segment.Merged, Epoch: 5, Seq: 3, Nonce: 1 << 63}, Start: 200, End: 600, SizeBytes: 1 << 28, MaxTimestampMs: 1700000000000, SealedMs: 1700000000500, IndexAt: 1 << 29, IndexBytes: 500, IndexCRC: 7},
			{Object: segment.ID{Kind: segment.Shared, Epoch: 4, Seq: 900, Nonce: 2}, Start: 601, End: 900, SizeBytes: 300, MaxTimestampMs: -1, SealedMs: 1700000000400, IndexAt: 1000, IndexBytes: 50, HasAborted: true,
				Blocks: []segment.Block{{BaseOffset: 601, NextOffset: 700, MaxTimestampMs: -1, Position: 160, Length: 100, LeaderEpoch: 2, CRC: 9}, {BaseOffset: 700, NextOffset: 900, Position: 260, Length: 200, LeaderEpoch: 3}}},
			{Object: segment.ID{Kind: segment.Single, Epoch: 4, Seq: 901, Nonce: 3}, Start: 900, End: 1000, SizeBytes: 9 << 20, MaxTimestampMs: 5, SealedMs: 1700000000600, IndexAt: 9<<20 + 160, IndexBytes: 700},
		},
		Epochs:    []EpochStart{{0, 0}, {2, 601}, {3, 700}},
		Producers: []byte("state"),
	}
}

func encoded(m *Manifest) []byte { return must(Append(nil, m)) }

func encodedChild(segments []Segment) []byte { return must(AppendChild(nil, part, segments)) }

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestWhatCannotBeReadIsNotWritten(t *testing.T) {
	before := encoded(sample())
	m := sample()
	empty := *m
	empty.Producers = nil
	room := MaxBlobBytes - len(encoded(&empty)) - 3 // the length's own bytes
	m.Producers = make([]byte, room)
	b, err := Append(before, m)
	if err != nil || len(b)-len(before) != MaxBlobBytes {
		t.Fatalf("%d bytes: %v", len(b)-len(before), err)
	}
	if _, err := Decode(b[len(before):]); err != nil {
		t.Fatal(err)
	}
	m.Producers = make([]byte, room+1)
	b, err = Append(before, m)
	if !errors.Is(err, ErrTooLarge) || !bytes.Equal(b, before) {
		t.Errorf("%d bytes: %v", len(b), err)
	}
}

func TestRoundTrip(t *testing.T) {
	for name, m := range map[string]*Manifest{"sample": sample(), "empty": {Partition: part}, "emptied": {Partition: part, Generation: 3, End: 55, Epochs: []EpochStart{{1, 50}}}} {
		got, err := Decode(encoded(m))
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: %v\n%+v\n%+v", name, err, got, m)
		}
	}
	m := sample()
	p, segments, err := DecodeChild(encodedChild(m.Segments))
	if err != nil || p != part || !reflect.DeepEqual(segments, m.Segments) {
		t.Errorf("child: %v, %v, %+v", err, p, segments)
	}
	if m.Start() != 10 || m.SizeBytes() != 1<<40+5+1<<28+300+9<<20 || m.MaxTimestampMs() != 1700000000000 {
		t.Errorf("start %d, size %d, max timestamp %d", m.Start(), m.SizeBytes(), m.MaxTimestampMs())
	}
}

func TestGolden(t *testing.T) {
	m := sample()
	b := encoded(m)
	b = append(b, encodedChild(m.Segments)...)
	b = append(b, encoded(&Manifest{Partition: part, Generation: 1, End: 4})...)
	var dump bytes.Buffer
	if err := Dump(&dump, b); err != nil {
		t.Fatal(err)
	}
	for path, got := range map[string][]byte{"testdata/manifests-v1.bin": b, "testdata/manifests-v1.txt": dump.Bytes()} {
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs (%v): manifests in buckets could no longer be read, or the dump changed\n%s", path, err, dump.String())
		}
	}
	n := 0
	err := Walk(b, func(ref Ref, got *Manifest) error {
		n++
		_, err := Decode(b[ref.Position : ref.Position+ref.Length])
		return err
	})
	if err != nil || n != 2 {
		t.Errorf("walk found %d manifests: %v", n, err)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	good := encoded(sample())
	for i := range good {
		if i == 6 || i == 7 {
			continue // reserved
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := Decode(bad); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for n := range good {
		if _, err := Decode(good[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
}

func TestSpillKeepsManifestsSmall(t *testing.T) {
	m := &Manifest{Partition: part}
	segmentOf := func(i int) Segment {
		start := metadata.Offset(i * 10)
		return Segment{Object: segment.ID{Kind: segment.Shared, Epoch: 1 << 40, Seq: uint64(i), Nonce: uint64(i) * 0x9e3779b97f4a7c15}, Start: start, End: start + 10,
			SizeBytes: 1000, MaxTimestampMs: int64(i), SealedMs: 1700000000000 + int64(i), IndexAt: 1 << 20, IndexBytes: 1 << 12,
			Blocks: []segment.Block{{BaseOffset: start, NextOffset: start + 10, Position: 160, Length: 1000}}}
	}
	var all []Segment
	blobs := map[uint64][]byte{}
	for i := range 20_000 {
		m.Segments = append(m.Segments, segmentOf(i))
		all = append(all, segmentOf(i))
		m.End = m.Segments[len(m.Segments)-1].End
		if i%500 != 0 {
			continue
		}
		for n := m.Spill(InlineBytes, ChildBytes); n > 0; n = m.Spill(InlineBytes, ChildBytes) {
			b := encodedChild(m.Segments[:n])
			ref := Ref{Object: segment.ID{Kind: segment.Manifests, Seq: uint64(i), Nonce: uint64(len(blobs))}, Length: int64(len(b))}
			blobs[ref.Object.Nonce] = b
			m.Children = append(m.Children, NewChild(m.Segments[:n], ref, codec.CRC(b)))
			m.Segments = m.Segments[n:]
		}
		if b := encoded(m); len(b) > InlineBytes+len(m.Children)*100+200 {
			t.Fatalf("manifest of %d bytes with %d children after %d segments", len(b), len(m.Children), i)
		}
	}
	if len(m.Children) < 5 {
		t.Fatalf("only %d children", len(m.Children))
	}
	back, err := Decode(encoded(m))
	if err != nil {
		t.Fatal(err)
	}
	var got []Segment
	for _, c := range back.Children {
		if len(blobs[c.Object.Nonce]) > ChildBytes+1000 || codec.CRC(blobs[c.Object.Nonce]) != c.CRC {
			t.Errorf("child of %d bytes", len(blobs[c.Object.Nonce]))
		}
		_, segments, err := DecodeChild(blobs[c.Object.Nonce])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, segments...)
	}
	if got = append(got, back.Segments...); !reflect.DeepEqual(got, all) {
		t.Error("children and segments together are not what was put in")
	}
}

func TestEpochs(t *testing.T) {
	var e []EpochStart
	e = AppendEpoch(e, 2, 0)
	e = AppendEpoch(e, 2, 7)
	e = AppendEpoch(e, 5, 10)
	e = AppendEpoch(e, 4, 11)
	e = AppendEpoch(e, 9, 20)
	if !reflect.DeepEqual(e, []EpochStart{{2, 0}, {5, 10}, {9, 20}}) {
		t.Fatalf("epochs %v", e)
	}
	cases := []struct {
		asked, epoch metadata.LeaderEpoch
		end          metadata.Offset
		found        bool
	}{{1, 0, 0, false}, {2, 2, 10, true}, {4, 2, 10, true}, {5, 5, 20, true}, {8, 5, 20, true}, {9, 9, 33, true}, {99, 9, 33, true}}
	for _, c := range cases {
		epoch, end, found := EpochEnd(e, 33, c.asked)
		if epoch != c.epoch || end != c.end || found != c.found {
			t.Errorf("asked %d: epoch %d ends %d, %v", c.asked, epoch, end, found)
		}
	}
	if got := TrimEpochs(e, 15); !reflect.DeepEqual(got, e[1:]) {
		t.Errorf("trimmed to %v", got)
	}
	if got := TrimEpochs(e, 99); !reflect.DeepEqual(got, e[2:]) {
		t.Errorf("trimmed to %v", got)
	}
}

func TestRef(t *testing.T) {
	const cluster = "AAAAAAAAAAAAAAAAAAAAAA"
	want := Ref{Object: segment.ID{Kind: segment.Manifests, Epoch: 8, Seq: 9, Nonce: 10}, Position: 12345, Length: 678}
	ref := EncodeRef(cluster, want, 4, 99)
	got, err := DecodeRef(cluster, ref)
	if err != nil || got != want || ref.Generation != 4 || ref.End != 99 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, key := range []string{"", ref.Key + "x", ref.Key[:20], ref.Key[:len(ref.Key)-6], segment.ID{Kind: segment.Shared}.Key(cluster) + "@0"} {
		bad := ref
		bad.Key = key
		if _, err := DecodeRef(cluster, bad); err == nil {
			t.Errorf("%q was accepted", key)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(sample())[BlobHeaderBytes:], true)
	f.Add(encodedChild(sample().Segments)[BlobHeaderBytes:], false)
	f.Fuzz(func(t *testing.T, body []byte, whole bool) {
		b := append(make([]byte, BlobHeaderBytes), body...)
		kind := byte(kindChild)
		if whole {
			kind = kindManifest
		}
		if _, err := finishBlob(b, 0, kind, part); err != nil {
			t.Fatal(err)
		}
		_ = Dump(io.Discard, b)
		_ = Dump(io.Discard, body)
		_, _, _ = DecodeChild(b)
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(encoded(m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("a manifest that was read is not read again: %v", err)
		}
	})
}
