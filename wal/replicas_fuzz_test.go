package wal_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// FuzzReplicaAppend: whatever a peer sends, a replica takes only what follows and is whole, and shows it again as it came.
func FuzzReplicaAppend(f *testing.F) {
	src := writeOriginal(f, 1000, 12)
	for i := range 4 {
		k := joined(src.groups[i:], 2)
		f.Add(k.Bytes, uint8(i), k.Segment.Sequence, uint64(k.Segment.First), k.Segment.SizeBytes, uint64(k.Position))
	}
	f.Add([]byte{1}, uint8(0), uint64(1), uint64(0), int64(1)<<40, uint64(1)<<63)
	f.Fuzz(func(t *testing.T, b []byte, held uint8, sequence, first uint64, size int64, pos uint64) {
		disk := crashfs.New()
		rs, err := openReplicas(t, disk, wal.SyncNone)
		if err != nil {
			t.Fatal(err)
		}
		defer rs.Close()
		a, _, err := rs.Open(t.Context(), testStream, src.header, src.oldest(), true)
		if err != nil {
			t.Fatal(err)
		}
		before := wal.Position(0)
		for _, k := range src.groups[:held%8] {
			if before, err = a.Append(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		k := wal.Chunk{Segment: wal.SegmentRef{Sequence: sequence, First: wal.Position(first), SizeBytes: size}, Position: wal.Position(pos), Bytes: b}
		end, err := a.Append(t.Context(), k)
		if err != nil {
			if !errors.Is(err, wal.ErrMalformed) {
				t.Fatal(err)
			}
			end = before
		} else if end != k.End() || end <= before {
			t.Fatalf("durable up to %d after %d, a chunk [%d, %d)", end, before, k.Position, k.End())
		}
		src.checkReplicaEntries(t, rs, end)
	})
}

// checkReplicaEntries compares entries, since nothing says what padding holds.
func (o original) checkReplicaEntries(t *testing.T, rs *wal.Replicas, end wal.Position) {
	var want, got []byte
	collect := func(to *[]byte) func(wal.Entry) error {
		return func(e wal.Entry) error { *to = append(*to, e.Data...); return nil }
	}
	for _, k := range o.groups {
		if k.End() <= end {
			_ = k.EachEntry(0, end, collect(&want))
		}
	}
	for pos := wal.Position(0); pos < end; {
		k, err := rs.Read(t.Context(), testStream, pos, 1, nil)
		if err != nil || len(k.Bytes) == 0 {
			t.Fatalf("read at %d: %v", pos, err)
		}
		_ = k.EachEntry(0, end, collect(&got))
		pos = k.End()
	}
	if !bytes.Equal(want, got) {
		t.Fatal("the replica's entries differ")
	}
}

// FuzzReplicaState: a damaged state file is never believed, nor a reason to panic.
func FuzzReplicaState(f *testing.F) {
	golden, err := os.ReadFile("testdata/replica-v1.state")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(golden[:5000])
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		if err := wal.DumpReplicaState(&out, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		disk := crashfs.New()
		_ = disk.MkdirAll(replicaDir)
		disk.WriteFile(replicaDir+"/0000000000000abc.state", b)
		rs, err := openReplicas(t, disk, wal.SyncNone)
		if err != nil {
			t.Fatal(err)
		}
		defer rs.Close()
		if _, err := rs.Fence(t.Context(), testStream, 1); err != nil && !errors.Is(err, wal.ErrLimbo) && !errors.Is(err, wal.ErrFenced) {
			t.Fatal(err)
		}
	})
}

// TestReplicaStateGolden: the bytes of format version 1, and how they are printed.
func TestReplicaStateGolden(t *testing.T) {
	disk := crashfs.New()
	rs, err := openReplicas(t, disk, wal.SyncNone)
	if err != nil {
		t.Fatal(err)
	}
	h := wal.StreamHeader{Epoch: 1000, Nonce: 0x0123456789abcdef, Owner: [16]byte{1, 2, 3}, SegmentBytes: 64 << 10}
	if _, _, err := rs.Open(t.Context(), testStream, h, wal.SegmentRef{Sequence: 3, First: 1 << 20, SizeBytes: 64 << 10}, true); err != nil {
		t.Fatal(err)
	}
	if _, err := rs.Fence(t.Context(), testStream, 1234); err != nil {
		t.Fatal(err)
	}
	got := disk.ReadFile(replicaDir + "/0000000000000abc.state")
	const path = "testdata/replica-v1"
	var dump bytes.Buffer
	if err := wal.DumpReplicaState(&dump, bytes.NewReader(got)); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		_ = os.WriteFile(path+".state", got, 0o644)
		_ = os.WriteFile(path+".dump", dump.Bytes(), 0o644)
	}
	want, err := os.ReadFile(path + ".state")
	if err != nil || !bytes.Equal(want, got) {
		t.Errorf("the state file differs from the golden one: %v", err)
	}
	text, err := os.ReadFile(path + ".dump")
	if err != nil || !bytes.Equal(text, dump.Bytes()) {
		t.Errorf("the dump differs from the golden one: %v\n%s", err, dump.Bytes())
	}
}
