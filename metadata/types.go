package metadata

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// Offset is a record's position in a partition, counted in records from 0.
type Offset int64

// LeaderEpoch counts the acquisitions of a partition by a broker (KIP-101). It only grows.
type LeaderEpoch int32

// BrokerID is Kafka's node id.
type BrokerID int32

// Incarnation identifies one run of a broker process: the etcd create revision of its registration key.
type Incarnation int64

// Revision is an etcd mod revision; every mutation is a swap on one.
type Revision int64

// TopicID is Kafka's topic UUID (KIP-516). The zero value means no topic.
type TopicID [16]byte

// String returns the id as Kafka prints it: 22 characters of URL-safe base64 without padding.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// Hex returns the id as 32 lower-case hexadecimal digits, as it stands in etcd keys and object keys.
func (id TopicID) Hex() string { return hex.EncodeToString(id[:]) }

// ParseTopicIDHex is the inverse of Hex.
func ParseTopicIDHex(s string) (TopicID, error) {
	var id TopicID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("topic id %q: want %d hexadecimal digits", s, 2*len(id))
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err
}

// PartitionID names a partition for ever: a re-created topic has another id.
type PartitionID struct {
	Topic     TopicID
	Partition int32
}

// String is for logs: the topic id and the partition.
func (p PartitionID) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.Partition) }
