// Package history records what clients of a broker did and saw, and checks it. It is PURE: no goroutines, I/O, clock or randomness of its
// own; a file is any io.Reader or byte slice that the caller has.
//
// The order of operations is the order in which a client's process saw them: a send is recorded before the request may leave, an
// outcome and a poll once they are known. So what is read before anybody has sent it was never sent.
package history

import "time"

// Producer is the number of a producer; a history declares it before it uses it.
type Producer uint32

// Reader is the number of a consumer, whatever partitions it reads, declared likewise.
type Reader uint32

// Partition is the number of a partition, declared likewise.
type Partition uint32

// Kind tells operations apart. The numbers are part of the format.
type Kind uint8

// Kinds of operations, and which fields of Op each one has besides Kind and At.
const (
	DeclarePartition Kind = 1  // Partition, Name
	DeclareProducer  Kind = 2  // Producer, Name, Flags
	DeclareReader    Kind = 3  // Reader, Name, Flags, Group
	Invoke           Kind = 4  // Producer, Partition, Sequence, Count: these records may be sent from now on
	Acked            Kind = 5  // Producer, Partition, Sequence, Count, Offset: consecutive records at consecutive offsets; Offset -1: not known
	Failed           Kind = 6  // Producer, Partition, Sequence, Count: will never be in the log
	Unknown          Kind = 7  // Producer, Partition, Sequence, Count: may or may not be, now or later
	Position         Kind = 8  // Reader, Partition, Offset: the reader reads on from there, because it was told to or the group assigned it
	Poll             Kind = 9  // Reader, Partition, Records: what it got, in its order
	Corrupt          Kind = 10 // Reader, Partition, Offset: a record whose bytes are not what was sent
	CommitInvoke     Kind = 11 // Reader, Partition, Offset: the group's offset may become this from now on
	CommitAcked      Kind = 12 // Reader, Partition, Offset
	Bounds           Kind = 13 // Reader, Partition, Offset, End: a final reader will read [Offset, End), which is all of the log
	Marker           Kind = 14 // Reader, Partition, Offset: no record of a client's is here, and that is right
	Fault            Kind = 15 // Name: what was done to the cluster; for people
	TxnBegin         Kind = 16 // Producer: sends that are invoked from now on belong to a new transaction
	TxnCommitInvoke  Kind = 17 // Producer: the open transaction may become committed from now on
	TxnCommitted     Kind = 18 // Producer: it is
	TxnAborted       Kind = 19 // Producer: it will never be; a read_committed reader must not see its records
	TxnUnknown       Kind = 20 // Producer: either
	lastKind              = TxnUnknown
)

// Flags of producers and readers.
const (
	Idempotent    uint8 = 1 << iota // none of the producer's records may be there twice, and their order is that of sending
	Durable                         // an acknowledged record must never be lost
	ReadCommitted                   // the reader must see committed transactions only
	Final                           // the reader reads everything after the cluster was healed; its word is the truth
)

// Record is one record that a reader got.
type Record struct {
	Offset   int64
	Producer Producer
	Sequence uint64 // counts the producer's records in this partition from 0
}

// Op is one operation.
type Op struct {
	Kind      Kind
	Flags     uint8
	At        time.Duration // since the beginning, to a microsecond
	Producer  Producer
	Reader    Reader
	Partition Partition
	Sequence  uint64
	Count     uint32 // at least 1 where the kind has it
	Offset    int64
	End       int64
	Name      string
	Group     string   // empty: the reader is in none
	Records   []Record // valid until the next operation is decoded
}
