package core

import (
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/metadata"
)

// End is an EndTxn request.
type End struct {
	ProducerID    int64
	ProducerEpoch int16
	Commit        bool
	ClientVersion int8  // transaction.version of the client: 2 from EndTxn v5 on
	FreshID       int64 // an unused producer id, or None
	NowMillis     int64
}

// Decide is the answer to End. Next, if there is one, is a prepared state: once it is stored the outcome stands.
func (r End) Decide(t *metadata.Transaction) Decision {
	switch {
	case t == nil:
		return refuse(kerr.InvalidProducerIDMapping)
	case r.ClientVersion < epochBump:
		return r.strict(t)
	default:
		return r.bumping(t)
	}
}

// strict is End by a client whose epoch stays the same from one transaction to the next.
func (r End) strict(t *metadata.Transaction) Decision {
	switch {
	case t.ProducerID != r.ProducerID:
		return refuse(kerr.InvalidProducerIDMapping)
	case t.ProducerEpoch != r.ProducerEpoch:
		return refuse(kerr.ProducerFenced)
	case t.Status == metadata.TxnOngoing:
		return r.prepare(t, false)
	case t.Status == r.prepared():
		return refuse(kerr.ConcurrentTransactions)
	case t.Status == r.completed():
		return Decision{ProducerID: t.ProducerID, ProducerEpoch: t.ProducerEpoch}
	}
	return refuse(kerr.InvalidTxnState)
}

// bumping is End by a client that goes on with another epoch each time. A request with the epoch before the stored one is a retry; one with the
// stored epoch is a new transaction's, and may abort one that has no partitions, because the broker cannot know what the client has sent.
func (r End) bumping(t *metadata.Transaction) Decision {
	bumped := t.ProducerID == r.ProducerID && int32(t.ProducerEpoch) == int32(r.ProducerEpoch)+1
	overflown := t.PreviousProducerID == r.ProducerID && r.ProducerEpoch == math.MaxInt16-1 && t.ProducerEpoch == 0
	retry := bumped || overflown
	current := t.ProducerEpoch == r.ProducerEpoch
	if t.ProducerID != r.ProducerID && !overflown {
		return refuse(kerr.InvalidProducerIDMapping)
	}
	switch t.Status {
	case metadata.TxnOngoing, metadata.TxnEmpty:
		if !current {
			return refuse(kerr.ProducerFenced)
		}
	case metadata.TxnPrepareCommit, metadata.TxnPrepareAbort:
		if !bumped {
			return refuse(kerr.ProducerFenced)
		}
	default:
		if !retry && !current {
			return refuse(kerr.ProducerFenced)
		}
	}
	switch {
	case t.Status == metadata.TxnOngoing:
		return r.prepare(t, false)
	case t.Status == r.prepared():
		return refuse(kerr.ConcurrentTransactions)
	case t.Status == r.completed() && retry:
		return Decision{ProducerID: t.ProducerID, ProducerEpoch: t.ProducerEpoch}
	case !t.Status.Prepared() && !retry && !r.Commit:
		return r.prepare(t, true)
	}
	return refuse(kerr.InvalidTxnState)
}

func (r End) prepared() metadata.TxnStatus {
	if r.Commit {
		return metadata.TxnPrepareCommit
	}
	return metadata.TxnPrepareAbort
}

func (r End) completed() metadata.TxnStatus {
	if r.Commit {
		return metadata.TxnCompleteCommit
	}
	return metadata.TxnCompleteAbort
}

// prepare decides the outcome. Markers bear the new epoch, so that what the producer sends late with the old one is refused.
func (r End) prepare(t *metadata.Transaction, empty bool) Decision {
	next := *t
	next.Status, next.UpdateMillis, next.ClientVersion, next.NextProducerID = r.prepared(), r.NowMillis, r.ClientVersion, None
	if empty {
		next.StartMillis, next.Partitions = r.NowMillis, nil
	}
	if r.ClientVersion < epochBump {
		return Decision{Next: &next, ProducerID: t.ProducerID, ProducerEpoch: t.ProducerEpoch}
	}
	if exhausted(t.ProducerEpoch) {
		if r.FreshID == None {
			return Decision{NeedsID: true}
		}
		next.NextProducerID = r.FreshID
	}
	if t.ProducerEpoch < math.MaxInt16 { // else a client of an older version had it, and markers of the same epoch do
		next.ProducerEpoch++
	}
	next.LastProducerEpoch = t.ProducerEpoch
	after := Complete(&next, r.NowMillis)
	return Decision{Next: &next, ProducerID: after.ProducerID, ProducerEpoch: after.ProducerEpoch}
}

// abort ends an ongoing transaction on the broker's own account, with a new epoch that fences the producer.
func abort(t *metadata.Transaction, freshID, nowMillis int64) Decision {
	d := End{ClientVersion: epochBump, FreshID: freshID, NowMillis: nowMillis}.prepare(t, false)
	d.ProducerID, d.ProducerEpoch = None, None
	return d
}

// Complete is the state after every marker of a prepared transaction is durable.
func Complete(t *metadata.Transaction, nowMillis int64) *metadata.Transaction {
	next := *t
	next.Status = metadata.TxnCompleteAbort
	if t.Status == metadata.TxnPrepareCommit {
		next.Status = metadata.TxnCompleteCommit
	}
	next.UpdateMillis, next.Partitions, next.NextProducerID = nowMillis, nil, None
	if t.ClientVersion < epochBump {
		return &next
	}
	next.PreviousProducerID = t.ProducerID
	if t.NextProducerID != None {
		next.ProducerID, next.ProducerEpoch = t.NextProducerID, 0
	}
	return &next
}

// TimesOutMillis is when an ongoing transaction is aborted; 0: there is none.
func TimesOutMillis(t *metadata.Transaction) int64 {
	if t.Status != metadata.TxnOngoing {
		return 0
	}
	return t.StartMillis + int64(t.TimeoutMillis) + 1
}

// TimeOut aborts a transaction that is due; a Decision without Next leaves all as it is.
func TimeOut(t *metadata.Transaction, freshID, nowMillis int64) Decision {
	if due := TimesOutMillis(t); due == 0 || nowMillis < due {
		return Decision{}
	}
	return abort(t, freshID, nowMillis)
}

// Expired tells whether an id that nobody has used for so long is to be forgotten.
func Expired(t *metadata.Transaction, retentionMillis, nowMillis int64) bool {
	switch t.Status {
	case metadata.TxnEmpty, metadata.TxnCompleteCommit, metadata.TxnCompleteAbort:
		return t.UpdateMillis <= nowMillis-retentionMillis
	}
	return false
}
