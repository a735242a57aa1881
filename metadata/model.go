package metadata

import (
	"fmt"
	"time"
)

// ClusterDefault is the broker id under which the cluster-wide dynamic broker configs are kept (KIP-226).
const ClusterDefault BrokerID = -1

// NoBroker is the owner of a partition that nobody owns, and the controller of a cluster without live brokers.
const NoBroker BrokerID = -1

// Bounds of records; a mutation beyond them answers ErrInvalid, so that no etcd value or transaction grows without limit.
const (
	MaxTopicNameBytes     = 249     // Kafka's own limit
	MaxTopicPartitions    = 200_000 // of one topic
	MaxManifestKeyBytes   = 320     // keeps a partition's key and value within 512 bytes
	MaxObjectKeyBytes     = 1024    // S3's own limit
	MaxConfigs            = 256     // entries of one topic or broker
	MaxConfigBytes        = 64 << 10
	MaxGroupIDBytes       = 4096
	MaxGroupStateBytes    = 768 << 10
	MaxOffsetBucketBytes  = 768 << 10 // one group's offsets of 256 partitions of a topic
	MaxOffsetMetaBytes    = 32 << 10  // of one committed offset
	MaxBrokerAddressBytes = 1024
)

// Topic is the record of a topic. Values reached through an Image are shared: do not change them.
type Topic struct {
	Name              string
	ID                TopicID
	Partitions        int32
	ReplicationFactor int16 // as the creator asked; Tidemark replicates by durability class, not by this
	Configs           map[string]string
	Internal          bool
	Revision          Revision // mod revision of the record
}

// Partition is the record of a partition. Values reached through an Image are shared: do not change them.
type Partition struct {
	ID               PartitionID
	Owner            BrokerID
	OwnerIncarnation Incarnation
	LeaderEpoch      LeaderEpoch
	LogStart         Offset
	Manifest         ManifestRef
	Revision         Revision // mod revision of the record
}

// ManifestRef points at the newest generation of a partition's manifest in the object store.
type ManifestRef struct {
	Key        string // "" when there is none yet
	Generation uint64 // grows by swaps; 0 when there is none yet
	End        Offset // one past the last offset in the manifest
	SizeBytes  int64  // of the manifest object, so that it is read with one ranged GET
}

// Broker is a broker's registration.
type Broker struct {
	ID          BrokerID
	Host        string
	Port        int32
	Rack        string
	Token       string      // identity of the data directory, see Store.Register; as a replica of streams, the disk's
	Replica     string      // HOST:PORT where other brokers reach its replicas; "" when it has none
	Draining    bool        // it gives its partitions away and takes none
	Incarnation Incarnation // set by Register
}

// TopicSpec says what CreateTopic makes.
type TopicSpec struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	Configs           map[string]string
	Internal          bool
	Owner             BrokerID    // who creates it, and the first owner of its partitions
	Incarnation       Incarnation // of the owner; the creation is fenced by it
	// Place says who gets a partition instead; nil: Owner gets all. That they are live is not compared: what a broker that died gets is taken over
	// like everything else of it. It may be called for a partition more than once, and must then say the same.
	Place func(partition int32) Place
}

// Place is one run of a broker.
type Place struct {
	Broker      BrokerID
	Incarnation Incarnation
}

// DeletedTopic is the tombstone of a topic whose objects are still to be reaped.
type DeletedTopic struct {
	ID            TopicID
	Name          string
	DeletedMillis int64       // Unix time
	Partitions    []Partition // with their last manifest pointers, sorted by partition
}

// ManifestSwap replaces a partition's manifest pointer. It is applied only when LeaderEpoch is still the partition's and
// the generation is still Old.
type ManifestSwap struct {
	Partition   PartitionID
	LeaderEpoch LeaderEpoch
	Old         uint64 // generation
	New         ManifestRef
	LogStart    Offset // raises the log start in the same swap when it is above the present one; 0 leaves it
}

// Class is a durability class of WAL streams.
type Class uint8

// The durability classes. Their numbers stand in etcd and in stream ids.
const (
	ClassLocal  Class = 0
	ClassQuorum Class = 1
	ClassObject Class = 2
)

// String returns the value of the topic config tidemark.durability that selects the class.
func (c Class) String() string {
	switch c {
	case ClassLocal:
		return "local"
	case ClassQuorum:
		return "quorum"
	case ClassObject:
		return "object"
	}
	return fmt.Sprintf("class-%d", uint8(c))
}

// StreamID names a WAL stream for ever: the incarnation that writes it in the low 56 bits and the class in the high 8, so
// the id of a local stream is its incarnation.
type StreamID uint64

const streamClassShift = 56

// NewStreamID returns the id of an incarnation's stream of class c.
func NewStreamID(epoch Incarnation, c Class) StreamID {
	return StreamID(uint64(epoch)&(1<<streamClassShift-1) | uint64(c)<<streamClassShift)
}

// Epoch returns the incarnation that writes the stream.
func (id StreamID) Epoch() Incarnation { return Incarnation(id & (1<<streamClassShift - 1)) }

// Class returns the stream's durability class.
func (id StreamID) Class() Class { return Class(id >> streamClassShift) }

// String is for logs: class and epoch.
func (id StreamID) String() string { return fmt.Sprintf("%s-%d", id.Class(), id.Epoch()) }

// StreamPhase is where a stream is in its life. It only moves forward: open, recovering (perhaps by several brokers in
// turn), sealed.
type StreamPhase uint8

// The phases. Their numbers stand in etcd.
const (
	StreamOpen       StreamPhase = 1
	StreamRecovering StreamPhase = 2
	StreamSealed     StreamPhase = 3
)

// String returns the phase in the design's words.
func (p StreamPhase) String() string {
	switch p {
	case StreamOpen:
		return "OPEN"
	case StreamRecovering:
		return "RECOVERING"
	case StreamSealed:
		return "SEALED"
	}
	return fmt.Sprintf("phase-%d", uint8(p))
}

// StreamState is the record of a WAL stream. Positions are byte positions in the stream.
type StreamState struct {
	ID           StreamID
	Owner        BrokerID
	Epoch        Incarnation
	Class        Class
	State        StreamPhase
	RecoveringBy Incarnation // the incarnation that drains it; 0 unless recovering
	First        uint64      // position of the first byte; 0 for a new stream
	End          uint64      // one past the last byte; set by sealing
	// Committed is one past the last byte that lies in committed objects, absorbed or not: a recovery drains
	// [Committed, end). It is kept by CommitObjects beside the stream's record and does not change Revision.
	Committed uint64
	Revision  Revision // mod revision of the record; what CommitObjects compares
}

// PendingObject is an object that is committed and not yet absorbed by the manifests of all its partitions.
type PendingObject struct {
	Stream    StreamID
	Seq       uint64 // of the object in its stream; unique
	Key       string // in the object store
	SizeBytes int64
	FooterAt  int64 // byte position of the footer in the object
	CRC       uint32
	From, To  uint64 // half-open range of WAL positions that the object holds
}

// CommittedOffset is a consumer group's position in a partition.
type CommittedOffset struct {
	Offset       Offset
	LeaderEpoch  LeaderEpoch // −1: not given
	Metadata     string
	CommitMillis int64 // Unix time
	ExpireMillis int64 // Unix time; 0 or below: by the broker's retention
}

// GroupOffsets is a set of offsets of one group and topic.
type GroupOffsets struct {
	Group      string
	Topic      TopicID
	Partitions map[int32]CommittedOffset
}

// GroupPartitions names offsets to delete.
type GroupPartitions struct {
	Group      string
	Topic      TopicID
	Partitions []int32
}

// minLeaseTTL is the shortest registration lease: etcd counts in whole seconds and keepalives need room to be retried.
const minLeaseTTL = time.Second
