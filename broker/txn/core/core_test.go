package core

import (
	"math"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/metadata"
)

var (
	p0 = metadata.PartitionID{Topic: metadata.TopicID{1}, Partition: 0}
	p1 = metadata.PartitionID{Topic: metadata.TopicID{1}, Partition: 1}
)

const fresh = 900

// state is an id with producer 5 in epoch 3, initialised or used by a client of this transaction.version.
func state(status metadata.TxnStatus, version int8, change ...func(*metadata.Transaction)) *metadata.Transaction {
	t := &metadata.Transaction{Status: status, ProducerID: 5, PreviousProducerID: None, NextProducerID: None, ProducerEpoch: 3, LastProducerEpoch: None,
		TimeoutMillis: 1000, StartMillis: -1, UpdateMillis: 50, ClientVersion: version}
	if status == metadata.TxnOngoing || status.Prepared() {
		t.StartMillis, t.Partitions = 40, []metadata.PartitionID{p0}
	}
	for _, fn := range change {
		fn(t)
	}
	return t
}

func epoch(now, last int16) func(*metadata.Transaction) {
	return func(t *metadata.Transaction) { t.ProducerEpoch, t.LastProducerEpoch = now, last }
}

func previous(id int64) func(*metadata.Transaction) {
	return func(t *metadata.Transaction) { t.PreviousProducerID = id }
}

func TestInit(t *testing.T) {
	const last = math.MaxInt16 - 1
	for name, c := range map[string]struct {
		t         *metadata.Transaction
		id        int64
		epoch     int16
		err       *kerr.Error
		wantID    int64
		wantEpoch int16
		lastEpoch int16 // stored
		stores    bool
	}{
		"new":                                {nil, None, None, nil, fresh, 0, None, true},
		"new, of a producer that knows more": {nil, 4, 9, nil, fresh, 0, None, true},
		"again":                              {state(metadata.TxnCompleteCommit, 2), None, None, nil, 5, 4, None, true},
		"continued":                          {state(metadata.TxnCompleteAbort, 2), 5, 3, nil, 5, 4, 3, true},
		"continued, repeated":                {state(metadata.TxnEmpty, 0, epoch(4, 3)), 5, 3, nil, 5, 4, 3, true},
		"continued by a fenced one":          {state(metadata.TxnEmpty, 0, epoch(5, None)), 5, 3, kerr.ProducerFenced, None, None, 0, false},
		"continued by another":               {state(metadata.TxnEmpty, 0), 6, 3, kerr.ProducerFenced, None, None, 0, false},
		"being committed":                    {state(metadata.TxnPrepareCommit, 2), None, None, kerr.ConcurrentTransactions, None, None, 0, false},
		"being aborted":                      {state(metadata.TxnPrepareAbort, 2), 5, 3, kerr.ConcurrentTransactions, None, None, 0, false},
		"ongoing":                            {state(metadata.TxnOngoing, 2), None, None, kerr.ConcurrentTransactions, None, None, 3, true},
		"ongoing, of another":                {state(metadata.TxnOngoing, 2), 6, 0, kerr.ProducerFenced, None, None, 0, false},
		"exhausted":                          {state(metadata.TxnEmpty, 0, epoch(last, last-1)), None, None, nil, fresh, 0, None, true},
		"exhausted, continued":               {state(metadata.TxnEmpty, 0, epoch(last, last-1)), 5, last, nil, fresh, 0, last, true},
		"exhausted by fencing":               {state(metadata.TxnCompleteAbort, 2, epoch(math.MaxInt16, last)), None, None, nil, fresh, 0, None, true},
		"new id, repeated":                   {state(metadata.TxnEmpty, 0, epoch(0, last), previous(4)), 4, last, nil, 5, 0, last, true},
		"new id, continued by an older one":  {state(metadata.TxnEmpty, 0, epoch(0, last), previous(4)), 4, last - 1, kerr.ProducerFenced, None, None, 0, false},
	} {
		d := Init{TimeoutMillis: 77, ProducerID: c.id, ProducerEpoch: c.epoch, FreshID: None, NowMillis: 100}.Decide(c.t)
		if d.NeedsID != (c.wantID == fresh) {
			t.Errorf("%s: needs an id: %v", name, d.NeedsID)
		}
		d = Init{TimeoutMillis: 77, ProducerID: c.id, ProducerEpoch: c.epoch, FreshID: fresh, NowMillis: 100}.Decide(c.t)
		if d.Err != c.err || d.ProducerID != c.wantID || d.ProducerEpoch != c.wantEpoch || (d.Next != nil) != c.stores {
			t.Errorf("%s: %+v", name, d)
			continue
		}
		if d.Next == nil {
			continue
		}
		if d.Next.LastProducerEpoch != c.lastEpoch {
			t.Errorf("%s: stored %+v", name, d.Next)
		}
		if d.Err == nil && (d.Next.Status != metadata.TxnEmpty || d.Next.TimeoutMillis != 77 || d.Next.StartMillis != -1 || d.Next.UpdateMillis != 100) {
			t.Errorf("%s: stored %+v", name, d.Next)
		}
		if d.Err != nil && (d.Next.Status != metadata.TxnPrepareAbort || d.Next.ProducerEpoch != c.t.ProducerEpoch+1) {
			t.Errorf("%s: stored %+v", name, d.Next)
		}
	}
}

func TestAddAndVerify(t *testing.T) {
	for name, c := range map[string]struct {
		t      *metadata.Transaction
		id     int64
		epoch  int16
		add    *kerr.Error
		stores bool
		verify *kerr.Error // of p1
	}{
		"unknown":         {nil, 5, 3, kerr.InvalidProducerIDMapping, false, kerr.InvalidProducerIDMapping},
		"another's":       {state(metadata.TxnEmpty, 0), 6, 3, kerr.InvalidProducerIDMapping, false, kerr.InvalidProducerIDMapping},
		"fenced":          {state(metadata.TxnOngoing, 2), 5, 2, kerr.ProducerFenced, false, kerr.ProducerFenced},
		"not yet":         {state(metadata.TxnOngoing, 2), 5, 4, kerr.ProducerFenced, false, kerr.ProducerFenced},
		"first":           {state(metadata.TxnEmpty, 0), 5, 3, nil, true, kerr.TransactionAbortable},
		"after a commit":  {state(metadata.TxnCompleteCommit, 2), 5, 3, nil, true, kerr.TransactionAbortable},
		"another one":     {state(metadata.TxnOngoing, 2), 5, 3, nil, true, kerr.TransactionAbortable},
		"being committed": {state(metadata.TxnPrepareCommit, 2), 5, 3, kerr.ConcurrentTransactions, false, kerr.ConcurrentTransactions},
		"known": {state(metadata.TxnOngoing, 2, func(t *metadata.Transaction) { t.Partitions = []metadata.PartitionID{p0, p1} }), 5, 3,
			nil, false, nil},
	} {
		d := Add{ProducerID: c.id, ProducerEpoch: c.epoch, Partitions: []metadata.PartitionID{p1, p0, p1}, ClientVersion: 2, NowMillis: 100}.Decide(c.t)
		if d.Err != c.add || (d.Next != nil) != c.stores {
			t.Errorf("%s: %+v", name, d)
		}
		if d.Next != nil {
			start := int64(100)
			if c.t.Status == metadata.TxnOngoing {
				start = 40
			}
			if n := d.Next; n.Status != metadata.TxnOngoing || n.StartMillis != start || !reflect.DeepEqual(n.Partitions, []metadata.PartitionID{p0, p1}) {
				t.Errorf("%s: stored %+v", name, n)
			}
			if err := Verify(d.Next, c.id, c.epoch, p1); err != nil {
				t.Errorf("%s: added, and then %v", name, err)
			}
		}
		if err := Verify(c.t, c.id, c.epoch, p1); err != c.verify {
			t.Errorf("%s: verified: %v", name, err)
		}
	}
}
