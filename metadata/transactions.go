package metadata

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// TxnStatus is where a transactional id stands. The numbers are those of Kafka's TransactionState.
type TxnStatus uint8

// The states in which a transactional id is stored.
const (
	TxnEmpty         TxnStatus = iota // no transaction since the producer was initialised
	TxnOngoing                        // partitions are being written
	TxnPrepareCommit                  // decided; markers are being written
	TxnPrepareAbort
	TxnCompleteCommit // every marker is durable
	TxnCompleteAbort
)

// String is Kafka's name of the state, as DescribeTransactions shows it.
func (s TxnStatus) String() string {
	names := [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("TxnStatus(%d)", uint8(s))
}

// Prepared tells that the transaction's outcome is decided and its markers are being written.
func (s TxnStatus) Prepared() bool { return s == TxnPrepareCommit || s == TxnPrepareAbort }

// Bounds of a transactional id's record.
const (
	MaxTransactionalIDBytes = MaxGroupIDBytes
	MaxTxnPartitions        = 30_000 // of one transaction; some 20 bytes each
	MaxTxnVersion           = 2
)

// Transaction is the state of a transactional id (KIP-98, KIP-360, KIP-890). Values are immutable once stored.
type Transaction struct {
	Status TxnStatus
	// ProducerID is the id in use; Previous the one before, −1 none; Next the one that begins when the markers of the last epoch are written.
	ProducerID, PreviousProducerID, NextProducerID int64
	ProducerEpoch, LastProducerEpoch               int16 // −1 none
	TimeoutMillis                                  int32
	StartMillis, UpdateMillis                      int64         // Unix time; StartMillis is −1 without a transaction
	ClientVersion                                  int8          // transaction.version of the client that changed it last
	Partitions                                     []PartitionID // of the transaction, sorted by ComparePartitions, without repetition
}

// ComparePartitions orders partitions by topic id and number.
func ComparePartitions(a, b PartitionID) int {
	if c := slices.Compare(a.Topic[:], b.Topic[:]); c != 0 {
		return c
	}
	return cmp.Compare(a.Partition, b.Partition)
}

// appendTransaction encodes a record. Partitions are grouped by topic.
func appendTransaction(b []byte, t *Transaction) []byte {
	b = append(b, kindTransaction, codecVersion, byte(t.Status))
	for _, id := range []int64{t.ProducerID, t.PreviousProducerID, t.NextProducerID, int64(t.ProducerEpoch), int64(t.LastProducerEpoch)} {
		b = binary.AppendUvarint(b, uint64(id+1))
	}
	b = binary.AppendUvarint(b, uint64(t.TimeoutMillis))
	b = binary.AppendUvarint(b, uint64(t.StartMillis+1))
	b = binary.AppendUvarint(b, uint64(t.UpdateMillis))
	b = append(b, byte(t.ClientVersion))
	topics := 0
	for i, p := range t.Partitions {
		if i == 0 || p.Topic != t.Partitions[i-1].Topic {
			topics++
		}
	}
	b = binary.AppendUvarint(b, uint64(topics))
	for i := 0; i < len(t.Partitions); {
		end := i
		for end < len(t.Partitions) && t.Partitions[end].Topic == t.Partitions[i].Topic {
			end++
		}
		b = append(b, t.Partitions[i].Topic[:]...)
		b = binary.AppendUvarint(b, uint64(end-i))
		for ; i < end; i++ {
			b = binary.AppendUvarint(b, uint64(t.Partitions[i].Partition))
		}
	}
	return b
}

// decodeTransaction is the inverse of appendTransaction.
func decodeTransaction(b []byte) (*Transaction, error) {
	d := newDecoder(b, kindTransaction)
	t := &Transaction{Status: TxnStatus(d.byte("status"))}
	if t.Status > TxnCompleteAbort {
		d.fail("status %d", t.Status)
	}
	t.ProducerID = int64(d.uint("producer id", math.MaxInt64)) - 1
	t.PreviousProducerID = int64(d.uint("previous producer id", math.MaxInt64)) - 1
	t.NextProducerID = int64(d.uint("next producer id", math.MaxInt64)) - 1
	t.ProducerEpoch = int16(int32(d.uint("producer epoch", math.MaxInt16+1)) - 1)
	t.LastProducerEpoch = int16(int32(d.uint("last producer epoch", math.MaxInt16+1)) - 1)
	t.TimeoutMillis = int32(d.uint("timeout", math.MaxInt32))
	t.StartMillis = int64(d.uint("start", math.MaxInt64)) - 1
	t.UpdateMillis = int64(d.uint("update", math.MaxInt64))
	t.ClientVersion = int8(d.byte("client's transaction version"))
	if t.ClientVersion < 0 || t.ClientVersion > MaxTxnVersion {
		d.fail("transaction version %d", t.ClientVersion)
	}
	topics := int(d.uint("topics", MaxTxnPartitions))
	for range topics {
		var topic TopicID
		if len(d.b) < len(topic) {
			d.fail("topic id: truncated")
			break
		}
		d.b = d.b[copy(topic[:], d.b):]
		n := int(d.uint("partitions", uint64(MaxTxnPartitions-len(t.Partitions))))
		if n == 0 {
			d.fail("topic without partitions")
		}
		for range n {
			p := PartitionID{Topic: topic, Partition: int32(d.uint("partition", MaxTopicPartitions-1))}
			if k := len(t.Partitions); d.err == nil && k > 0 && ComparePartitions(t.Partitions[k-1], p) >= 0 {
				d.fail("partition %s follows %s", p, t.Partitions[k-1])
			}
			if d.err != nil {
				return nil, d.err
			}
			t.Partitions = append(t.Partitions, p)
		}
	}
	return t, d.done()
}

// validate checks what the codec relies on.
func (t *Transaction) validate() error {
	ids := min(t.ProducerID+1, t.PreviousProducerID+1, t.NextProducerID+1, int64(t.ProducerEpoch)+1, int64(t.LastProducerEpoch)+1, t.StartMillis+1, t.UpdateMillis, int64(t.TimeoutMillis), int64(t.ClientVersion))
	if t.Status > TxnCompleteAbort || ids < 0 || t.ClientVersion > MaxTxnVersion || len(t.Partitions) > MaxTxnPartitions {
		return fmt.Errorf("%w: transaction in state %s with %d partitions", ErrInvalid, t.Status, len(t.Partitions))
	}
	for i := 1; i < len(t.Partitions); i++ {
		if ComparePartitions(t.Partitions[i-1], t.Partitions[i]) >= 0 {
			return fmt.Errorf("%w: partitions of a transaction are not sorted", ErrInvalid)
		}
	}
	return nil
}
