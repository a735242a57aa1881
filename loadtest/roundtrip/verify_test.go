package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func testCorpus(t *testing.T) *corpus {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"a": "one\n\ntwo\n", "sub/b": "x\r\ny"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := loadCorpus(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func numbered(key, value string, line uint32) *kgo.Record {
	header := kgo.RecordHeader{Key: lineHeader, Value: binary.LittleEndian.AppendUint32(nil, line)}
	return &kgo.Record{Key: []byte(key), Value: []byte(value), Headers: []kgo.RecordHeader{header}}
}

func plain(key, value string) *kgo.Record {
	return &kgo.Record{Key: []byte(key), Value: []byte(value)}
}

func TestLedgerFindsEveryFault(t *testing.T) {
	for name, test := range map[string]struct {
		records []*kgo.Record
		want    verdict
	}{
		"all there": {
			[]*kgo.Record{numbered("a", "one", 0), numbered("sub/b", "x\r", 0), numbered("a", "", 1), numbered("sub/b", "y", 1), numbered("a", "two", 2)},
			verdict{records: 5},
		},
		"without numbers": {
			[]*kgo.Record{plain("a", "one"), plain("a", ""), plain("a", "two"), plain("sub/b", "x\r"), plain("sub/b", "y")},
			verdict{records: 5},
		},
		"lost":       {[]*kgo.Record{numbered("a", "one", 0), numbered("a", "", 1), numbered("a", "two", 2)}, verdict{records: 3, lost: 2}},
		"duplicated": {[]*kgo.Record{numbered("a", "one", 0), numbered("a", "", 1), numbered("a", "", 1)}, verdict{records: 3, lost: 3, duplicated: 1}},
		"reordered":  {[]*kgo.Record{numbered("a", "two", 2), numbered("a", "", 1)}, verdict{records: 2, lost: 3, reordered: 1}},
		"damaged":    {[]*kgo.Record{numbered("a", "One", 0)}, verdict{records: 1, lost: 4, damaged: 1}},
		"foreign":    {[]*kgo.Record{numbered("c", "one", 0), numbered("a", "three", 3)}, verdict{records: 2, lost: 5, damaged: 2}},
		"lost without numbers": {
			[]*kgo.Record{plain("a", "one"), plain("a", "two")},
			verdict{records: 2, lost: 3, damaged: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(testCorpus(t))
			for _, r := range test.records {
				l.add(r)
			}
			got := l.verdict()
			if got.clean() != (got.firstFault == "") {
				t.Errorf("%+v", got)
			}
			got.firstFault = ""
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
