package stamp

import (
	"strings"
	"testing"
)

func value(producer uint32, sequence uint64) []byte {
	v := make([]byte, 40)
	Put(v, Stamp{producer, sequence, 7})
	return v
}

func TestStampComesBack(t *testing.T) {
	v := make([]byte, Bytes)
	want := Stamp{1 << 31, 1 << 60, -5}
	Put(v, want)
	if got, ok := Get(v); !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := Get(v[:Bytes-1]); ok {
		t.Error("a short value has a stamp")
	}
	if _, ok := Get(make([]byte, 100)); ok {
		t.Error("zeros have a stamp")
	}
}

func TestLedgerFindsWhatIsWrong(t *testing.T) {
	type rec struct {
		offset   int64
		producer uint32
		sequence uint64
	}
	tests := map[string]struct {
		rules Rules
		in    []rec
		want  Tally
		bad   string // "" for a good one
	}{
		"in order":            {in: []rec{{0, 1, 0}, {1, 2, 0}, {2, 1, 1}}, want: Tally{Records: 3}},
		"lost":                {in: []rec{{0, 1, 0}, {1, 1, 3}}, want: Tally{Records: 2, Lost: 2}, bad: "2 records lost"},
		"first lost":          {in: []rec{{0, 1, 1}}, want: Tally{Records: 1, Lost: 1}, bad: "1 records lost"},
		"late":                {in: []rec{{0, 1, 0}, {1, 1, 2}, {2, 1, 1}}, want: Tally{Records: 3, Late: 1}, bad: "1 out of order"},
		"repeated":            {in: []rec{{0, 1, 0}, {1, 1, 0}}, want: Tally{Records: 2, Repeated: 1}, bad: "1 repeated"},
		"offset skipped":      {in: []rec{{0, 1, 0}, {2, 1, 1}}, want: Tally{Records: 2, Skipped: 1}, bad: "1 offsets skipped"},
		"offset may skip":     {rules: Rules{Gaps: true}, in: []rec{{0, 1, 0}, {2, 1, 1}}, want: Tally{Records: 2}},
		"offset backward":     {in: []rec{{0, 1, 0}, {0, 1, 1}}, want: Tally{Records: 2, Backward: 1}, bad: "1 backward"},
		"read again":          {rules: Rules{Rereads: true}, in: []rec{{0, 1, 0}, {0, 1, 0}, {1, 1, 1}}, want: Tally{Records: 2, Rereads: 1}},
		"begins midway":       {rules: Rules{MidWay: true}, in: []rec{{0, 1, 9}, {1, 1, 10}}, want: Tally{Records: 2}},
		"midway, lost behind": {rules: Rules{MidWay: true}, in: []rec{{0, 1, 9}, {1, 1, 11}}, want: Tally{Records: 2, Lost: 1}, bad: "1 records lost"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := NewLedger(1, test.rules, []int64{0})
			for _, r := range test.in {
				p := l.Partition(0)
				p.Lock()
				p.Check(r.offset, value(r.producer, r.sequence))
				p.Unlock()
			}
			got := l.Tally()
			test.want.Bytes = got.Records * 40
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if err := got.Bad(true); (err == nil) != (test.bad == "") || err != nil && !strings.Contains(err.Error(), test.bad) {
				t.Errorf("%v, want %q", err, test.bad)
			}
		})
	}
}

func TestLedgerMissesTheTail(t *testing.T) {
	l := NewLedger(2, Rules{}, nil)
	l.Partition(0).Check(5, value(1, 0))
	l.Close(0, 1, 3)
	l.Close(1, 1, 1)
	if got := l.Tally().Lost; got != 3 {
		t.Errorf("%d lost, want 3", got)
	}
}

func TestRepeatedIsNoFaultWithoutIdempotence(t *testing.T) {
	if err := (Tally{Repeated: 1}).Bad(false); err != nil {
		t.Error(err)
	}
}

func TestAcksCoverEachOffsetOnce(t *testing.T) {
	type ack struct {
		offset int64
		n      int
	}
	tests := map[string]struct {
		a, b    []ack
		markers bool
		end     int64
		ok      bool
	}{
		"interleaved":     {a: []ack{{10, 3}, {15, 1}}, b: []ack{{13, 2}}, end: 16, ok: true},
		"nothing":         {end: 10, ok: true},
		"gap":             {a: []ack{{10, 3}}, b: []ack{{14, 2}}},
		"start missing":   {a: []ack{{11, 3}}},
		"twice and a gap": {a: []ack{{10, 3}}, b: []ack{{10, 2}, {14, 1}}},
		"backward":        {a: []ack{{12, 1}, {10, 1}}, b: []ack{{11, 1}}},
		"markers":         {a: []ack{{10, 3}, {14, 2}}, markers: true, end: 16, ok: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a, b := NewAcks(1), NewAcks(1)
			for _, x := range test.a {
				a.Add(0, x.offset, x.n)
			}
			for _, x := range test.b {
				b.Add(0, x.offset, x.n)
			}
			ends, err := CheckAcks([]*Acks{a, b}, []int64{10}, test.markers)
			if (err == nil) != test.ok || test.ok && ends[0] != test.end {
				t.Errorf("ends %v, %v", ends, err)
			}
		})
	}
}

func TestAckOfAPartitionThatDoesNotExist(t *testing.T) {
	a := NewAcks(1)
	a.Add(1, 0, 1)
	if _, err := CheckAcks([]*Acks{a}, []int64{0}, false); err == nil {
		t.Error("no error")
	}
}
