package wire

// FetchResponse is the answer to a Fetch request, of any version from 4 to 18.
type FetchResponse struct {
	ThrottleMillis int32
	ErrorCode      int16 // v7+
	SessionID      int32 // v7+
	Topics         []FetchTopic
	NodeEndpoints  []NodeEndpoint // v16+ (KIP-951)

	// Release is called exactly once, when the record bytes have been written, copied or given up, on any goroutine; it must not block.
	// Nothing of the response is touched afterwards, so it may put the response back into a pool. nil = nothing to release.
	Release func()
}

// FetchTopic is one topic of a FetchResponse.
type FetchTopic struct {
	Topic      string   // up to v12
	TopicID    [16]byte // from v13
	Partitions []FetchPartition
}

// FetchPartition is one partition of a FetchResponse. Start from NewFetchPartition: the zero value names broker 0 as preferred replica.
type FetchPartition struct {
	Partition        int32
	ErrorCode        int16
	HighWatermark    int64
	LastStable       int64
	LogStart         int64 // v5+
	Diverging        *EpochEnd
	CurrentLeader    *LeaderIDEpoch
	Snapshot         *EpochEnd
	Aborted          []AbortedTransaction // nil = null (read_uncommitted), empty = none
	PreferredReplica int32                // v11+; -1 = none
	// Records are whole batches, in order; the answer is their concatenation. They are not copied: they must stay as they are until
	// FetchResponse.Release is called. None = empty record set.
	Records [][]byte
}

// EpochEnd is a leader epoch and the offset one past its last (KIP-595), sent from v12 as a tagged field where not nil.
type EpochEnd struct {
	Epoch     int32
	EndOffset int64
}

// LeaderIDEpoch names a partition's leader (KIP-951), sent from v12 as a tagged field where not nil.
type LeaderIDEpoch struct {
	LeaderID    int32
	LeaderEpoch int32
}

// AbortedTransaction is an entry of the aborted list of a read_committed fetch (KIP-98).
type AbortedTransaction struct {
	ProducerID  int64
	FirstOffset int64
}

// NewFetchPartition has Kafka's defaults: unknown offsets, no preferred replica, no records.
func NewFetchPartition(partition int32, errorCode int16) FetchPartition {
	return FetchPartition{Partition: partition, ErrorCode: errorCode, HighWatermark: -1, LastStable: -1, LogStart: -1, PreferredReplica: -1}
}

// SizeBytes is the sum of all record bytes.
func (r *FetchResponse) SizeBytes() int {
	n := 0
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			for _, b := range r.Topics[i].Partitions[j].Records {
				n += len(b)
			}
		}
	}
	return n
}
