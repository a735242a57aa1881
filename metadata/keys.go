package metadata

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// keyspace builds and parses the keys below a prefix. Everything below meta/ is watched by every broker; the rest is read
// by those whom it concerns. Numbers are fixed-width hexadecimal, so that they sort. FORMAT.md lists all keys.
type keyspace struct {
	prefix string // without a trailing slash
}

const (
	dirMeta        = "/meta/"
	dirCluster     = "/meta/cluster"
	dirBroker      = "/meta/broker/"
	dirIncarnation = "/meta/incarnation/"
	dirConfig      = "/meta/config/"
	dirTopic       = "/meta/topic/"
	dirName        = "/meta/name/"
	dirPartition   = "/meta/partition/"
	dirDeleted     = "/meta/deleted/"
	dirCreating    = "/meta/creating/"
	dirPending     = "/meta/pending/"
	dirStream      = "/stream/state/"
	dirCommitted   = "/stream/committed/"
	dirEnsemble    = "/stream/ensemble/"
	dirProducers   = "/producer-ids"
	dirGroup       = "/group/state/"
	dirOffsets     = "/group/offsets/"
	dirTransaction = "/transaction/"
	dirNever       = "/never" // no key, for transactions that are to take their Else list
)

func (k keyspace) dir(dir string) (start, end string) {
	start = k.prefix + dir
	return start, kv.PrefixEnd(start)
}

func (k keyspace) cluster() string     { return k.prefix + dirCluster }
func (k keyspace) producerIDs() string { return k.prefix + dirProducers }
func (k keyspace) broker(id BrokerID) string {
	return k.prefix + dirBroker + hex32(int32(id))
}

func (k keyspace) incarnation(id BrokerID) string {
	return k.prefix + dirIncarnation + hex32(int32(id))
}

func (k keyspace) config(id BrokerID) string {
	if id == ClusterDefault {
		return k.prefix + dirConfig + "default"
	}
	return k.prefix + dirConfig + hex32(int32(id))
}

func (k keyspace) topic(id TopicID) string    { return k.prefix + dirTopic + id.Hex() }
func (k keyspace) name(name string) string    { return k.prefix + dirName + name }
func (k keyspace) deleted(id TopicID) string  { return k.prefix + dirDeleted + id.Hex() }
func (k keyspace) creating(id TopicID) string { return k.prefix + dirCreating + id.Hex() }

func (k keyspace) partition(id PartitionID) string {
	return k.prefix + dirPartition + id.Topic.Hex() + "/" + hex32(id.Partition)
}

func (k keyspace) stream(id StreamID) string    { return k.prefix + dirStream + hex64(uint64(id)) }
func (k keyspace) committed(id StreamID) string { return k.prefix + dirCommitted + hex64(uint64(id)) }
func (k keyspace) ensemble(id StreamID) string  { return k.prefix + dirEnsemble + hex64(uint64(id)) }

func (k keyspace) pending(id StreamID, seq uint64) string {
	return k.prefix + dirPending + hex64(uint64(id)) + "/" + hex64(seq)
}

func (k keyspace) group(id string) string { return k.prefix + dirGroup + escapeGroup(id) }

func (k keyspace) transaction(id string) string { return k.prefix + dirTransaction + escapeGroup(id) }

func (k keyspace) groupOffsets(id string) string {
	return k.prefix + dirOffsets + escapeGroup(id) + "/"
}

func (k keyspace) offsets(group string, topic TopicID, bucket int32) string {
	return k.groupOffsets(group) + topic.Hex() + "/" + fmt.Sprintf("%04x", bucket)
}

func hex32(v int32) string { return fixedHex(uint64(uint32(v)), 8) }

func hex64(v uint64) string { return fixedHex(v, 16) }

func fixedHex(v uint64, width int) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := width - 1; i >= 0; i-- {
		b[i] = digits[v&15]
		v >>= 4
	}
	return string(b[:width])
}

func parseHex(s string, width int) (uint64, error) {
	if len(s) != width || strings.ToLower(s) != s {
		return 0, fmt.Errorf("%w: %.40q is not a hexadecimal number of %d digits", ErrInvalid, s, width)
	}
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %.40q is not a hexadecimal number", ErrInvalid, s)
	}
	return v, nil
}

func parseHex32(s string) (int32, error) {
	v, err := parseHex(s, 8)
	if err == nil && v > 1<<31-1 {
		err = fmt.Errorf("%w: %s is out of range", ErrInvalid, s)
	}
	return int32(v), err
}

// parseTopic parses a topic id as it stands in keys: one spelling only.
func parseTopic(s string) (TopicID, error) {
	id, err := ParseTopicIDHex(s)
	if err == nil && (id.Hex() != s || id == TopicID{}) {
		err = fmt.Errorf("topic id %q is not canonical", s)
	}
	if err != nil {
		return TopicID{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return id, nil
}

// parsePartition parses a partition's key after dirPartition.
func parsePartition(s string) (PartitionID, error) {
	topic, number, _ := strings.Cut(s, "/")
	id, err := parseTopic(topic)
	if err != nil {
		return PartitionID{}, err
	}
	n, err := parseHex32(number)
	if err == nil && n >= MaxTopicPartitions {
		err = fmt.Errorf("%w: partition %d, at most %d", ErrInvalid, n, MaxTopicPartitions)
	}
	return PartitionID{Topic: id, Partition: n}, err
}

// parsePending parses a pending object's key after dirPending.
func parsePending(s string) (StreamID, uint64, error) {
	stream, number, _ := strings.Cut(s, "/")
	id, err := parseHex(stream, 16)
	if err != nil {
		return 0, 0, err
	}
	seq, err := parseHex(number, 16)
	return StreamID(id), seq, err
}

func parseConfigID(s string) (BrokerID, error) {
	if s == "default" {
		return ClusterDefault, nil
	}
	id, err := parseHex32(s)
	return BrokerID(id), err
}

// parseOffsets parses an offset bucket's key after dirOffsets.
func parseOffsets(s string) (group string, topic TopicID, bucket int32, err error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return "", topic, 0, fmt.Errorf("%w: offsets key %.100q", ErrInvalid, s)
	}
	if group, err = unescapeGroup(parts[0]); err != nil {
		return "", topic, 0, err
	}
	if topic, err = parseTopic(parts[1]); err != nil {
		return "", topic, 0, err
	}
	v, err := parseHex(parts[2], 4)
	if err == nil && v > (MaxTopicPartitions-1)/offsetBucketPartitions {
		err = fmt.Errorf("%w: offsets bucket %d", ErrInvalid, v)
	}
	return group, topic, int32(v), err
}

// escapeGroup makes a group id, which may hold any bytes, fit between slashes: bytes other than letters, digits, '.', '_'
// and '-' become %xx.
func escapeGroup(id string) string {
	plain := true
	for i := range len(id) {
		plain = plain && plainByte(id[i])
	}
	if plain {
		return id
	}
	var b strings.Builder
	for i := range len(id) {
		if c := id[i]; plainByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + fixedHex(uint64(c), 2))
		}
	}
	return b.String()
}

// unescapeGroup is the inverse of escapeGroup; it accepts only what escapeGroup makes.
func unescapeGroup(s string) (string, error) {
	if len(s) > 3*MaxGroupIDBytes {
		return "", fmt.Errorf("%w: escaped group id of %d bytes", ErrInvalid, len(s))
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+3 > len(s) {
			return "", fmt.Errorf("%w: escaped group id ends in an escape", ErrInvalid)
		}
		v, err := parseHex(s[i+1:i+3], 2)
		if err != nil {
			return "", err
		}
		b.WriteByte(byte(v))
		i += 2
	}
	if escapeGroup(b.String()) != s {
		return "", fmt.Errorf("%w: group id %.100q is not escaped as it should be", ErrInvalid, s)
	}
	return b.String(), nil
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

func validateGroup(id string) error {
	if len(id) > MaxGroupIDBytes { // an empty id is Kafka's oldest kind of simple consumer
		return fmt.Errorf("%w: group id of %d bytes", ErrInvalid, len(id))
	}
	return nil
}
