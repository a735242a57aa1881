// Package core decides what becomes of a transactional id: a PURE state machine after Kafka's TransactionCoordinator and
// TransactionMetadata of 4.3 (KIP-98, KIP-360, KIP-588, KIP-890). Every decision takes the stored state and returns the one to store; nothing is
// answered before it is stored. While that is under way the caller refuses other changes with CONCURRENT_TRANSACTIONS.
package core

import (
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/metadata"
)

// None stands for no producer id and for no epoch.
const None = -1

// epochBump is the transaction.version from which every transaction has an epoch of its own (KIP-890).
const epochBump = 2

// Decision is what follows from a request. Without an error and without Next the answer is that all is well.
type Decision struct {
	Next *metadata.Transaction // to be stored before anything is answered; nil: nothing changes
	Err  *kerr.Error           // the answer, after Next is stored
	// NeedsID: ask again with a fresh producer id.
	NeedsID bool
	// ProducerID and ProducerEpoch are what the producer goes on with; only of Init and End.
	ProducerID    int64
	ProducerEpoch int16
}

func refuse(err *kerr.Error) Decision {
	return Decision{Err: err, ProducerID: None, ProducerEpoch: None}
}

// exhausted tells that an epoch is the last that a client may have: the one above is kept for fencing it.
func exhausted(epoch int16) bool { return epoch >= math.MaxInt16-1 }

// Init is an InitProducerId request with a transactional id.
type Init struct {
	TimeoutMillis int32
	ProducerID    int64 // with ProducerEpoch: the producer that continues (KIP-360); None: a new one
	ProducerEpoch int16
	FreshID       int64 // an unused producer id, or None
	NowMillis     int64
}

// Decide is the answer to Init; t is nil for an id that is not known. An ongoing transaction is aborted with a new epoch, which nobody gets, and the
// client comes again.
func (r Init) Decide(t *metadata.Transaction) Decision {
	if t == nil {
		if r.FreshID == None {
			return Decision{NeedsID: true}
		}
		return initialised(&metadata.Transaction{
			Status: metadata.TxnEmpty, ProducerID: r.FreshID, PreviousProducerID: None, NextProducerID: None, LastProducerEpoch: None,
			TimeoutMillis: r.TimeoutMillis, StartMillis: -1, UpdateMillis: r.NowMillis,
		})
	}
	continues := r.ProducerID != None
	if continues && r.ProducerID != t.ProducerID && !(r.ProducerID == t.PreviousProducerID && exhausted(r.ProducerEpoch)) {
		return refuse(kerr.ProducerFenced)
	}
	switch {
	case t.Status.Prepared():
		return refuse(kerr.ConcurrentTransactions)
	case t.Status == metadata.TxnOngoing:
		d := abort(t, r.FreshID, r.NowMillis)
		if !d.NeedsID {
			d.Err = kerr.ConcurrentTransactions
		}
		return d
	}
	next := *t
	next.Status, next.StartMillis, next.UpdateMillis = metadata.TxnEmpty, -1, r.NowMillis
	next.TimeoutMillis, next.NextProducerID, next.Partitions, next.ClientVersion = r.TimeoutMillis, None, nil, 0
	next.PreviousProducerID = t.ProducerID
	switch {
	case exhausted(t.ProducerEpoch) && (!continues || r.ProducerEpoch == t.ProducerEpoch):
		if r.FreshID == None {
			return Decision{NeedsID: true}
		}
		next.ProducerID, next.ProducerEpoch, next.LastProducerEpoch = r.FreshID, 0, None
		if continues {
			next.LastProducerEpoch = t.ProducerEpoch
		}
	case !continues:
		next.ProducerEpoch, next.LastProducerEpoch = t.ProducerEpoch+1, None
	case r.ProducerEpoch == t.ProducerEpoch:
		next.ProducerEpoch, next.LastProducerEpoch = t.ProducerEpoch+1, t.ProducerEpoch
	case r.ProducerEpoch == t.LastProducerEpoch: // a retry: nobody else can have been initialised since
		next.PreviousProducerID = t.PreviousProducerID
	default:
		return refuse(kerr.ProducerFenced)
	}
	return initialised(&next)
}

func initialised(next *metadata.Transaction) Decision {
	return Decision{Next: next, ProducerID: next.ProducerID, ProducerEpoch: next.ProducerEpoch}
}

// Add is AddPartitionsToTxn, AddOffsetsToTxn with the partition of the group's shard, or a batch that a partition of the transaction begins with.
type Add struct {
	ProducerID    int64
	ProducerEpoch int16
	Partitions    []metadata.PartitionID
	ClientVersion int8 // transaction.version of the client
	NowMillis     int64
}

// Decide is the answer to Add.
func (r Add) Decide(t *metadata.Transaction) Decision {
	if err := permitted(t, r.ProducerID, r.ProducerEpoch); err != nil {
		return refuse(err)
	}
	next := *t
	next.Partitions = union(t.Partitions, r.Partitions)
	if t.Status == metadata.TxnOngoing && len(next.Partitions) == len(t.Partitions) {
		return Decision{}
	}
	if len(next.Partitions) > metadata.MaxTxnPartitions {
		return refuse(kerr.InvalidRequest)
	}
	if t.Status != metadata.TxnOngoing {
		next.StartMillis = r.NowMillis
	}
	next.Status, next.UpdateMillis, next.ClientVersion, next.NextProducerID = metadata.TxnOngoing, r.NowMillis, r.ClientVersion, None
	return Decision{Next: &next}
}

// permitted tells whether a producer may write in its transaction.
func permitted(t *metadata.Transaction, id int64, epoch int16) *kerr.Error {
	switch {
	case t == nil || t.ProducerID != id:
		return kerr.InvalidProducerIDMapping
	case t.ProducerEpoch != epoch:
		return kerr.ProducerFenced
	case t.Status.Prepared():
		return kerr.ConcurrentTransactions
	}
	return nil
}

// Verify tells whether a partition is part of the producer's transaction: TRANSACTION_ABORTABLE if not (KIP-890).
func Verify(t *metadata.Transaction, id int64, epoch int16, p metadata.PartitionID) *kerr.Error {
	if err := permitted(t, id, epoch); err != nil {
		return err
	}
	if _, ok := slices.BinarySearchFunc(t.Partitions, p, metadata.ComparePartitions); !ok {
		return kerr.TransactionAbortable
	}
	return nil
}

// union is the sorted union of a sorted set and others; old itself if they are all in it.
func union(old, more []metadata.PartitionID) []metadata.PartitionID {
	missing := slices.ContainsFunc(more, func(p metadata.PartitionID) bool {
		_, ok := slices.BinarySearchFunc(old, p, metadata.ComparePartitions)
		return !ok
	})
	if !missing {
		return old
	}
	all := slices.Concat(old, more)
	slices.SortFunc(all, metadata.ComparePartitions)
	return slices.Compact(all)
}
