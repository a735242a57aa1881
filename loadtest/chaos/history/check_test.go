package history_test

import (
	"bytes"
	"maps"
	"testing"

	. "github.com/tidemarkmq/tidemark/loadtest/chaos/history"
)

// script writes a history: one partition 0, producers 1 (idempotent, durable) and 2 (plain, durable), readers 1 (direct), 2 and 3 (in a
// group), 4 (read_committed) and 9 (final).
type script struct {
	b []byte
	e Encoder
}

func begin() *script {
	s := &script{b: []byte(Header)}
	s.op(Op{Kind: DeclarePartition, Name: "t-0"})
	s.op(Op{Kind: DeclareProducer, Producer: 1, Name: "p1", Flags: Idempotent | Durable})
	s.op(Op{Kind: DeclareProducer, Producer: 2, Name: "p2", Flags: Durable})
	s.op(Op{Kind: DeclareReader, Reader: 1, Name: "direct"})
	s.op(Op{Kind: DeclareReader, Reader: 2, Name: "member-2", Group: "g"})
	s.op(Op{Kind: DeclareReader, Reader: 3, Name: "member-3", Group: "g"})
	s.op(Op{Kind: DeclareReader, Reader: 4, Name: "committed", Flags: ReadCommitted})
	s.op(Op{Kind: DeclareReader, Reader: 9, Name: "final", Flags: Final})
	return s
}

func (s *script) op(o Op) *script { s.b = s.e.Append(s.b, &o); return s }

func (s *script) send(p Producer, first uint64, n uint32) *script {
	return s.op(Op{Kind: Invoke, Producer: p, Sequence: first, Count: n})
}

func (s *script) ack(p Producer, first uint64, n uint32, at int64) *script {
	return s.op(Op{Kind: Acked, Producer: p, Sequence: first, Count: n, Offset: at})
}

func (s *script) outcome(k Kind, p Producer, sequence uint64) *script {
	return s.op(Op{Kind: k, Producer: p, Sequence: sequence, Count: 1})
}

func (s *script) at(k Kind, r Reader, offset int64) *script {
	return s.op(Op{Kind: k, Reader: r, Offset: offset})
}

// poll reads producer 1's records first, first+1, … at consecutive offsets.
func (s *script) poll(r Reader, at int64, sequences ...uint64) *script {
	return s.pollOf(1, r, at, sequences...)
}

func (s *script) pollOf(p Producer, r Reader, at int64, sequences ...uint64) *script {
	var records []Record
	for i, q := range sequences {
		records = append(records, Record{at + int64(i), p, q})
	}
	return s.op(Op{Kind: Poll, Reader: r, Records: records})
}

func (s *script) final(end int64) *script { return s.op(Op{Kind: Bounds, Reader: 9, End: end}) }

func TestAnomalies(t *testing.T) {
	type counts = map[Anomaly]int64
	for name, c := range map[string]struct {
		s    *script
		want counts
	}{
		"all is well":                 {begin().send(1, 0, 3).ack(1, 0, 3, 0).poll(1, 0, 0, 1).poll(1, 2, 2).final(3).poll(9, 0, 0, 1, 2), nil},
		"unknown and there":           {begin().send(1, 0, 1).outcome(Unknown, 1, 0).final(1).poll(9, 0, 0), nil},
		"unknown and not there":       {begin().send(1, 0, 1).outcome(Unknown, 1, 0).final(0), nil},
		"failed and not there":        {begin().send(1, 0, 1).outcome(Failed, 1, 0).final(0), nil},
		"lost at the end":             {begin().send(1, 0, 3).ack(1, 0, 3, 0).final(1).poll(9, 0, 0), counts{Lost: 2}},
		"lost and overwritten":        {begin().send(1, 0, 1).send(2, 0, 1).ack(1, 0, 1, 0).final(1).pollOf(2, 9, 0, 0), counts{Lost: 1, Inconsistent: 1}},
		"acked at an unknown offset":  {begin().send(2, 0, 1).ack(2, 0, 1, -1).final(0), counts{Lost: 1}},
		"vanished":                    {begin().send(1, 0, 1).poll(1, 0, 0).final(0), counts{Vanished: 1}},
		"duplicate":                   {begin().send(1, 0, 1).final(2).poll(9, 0, 0, 0), counts{Duplicate: 1}},
		"repeated, not idempotent":    {begin().send(2, 0, 1).ack(2, 0, 1, 1).final(2).pollOf(2, 9, 0, 0, 0), nil},
		"reordered":                   {begin().send(1, 0, 3).final(3).poll(9, 0, 0, 2, 1), counts{Reordered: 1}},
		"reordered, not idempotent":   {begin().send(2, 0, 2).ack(2, 0, 1, 1).ack(2, 1, 1, 0).final(2).pollOf(2, 9, 0, 1, 0), counts{Reordered: 1}},
		"given up and late":           {begin().send(2, 0, 2).ack(2, 1, 1, 0).outcome(Unknown, 2, 0).final(2).pollOf(2, 9, 0, 1, 0), nil},
		"phantom producer":            {begin().final(1).poll(9, 0, 0), counts{Phantom: 1}},
		"phantom record":              {begin().send(1, 0, 1).final(2).poll(9, 0, 0, 1), counts{Phantom: 1}},
		"read before it was sent":     {begin().send(1, 0, 1).poll(1, 0, 0, 1).send(1, 1, 1).final(2).poll(9, 0, 0, 1), counts{Phantom: 1, Inconsistent: 1}},
		"failed and there":            {begin().send(1, 0, 1).outcome(Failed, 1, 0).final(1).poll(9, 0, 0), counts{Phantom: 1}},
		"damaged":                     {begin().send(1, 0, 1).final(1).at(Corrupt, 9, 0), counts{Damaged: 1}},
		"went back between polls":     {begin().send(1, 0, 2).poll(1, 0, 0, 1).poll(1, 0, 0).final(2).poll(9, 0, 0, 1), counts{Nonmonotonic: 1}},
		"went back as told":           {begin().send(1, 0, 2).poll(1, 0, 0, 1).at(Position, 1, 0).poll(1, 0, 0).final(2).poll(9, 0, 0, 1), nil},
		"skipped between polls":       {begin().send(1, 0, 3).poll(1, 0, 0).poll(1, 2, 2).final(3).poll(9, 0, 0, 1, 2), counts{Gap: 1}},
		"hole":                        {begin().send(1, 0, 2).final(3).poll(9, 0, 0).poll(9, 2, 1), counts{Gap: 1}},
		"hole with a marker":          {begin().send(1, 0, 2).final(3).poll(9, 0, 0).poll(9, 2, 1).at(Marker, 9, 1), nil},
		"final read ends early":       {begin().send(1, 0, 2).final(2).poll(9, 0, 0), counts{Gap: 1}},
		"no final read":               {begin().send(1, 0, 1).ack(1, 0, 1, 0), counts{Unread: 1}},
		"readers disagree":            {begin().send(1, 0, 1).send(2, 0, 1).poll(1, 0, 0).final(1).pollOf(2, 9, 0, 0), counts{Inconsistent: 1, Vanished: 1}},
		"acked elsewhere":             {begin().send(1, 0, 1).send(2, 0, 1).ack(1, 0, 1, 1).final(2).poll(9, 0, 0).pollOf(2, 9, 1, 0), counts{Inconsistent: 1}},
		"acked where nothing is":      {begin().send(1, 0, 1).ack(1, 0, 1, 7).final(1).poll(9, 0, 0), counts{Inconsistent: 1}},
		"group hands over":            {begin().send(1, 0, 3).at(Position, 2, -2).poll(2, 0, 0, 1).at(CommitInvoke, 2, 2).at(CommitAcked, 2, 2).at(Position, 3, 2).poll(3, 2, 2).final(3).poll(9, 0, 0, 1, 2), nil},
		"group reads again":           {begin().send(1, 0, 2).at(Position, 2, -2).poll(2, 0, 0, 1).at(Position, 3, -2).poll(3, 0, 0, 1).final(2).poll(9, 0, 0, 1), nil},
		"group forgets its offset":    {begin().send(1, 0, 1).poll(2, 0, 0).at(CommitInvoke, 2, 1).at(CommitAcked, 2, 1).at(Position, 3, -2).final(1).poll(9, 0, 0), counts{OffsetLost: 1}},
		"unacked commit is in force":  {begin().send(1, 0, 3).at(Position, 2, -2).poll(2, 0, 0, 1, 2).at(CommitInvoke, 2, 1).at(CommitInvoke, 2, 2).at(CommitAcked, 2, 2).at(Position, 3, 1).final(3).poll(9, 0, 0, 1, 2), nil},
		"group skips":                 {begin().send(1, 0, 3).at(Position, 2, -2).poll(2, 0, 0).at(CommitInvoke, 2, 2).at(CommitAcked, 2, 2).at(Position, 3, 2).final(3).poll(9, 0, 0, 1, 2), counts{Gap: 1}},
		"offset nobody committed":     {begin().send(1, 0, 2).at(Position, 2, -2).poll(2, 0, 0, 1).at(Position, 3, 2).final(2).poll(9, 0, 0, 1), counts{OffsetLost: 1}},
		"aborted and read":            {txn(TxnAborted).poll(4, 0, 0).final(2).poll(9, 0, 0, 1), counts{AbortedRead: 1}},
		"aborted and skipped":         {txn(TxnAborted).send(1, 2, 1).at(Position, 4, 0).poll(4, 3, 2).final(4).poll(9, 0, 0, 1).at(Marker, 9, 2).poll(9, 3, 2), nil},
		"committed and skipped":       {txn(TxnCommitted).send(1, 2, 1).at(Position, 4, 0).poll(4, 3, 2).final(4).poll(9, 0, 0, 1).at(Marker, 9, 2).poll(9, 3, 2), counts{Gap: 1}},
		"read while open":             {begin().op(Op{Kind: TxnBegin, Producer: 1}).send(1, 0, 1).poll(4, 0, 0).outcome(TxnCommitted, 1, 0).final(1).poll(9, 0, 0), counts{AbortedRead: 1}},
		"half of a transaction":       {txn(TxnCommitted).op(committedFinal).final(1).poll(9, 0, 0), counts{Fractured: 1, Lost: 1}},
		"unknown transaction, absent": {txn(TxnUnknown).op(committedFinal).final(0), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Check(bytes.NewReader(c.s.b))
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got.Counts, c.want) && len(got.Counts)+len(c.want) > 0 {
				t.Errorf("got %v, want %v\n%+v", got.Counts, c.want, got.Findings)
			}
		})
	}
}

var committedFinal = Op{Kind: DeclareReader, Reader: 9, Name: "final", Flags: Final | ReadCommitted}

// txn is a transaction of two records at 0 and 1.
func txn(end Kind) *script {
	s := begin().op(Op{Kind: TxnBegin, Producer: 1}).send(1, 0, 2).ack(1, 0, 2, 0)
	if end != TxnAborted {
		s.op(Op{Kind: TxnCommitInvoke, Producer: 1})
	}
	return s.op(Op{Kind: end, Producer: 1})
}

// A history that contradicts itself is an error, not an anomaly of the broker.
func TestNonsense(t *testing.T) {
	for name, s := range map[string]*script{
		"sequence skipped":    begin().send(1, 1, 1),
		"outcome of nothing":  begin().send(1, 0, 1).ack(1, 0, 2, 0),
		"two outcomes":        begin().send(1, 0, 1).ack(1, 0, 1, 0).outcome(Failed, 1, 0),
		"unknown producer":    begin().send(7, 0, 1),
		"unknown reader":      begin().poll(7, 0, 0),
		"end of no txn":       begin().op(Op{Kind: TxnCommitted, Producer: 1}),
		"negative offset":     begin().poll(1, -4, 0),
		"txn of an undefined": begin().op(Op{Kind: TxnBegin, Producer: 5}),
	} {
		if _, err := Check(bytes.NewReader(s.b)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
