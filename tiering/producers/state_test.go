package producers

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/tidemarkmq/tidemark/tiering/batch"
)

var update = flag.Bool("update", false, "rewrite golden files")

// hdr is a batch of n records of producer 1.
func hdr(epoch int16, seq, n int32) *batch.Header {
	return &batch.Header{ProducerID: 1, ProducerEpoch: epoch, BaseSequence: seq, LastOffsetDelta: n - 1, Count: n, MaxTimestampMs: 77}
}

// script drives a state as a partition does: check, and append unless refused or duplicate.
type script struct {
	t     *testing.T
	state State
	next  int64
}

func (s *script) send(h *batch.Header, wantErr error, wantDup int64) {
	s.t.Helper()
	dup, ok, err := s.state.Check(h)
	if !errors.Is(err, wantErr) || (err != nil) != (wantErr != nil) {
		s.t.Fatalf("epoch %d seq %d: got %v, want %v", h.ProducerEpoch, h.BaseSequence, err, wantErr)
	}
	if ok != (wantDup >= 0) || (ok && dup.FirstOffset != wantDup) {
		s.t.Fatalf("epoch %d seq %d: duplicate %v %+v, want offset %d", h.ProducerEpoch, h.BaseSequence, ok, dup, wantDup)
	}
	if err == nil && !ok {
		h.BaseOffset = s.next
		s.state.Apply(h, 1000)
		s.next = h.NextOffset()
	}
}

func TestSequences(t *testing.T) {
	const fresh = -1
	s := &script{t: t}
	s.send(hdr(0, 0, 10), nil, fresh) // offsets 0-9
	s.send(hdr(0, 0, 10), nil, 0)
	s.send(hdr(0, 10, 5), nil, fresh) // 10-14
	s.send(hdr(0, 10, 4), ErrOutOfOrderSequence, fresh)
	s.send(hdr(0, 16, 1), ErrOutOfOrderSequence, fresh)
	s.send(hdr(0, 5, 1), ErrOutOfOrderSequence, fresh)
	s.send(hdr(0, 15, 1), nil, fresh) // 15
	s.send(hdr(0, 16, 1), nil, fresh)
	s.send(hdr(0, 17, 1), nil, fresh)
	for _, dup := range []struct{ seq, n, at int32 }{{0, 10, 0}, {10, 5, 10}, {15, 1, 15}, {16, 1, 16}, {17, 1, 17}} {
		s.send(hdr(0, dup.seq, dup.n), nil, int64(dup.at))
	}
	s.send(hdr(0, 18, 1), nil, fresh)
	s.send(hdr(0, 0, 10), ErrOutOfOrderSequence, fresh) // left the window of 5

	s.send(hdr(2, 5, 1), ErrOutOfOrderSequence, fresh) // a new epoch starts at 0
	s.send(hdr(2, 0, 1), nil, fresh)
	s.send(hdr(2, 0, 1), nil, 19)
	s.send(hdr(1, 0, 1), ErrInvalidEpoch, fresh)
	s.send(hdr(0, 18, 1), ErrInvalidEpoch, fresh) // not a duplicate any more
}

func TestUnknownProducerMayStartAnywhere(t *testing.T) {
	s := &script{t: t}
	s.send(hdr(3, 4711, 2), nil, -1)
	s.send(hdr(3, 4713, 1), nil, -1)
	s.send(hdr(3, 4715, 1), ErrOutOfOrderSequence, -1)
}

func TestSequenceWrap(t *testing.T) {
	s := &script{t: t}
	s.send(hdr(0, math.MaxInt32-1, 4), nil, -1) // ends at 1
	s.send(hdr(0, math.MaxInt32-1, 4), nil, 0)
	s.send(hdr(0, 2, 1), nil, -1)
	s = &script{t: t}
	s.send(hdr(0, math.MaxInt32, 1), nil, -1)
	s.send(hdr(0, 1, 1), ErrOutOfOrderSequence, -1)
	s.send(hdr(0, 0, 1), nil, -1)
	s.send(hdr(0, math.MaxInt32, 1), nil, 0)
}

func TestPlainBatchesLeaveNoTrace(t *testing.T) {
	s := &script{t: t}
	h := &batch.Header{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1, Count: 1}
	s.send(h, nil, -1)
	s.send(h, nil, -1)
	if s.state.Len() != 0 {
		t.Fatal("state kept")
	}
}

func TestTransactions(t *testing.T) {
	txn := func(seq int32) *batch.Header { h := hdr(0, seq, 1); h.Attributes = 0x10; return h }
	s := &script{t: t}
	s.send(txn(0), nil, -1)
	s.send(hdr(0, 1, 1), ErrTransactionState, -1)
	s.send(txn(1), nil, -1)
	if e := s.state.Entry(1); e.TxnFirstOffset != 0 {
		t.Fatalf("%+v", e)
	}
	if s.state.Expire(math.MaxInt64, 1) != 0 {
		t.Fatal("expired with an open transaction")
	}
	s.state.EndTransaction(&batch.Header{ProducerID: 1, ProducerEpoch: 1, Attributes: 0x30}, 5, 2000)
	s.send(hdr(1, 1, 1), ErrOutOfOrderSequence, -1)
	s.send(hdr(1, 0, 1), nil, -1)
	if e := s.state.Entry(1); e.CoordinatorEpoch != 5 || e.TxnFirstOffset != None || e.LastSeq() != 0 {
		t.Fatalf("%+v", e)
	}
}

func TestExpire(t *testing.T) {
	s := &script{t: t}
	s.send(hdr(0, 0, 1), nil, -1)
	if n := s.state.Expire(1999, 1000); n != 0 {
		t.Fatal(n)
	}
	if n := s.state.Expire(2000, 1000); n != 1 || s.state.Len() != 0 {
		t.Fatal(n)
	}
	s.send(hdr(0, 1, 1), nil, -1)
}

// TestMergeEqualsReplay: whatever way a log is cut into deltas, merging them gives the state of the whole.
func TestMergeEqualsReplay(t *testing.T) {
	var log []*batch.Header
	offset := int64(0)
	add := func(pid int64, h *batch.Header) {
		h.ProducerID, h.BaseOffset = pid, offset
		offset = h.NextOffset()
		log = append(log, h)
	}
	for i := range int32(8) {
		add(1, hdr(0, i*2, 2))
		add(2, hdr(5, i, 1))
	}
	add(1, hdr(1, 0, 3))
	add(1, hdr(1, 3, 3))
	txn := hdr(5, 8, 1)
	txn.Attributes = 0x10
	add(2, txn)
	var whole State
	for _, h := range log {
		whole.Apply(h, 9)
	}
	want := whole.Encode(nil)
	for a := range log {
		for b := a; b <= len(log); b++ {
			got := &State{}
			for _, part := range [][]*batch.Header{log[:a], log[a:b], log[b:]} {
				var delta State
				for _, h := range part {
					delta.Apply(h, 9)
				}
				back, err := Decode(delta.Encode(nil))
				if err != nil {
					t.Fatal(err)
				}
				got.Merge(back)
				got.Merge(back) // twice is harmless
			}
			if !bytes.Equal(got.Encode(nil), want) {
				var x, y strings.Builder
				_, _ = got.Dump(&x), whole.Dump(&y)
				t.Fatalf("cut at %d and %d:\n%s\nwant\n%s", a, b, x.String(), y.String())
			}
		}
	}
}

func TestMergeOpenTransaction(t *testing.T) {
	txn := func(seq int32, at int64) *batch.Header {
		h := hdr(0, seq, 1)
		h.Attributes, h.BaseOffset = 0x10, at
		return h
	}
	var whole, delta State
	whole.Apply(txn(0, 10), 1)
	delta.Apply(txn(1, 20), 1)
	whole.Merge(&delta)
	if e := whole.Entry(1); e.TxnFirstOffset != 10 {
		t.Fatalf("the transaction began at 10, got %d", e.TxnFirstOffset)
	}
	var end State
	end.EndTransaction(&batch.Header{ProducerID: 1, ProducerEpoch: 1}, 3, 2)
	whole.Merge(&end)
	if e := whole.Entry(1); e.TxnFirstOffset != None || e.CoordinatorEpoch != 3 || e.Epoch != 1 || len(e.Batches()) != 0 {
		t.Fatalf("%+v", e)
	}
}

func TestCloneIsIndependent(t *testing.T) {
	s := &script{t: t}
	s.send(hdr(0, 0, 1), nil, -1)
	c := s.state.Clone()
	s.send(hdr(0, 1, 1), nil, -1)
	if c.Entry(1).LastSeq() != 0 {
		t.Fatal("clone changed")
	}
}

func sample() *State {
	var s State
	for i := range int32(7) {
		h := hdr(0, i*3, 3)
		h.BaseOffset, h.MaxTimestampMs = int64(i)*3, 1_700_000_000_000+int64(i)
		s.Apply(h, 1_700_000_001_000)
	}
	txn := hdr(4, 0, 1)
	txn.ProducerID, txn.BaseOffset, txn.Attributes = 1<<40, 21, 0x10
	s.Apply(txn, 1_700_000_002_000)
	s.EndTransaction(&batch.Header{ProducerID: 99, ProducerEpoch: 7}, 12, 1_700_000_003_000)
	return &s
}

func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "state-v1.bin")
	got := sample().Encode(nil)
	var text bytes.Buffer
	if err := sample().Dump(&text); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, got, 0o644), os.WriteFile(path+".txt", text.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("encoding changed:\n% x\nwant\n% x", got, want)
	}
	back, err := Decode(want)
	if err != nil {
		t.Fatal(err)
	}
	var dump bytes.Buffer
	if err := back.Dump(&dump); err != nil {
		t.Fatal(err)
	}
	wantText, err := os.ReadFile(path + ".txt")
	if err != nil || dump.String() != string(wantText) {
		t.Fatalf("dump changed (%v):\n%s\nwant\n%s", err, dump.String(), wantText)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := sample().Encode(nil)
	bad := map[string][]byte{
		"empty": nil, "version": append([]byte{2}, good[1:]...), "cut off": good[:len(good)-1], "too long": append(bytes.Clone(good), 0),
		"huge count": {Version, 0xff, 0xff, 0xff, 0xff, 0x0f},
	}
	for name, b := range bad {
		if _, err := Decode(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, err := Decode((&State{}).Encode(nil)); err != nil || s.Len() != 0 {
		t.Errorf("empty state: %v", err)
	}
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(State{}); n > 8 {
		t.Errorf("an idle partition pays %d bytes", n)
	}
	if n := unsafe.Sizeof(Entry{}); n > 160 {
		t.Errorf("a producer takes %d bytes", n)
	}
	s := &script{t: t}
	s.send(hdr(0, 0, 1), nil, -1)
	h := hdr(0, 1, 1)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := s.state.Check(h); err != nil {
			t.Fatal(err)
		}
		s.state.Apply(h, 1)
		h.BaseSequence++
	}); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample().Encode(nil))
	f.Add((&State{}).Encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(s.Encode(nil))
		if err != nil || !bytes.Equal(again.Encode(nil), s.Encode(nil)) {
			t.Fatalf("does not survive a round trip: %v", err)
		}
		s.Merge(again)
		s.Merge(sample())
		s.Expire(math.MaxInt64, 1)
	})
}
