package core

import (
	"math"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/metadata"
)

func TestEnd(t *testing.T) {
	const last = math.MaxInt16 - 1
	const done, ongoing, empty = metadata.TxnCompleteCommit, metadata.TxnOngoing, metadata.TxnEmpty
	const aborted, committing, aborting = metadata.TxnCompleteAbort, metadata.TxnPrepareCommit, metadata.TxnPrepareAbort
	for name, c := range map[string]struct {
		t         *metadata.Transaction
		version   int8
		id        int64
		epoch     int16
		commit    bool
		err       *kerr.Error
		stored    int // status, −1 nothing
		wantID    int64
		wantEpoch int16
	}{
		"unknown":                         {nil, 2, 5, 3, true, kerr.InvalidProducerIDMapping, -1, None, None},
		"1: commit":                       {state(ongoing, 0), 0, 5, 3, true, nil, int(committing), 5, 3},
		"1: abort":                        {state(ongoing, 0), 0, 5, 3, false, nil, int(aborting), 5, 3},
		"1: another's":                    {state(ongoing, 0), 0, 6, 3, true, kerr.InvalidProducerIDMapping, -1, None, None},
		"1: fenced":                       {state(ongoing, 0), 0, 5, 2, true, kerr.ProducerFenced, -1, None, None},
		"1: commit again":                 {state(done, 0), 0, 5, 3, true, nil, -1, 5, 3},
		"1: abort what is committed":      {state(done, 0), 0, 5, 3, false, kerr.InvalidTxnState, -1, None, None},
		"1: commit while committing":      {state(committing, 0), 0, 5, 3, true, kerr.ConcurrentTransactions, -1, None, None},
		"1: abort while committing":       {state(committing, 0), 0, 5, 3, false, kerr.InvalidTxnState, -1, None, None},
		"1: abort nothing":                {state(empty, 0), 0, 5, 3, false, kerr.InvalidTxnState, -1, None, None},
		"2: commit":                       {state(ongoing, 2), 2, 5, 3, true, nil, int(committing), 5, 4},
		"2: abort":                        {state(ongoing, 2), 2, 5, 3, false, nil, int(aborting), 5, 4},
		"2: fenced":                       {state(ongoing, 2), 2, 5, 2, true, kerr.ProducerFenced, -1, None, None},
		"2: commit while committing":      {state(committing, 2), 2, 5, 2, true, kerr.ConcurrentTransactions, -1, None, None},
		"2: abort while committing":       {state(committing, 2), 2, 5, 2, false, kerr.InvalidTxnState, -1, None, None},
		"2: fenced while committing":      {state(committing, 2), 2, 5, 1, true, kerr.ProducerFenced, -1, None, None},
		"2: early while committing":       {state(committing, 2), 2, 5, 3, true, kerr.ProducerFenced, -1, None, None},
		"2: commit again":                 {state(done, 2), 2, 5, 2, true, nil, -1, 5, 3},
		"2: abort instead":                {state(done, 2), 2, 5, 2, false, kerr.InvalidTxnState, -1, None, None},
		"2: commit the next, empty":       {state(done, 2), 2, 5, 3, true, kerr.InvalidTxnState, -1, None, None},
		"2: abort the next, empty":        {state(done, 2), 2, 5, 3, false, nil, int(aborting), 5, 4},
		"2: abort again":                  {state(aborted, 2), 2, 5, 2, false, nil, -1, 5, 3},
		"2: abort the next after abort":   {state(aborted, 2), 2, 5, 3, false, nil, int(aborting), 5, 4},
		"2: abort nothing":                {state(empty, 0), 2, 5, 3, false, nil, int(aborting), 5, 4},
		"2: commit nothing":               {state(empty, 0), 2, 5, 3, true, kerr.InvalidTxnState, -1, None, None},
		"2: last epoch":                   {state(ongoing, 2, epoch(last, last-1)), 2, 5, last, true, nil, int(committing), fresh, 0},
		"2: last epoch, again":            {state(done, 2, epoch(0, last), previous(4)), 2, 4, last, true, nil, -1, 5, 0},
		"2: last epoch, while it is":      {state(committing, 2, epoch(math.MaxInt16, last)), 2, 5, last, true, kerr.ConcurrentTransactions, -1, None, None},
		"2: older id, not its last epoch": {state(done, 2, epoch(0, last), previous(4)), 2, 4, last - 1, true, kerr.InvalidProducerIDMapping, -1, None, None},
	} {
		r := End{ProducerID: c.id, ProducerEpoch: c.epoch, Commit: c.commit, ClientVersion: c.version, FreshID: None, NowMillis: 100}
		if d := r.Decide(c.t); d.NeedsID != (c.wantID == fresh) {
			t.Errorf("%s: needs an id: %v", name, d.NeedsID)
		}
		r.FreshID = fresh
		d := r.Decide(c.t)
		if d.Err != c.err || d.ProducerID != c.wantID || d.ProducerEpoch != c.wantEpoch || (d.Next != nil) != (c.stored >= 0) {
			t.Errorf("%s: %+v", name, d)
			continue
		}
		if d.Next == nil {
			continue
		}
		after := Complete(d.Next, 200)
		if int(d.Next.Status) != c.stored || d.Next.ProducerID != c.id || after.ProducerID != c.wantID || after.ProducerEpoch != c.wantEpoch {
			t.Errorf("%s: stored %+v, then %+v", name, d.Next, after)
		}
		// The producer repeats its request: it gets the same answer, once the markers are written.
		again := r.Decide(after)
		if again.Err != nil || again.Next != nil || again.ProducerID != c.wantID || again.ProducerEpoch != c.wantEpoch {
			t.Errorf("%s: repeated: %+v", name, again)
		}
		if d := r.Decide(d.Next); d.Err != kerr.ConcurrentTransactions {
			t.Errorf("%s: repeated while markers are written: %+v", name, d)
		}
	}
}

func TestTimeOutAndExpiry(t *testing.T) {
	ongoing := state(metadata.TxnOngoing, 2)
	if d := TimeOut(ongoing, None, 1040); d.Next != nil {
		t.Errorf("too early: %+v", d)
	}
	d := TimeOut(ongoing, None, 1041)
	if d.Next == nil || d.Next.Status != metadata.TxnPrepareAbort || d.Next.ProducerEpoch != 4 {
		t.Fatalf("%+v", d)
	}
	if r := (End{ProducerID: 5, ProducerEpoch: 3, Commit: true, FreshID: None}).Decide(Complete(d.Next, 1)); r.Err != kerr.ProducerFenced {
		t.Errorf("a producer that was too slow commits: %+v", r)
	}
	for _, c := range []struct {
		status metadata.TxnStatus
		now    int64
		want   bool
	}{
		{metadata.TxnEmpty, 149, false}, {metadata.TxnEmpty, 150, true}, {metadata.TxnCompleteCommit, 150, true}, {metadata.TxnCompleteAbort, 150, true},
		{metadata.TxnOngoing, 1 << 40, false}, {metadata.TxnPrepareCommit, 1 << 40, false}, {metadata.TxnPrepareAbort, 1 << 40, false},
	} {
		if got := Expired(state(c.status, 2), 100, c.now); got != c.want {
			t.Errorf("%s at %d: %v", c.status, c.now, got)
		}
	}
}
