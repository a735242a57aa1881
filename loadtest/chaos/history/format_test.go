package history_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"testing"

	. "github.com/tidemarkmq/tidemark/loadtest/chaos/history"
)

func operations(b []byte) ([]Op, error) {
	d := NewDecoder(bytes.NewReader(b))
	var all []Op
	for {
		var op Op
		if err := d.Next(&op); err != nil {
			return all, err
		}
		op.Records = append([]Record(nil), op.Records...)
		all = append(all, op)
	}
}

func TestFormat(t *testing.T) {
	b := txn(TxnCommitted).send(2, 0, 1).poll(1, 0, 0, 1).at(Corrupt, 1, 5).final(9).b
	golden, err := os.ReadFile("testdata/history.v1")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, golden) {
		t.Errorf("the format is not that of testdata/history.v1:\n%q", b)
	}
	all, err := operations(golden)
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var e Encoder
	again := []byte(Header)
	for i := range all {
		again = e.Append(again, &all[i])
	}
	if !bytes.Equal(again, golden) {
		t.Error("what was decoded is encoded in another way")
	}
	for n := len(Header); n < len(golden); n++ {
		cut, err := operations(golden[:n])
		if !errors.Is(err, ErrTorn) && !errors.Is(err, io.EOF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if len(cut) > 0 && !reflect.DeepEqual(cut, all[:len(cut)]) {
			t.Fatalf("cut at %d: other operations", n)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(begin().send(1, 0, 3).ack(1, 0, 3, 0).poll(1, 0, 0, 1).final(3).poll(9, 0, 0, 1, 2).b)
	f.Add(txn(TxnAborted).at(Marker, 9, 2).b)
	f.Fuzz(func(t *testing.T, b []byte) {
		all, _ := operations(b)
		var records uint64
		for _, op := range all {
			if records += uint64(op.Count); records > 1<<16 {
				return // memory for so many sends is asked for rightly
			}
			if op.Kind == Poll || op.Kind == Bounds { // nor gaps that take long to walk
				for _, r := range append(op.Records, Record{Offset: op.End}) {
					if r.Offset > 1<<16 {
						return
					}
				}
			}
		}
		_, _ = Check(bytes.NewReader(b))
	})
}

func BenchmarkCheck(b *testing.B) {
	s := begin()
	const n = 1 << 20
	for i := uint64(0); i < n; i += 64 {
		s.send(1, i, 64).ack(1, i, 64, int64(i))
	}
	s.final(n)
	for i := uint64(0); i < n; i += 64 {
		q := make([]uint64, 64)
		for j := range q {
			q[j] = i + uint64(j)
		}
		s.poll(9, int64(i), q...)
	}
	for b.Loop() {
		if r, err := Check(bytes.NewReader(s.b)); err != nil || r.Anomalies() > 0 || r.Checked != n {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
}
