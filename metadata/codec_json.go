package metadata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"
)

// Records that are few and that an operator may want to read with etcdctl are JSON objects with a version field "v".
// Unknown fields are refused: a program that dropped them when it writes the record back would lose what a newer one put there.

type clusterRecord struct {
	Version       int    `json:"v"`
	ClusterID     string `json:"cluster_id"`
	CreatedMillis int64  `json:"created_ms"`
}

type topicRecord struct {
	Version           int               `json:"v"`
	Name              string            `json:"name"`
	Partitions        int32             `json:"partitions"`
	ReplicationFactor int16             `json:"replication_factor"`
	Internal          bool              `json:"internal,omitempty"`
	Configs           map[string]string `json:"configs,omitempty"`
}

type tombstoneRecord struct {
	Version       int    `json:"v"`
	Name          string `json:"name"`
	Partitions    int32  `json:"partitions"`
	DeletedMillis int64  `json:"deleted_ms"`
}

// creationRecord is the intent to write the partition keys [First, End) of a topic.
type creationRecord struct {
	Version     int         `json:"v"`
	Name        string      `json:"name"`
	Broker      BrokerID    `json:"broker"`
	Incarnation Incarnation `json:"incarnation"`
	First       int32       `json:"first"`
	End         int32       `json:"end"`
}

type brokerRecord struct {
	Version int    `json:"v"`
	Host    string `json:"host"`
	Port    int32  `json:"port"`
	Rack    string `json:"rack,omitempty"`
	Token   string `json:"token,omitempty"`
	Replica string `json:"replica,omitempty"`
	// Draining tells that the broker is giving its partitions away.
	Draining bool `json:"draining,omitempty"`
	// Incarnation is set when a registration was renewed after its lease was lost; otherwise the key's create revision counts.
	Incarnation Incarnation `json:"incarnation,omitempty"`
}

type incarnationRecord struct {
	Version int    `json:"v"`
	Token   string `json:"token,omitempty"`
}

type configRecord struct {
	Version int               `json:"v"`
	Configs map[string]string `json:"configs"`
}

// encodeJSON encodes one of the records above; none of them can fail.
func encodeJSON(record any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(record); err != nil {
		panic(fmt.Sprintf("metadata: record cannot be encoded: %v", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// maxJSONBytes bounds the values that decodeJSON looks at.
const maxJSONBytes = 8 * MaxConfigBytes // escapes take up to six bytes

func decodeJSON(b []byte, version *int, record any) error {
	if len(b) > maxJSONBytes {
		return fmt.Errorf("%w: record of %d bytes", ErrInvalid, len(b))
	}
	var v struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if v.Version != codecVersion {
		return fmt.Errorf("%w: record of version %d; this program knows %d", ErrInvalid, v.Version, codecVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(record); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%w: bytes follow the record", ErrInvalid)
	}
	*version = v.Version
	return nil
}

func decodeCluster(b []byte) (r clusterRecord, err error) {
	if err = decodeJSON(b, &r.Version, &r); err == nil && (r.ClusterID == "" || len(r.ClusterID) > 64) {
		err = fmt.Errorf("%w: cluster id of %d bytes", ErrInvalid, len(r.ClusterID))
	}
	return r, err
}

func decodeTopic(b []byte) (r topicRecord, err error) {
	if err = decodeJSON(b, &r.Version, &r); err != nil {
		return r, err
	}
	return r, validateTopic(r.Name, r.Partitions, r.Configs)
}

func decodeTombstone(b []byte) (r tombstoneRecord, err error) {
	if err = decodeJSON(b, &r.Version, &r); err != nil {
		return r, err
	}
	return r, validateTopic(r.Name, r.Partitions, nil)
}

func decodeCreation(b []byte) (r creationRecord, err error) {
	if err = decodeJSON(b, &r.Version, &r); err == nil && (r.First < 0 || r.End < r.First || r.End > MaxTopicPartitions) {
		err = fmt.Errorf("%w: creation of the partitions [%d, %d)", ErrInvalid, r.First, r.End)
	}
	return r, err
}

func decodeBroker(b []byte) (r brokerRecord, err error) {
	if err = decodeJSON(b, &r.Version, &r); err == nil {
		err = validateBroker(Broker{Host: r.Host, Port: r.Port, Rack: r.Rack, Token: r.Token})
	}
	return r, err
}

func decodeIncarnation(b []byte) (r incarnationRecord, err error) {
	err = decodeJSON(b, &r.Version, &r)
	return r, err
}

func decodeConfigs(b []byte) (r configRecord, err error) {
	if err = decodeJSON(b, &r.Version, &r); err == nil {
		err = validateConfigs(r.Configs)
	}
	return r, err
}

func validateTopic(name string, partitions int32, configs map[string]string) error {
	if !validTopicName(name) {
		return fmt.Errorf("%w: topic name %.260q", ErrInvalid, name)
	}
	if partitions < 1 || partitions > MaxTopicPartitions {
		return fmt.Errorf("%w: topic %s: %d partitions, at most %d", ErrInvalid, name, partitions, MaxTopicPartitions)
	}
	return validateConfigs(configs)
}

// validTopicName is Kafka's rule; etcd keys rely on it.
func validTopicName(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > MaxTopicNameBytes {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

func validateConfigs(configs map[string]string) error {
	size := 0
	for k, v := range configs {
		size += len(k) + len(v)
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("%w: config %.100q is not UTF-8", ErrInvalid, k)
		}
	}
	if len(configs) > MaxConfigs || size > MaxConfigBytes {
		return fmt.Errorf("%w: %d configs of %d bytes, at most %d and %d", ErrInvalid, len(configs), size, MaxConfigs, MaxConfigBytes)
	}
	return nil
}

func validateBroker(b Broker) error {
	if n := len(b.Host) + len(b.Rack) + len(b.Token) + len(b.Replica); n > MaxBrokerAddressBytes || !utf8.ValidString(b.Host+b.Rack+b.Token+b.Replica) || b.Port < 0 || b.Port > 65535 || b.ID < 0 {
		return fmt.Errorf("%w: broker %d: port %d, address and token of %d bytes", ErrInvalid, b.ID, b.Port, n)
	}
	return nil
}
