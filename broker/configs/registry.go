package configs

import (
	"fmt"
	"sort"
)

// DefaultMaxBatchBytes is the largest batch that a write-ahead log with slabs of 8 MiB takes, framing set aside.
const DefaultMaxBatchBytes = 8<<20 - 64<<10

// MaxOverrideBytes bounds the names and values of one resource together, since they are one value in etcd.
const MaxOverrideBytes = 64 << 10

// Options configures a Registry.
type Options struct {
	// Static holds the broker's own configuration in Kafka's names (node.id, log.dirs, num.partitions …). It must validate.
	Static map[string]string
	// MaxBatchBytes is the largest batch that the write-ahead log takes; 0 = DefaultMaxBatchBytes.
	MaxBatchBytes int64
	// Durability is the class of the brokers' streams, and so of every topic: "" = local.
	Durability string
}

// Registry is the table of configs and this broker's static values. It is immutable and safe for concurrent use.
type Registry struct {
	topic, broker           map[string]*Key
	topicNames, brokerNames []string // sorted
	static                  map[string]string
	maxBatchBytes           int64
}

// Layers are the dynamic broker configs, the stronger first. Neither map is changed or kept.
type Layers struct {
	Broker  map[string]string // set for this broker
	Cluster map[string]string // set as the cluster's default
}

// New checks the static configuration and builds the tables. Errors are *Error.
func New(o Options) (*Registry, error) {
	if o.MaxBatchBytes == 0 {
		o.MaxBatchBytes = DefaultMaxBatchBytes
	}
	r := &Registry{static: make(map[string]string, len(o.Static)), maxBatchBytes: o.MaxBatchBytes}
	if o.Durability == "" {
		o.Durability = "local"
	}
	r.topic, r.topicNames = index(topicKeys(o.Durability), r.boundBatch)
	r.broker, r.brokerNames = index(brokerKeys(o.Durability), r.boundBatch)
	for name, text := range o.Static {
		k, ok := r.broker[name]
		if !ok {
			return nil, refuse("Unknown broker config name: %s", name)
		}
		v, err := k.parse(text)
		if err != nil {
			return nil, err
		}
		r.static[name] = format(v)
	}
	if err := checkTogether(r.topicValues(Layers{}, nil)); err != nil {
		return nil, fmt.Errorf("static configuration: %w", err)
	}
	return r, nil
}

// boundBatch keeps the two size configs below what the write-ahead log can hold in one entry.
func (r *Registry) boundBatch(k *Key) {
	if k.Name != MaxMessageBytes && k.Name != MessageMaxBytes {
		return
	}
	low := atLeast(0)
	k.rule = func(name string, v value) error {
		if err := low(name, v); err != nil {
			return err
		}
		if v.(int64) > r.maxBatchBytes {
			return invalid(name, format(v), fmt.Sprintf("Value must be no more than %d, the largest batch that this broker's write-ahead log takes", r.maxBatchBytes))
		}
		return nil
	}
}

func index(keys []Key, adjust func(*Key)) (map[string]*Key, []string) {
	m := make(map[string]*Key, len(keys))
	names := make([]string, 0, len(keys))
	for i := range keys {
		k := &keys[i]
		adjust(k)
		if _, twice := m[k.Name]; twice {
			panic("configs: the key " + k.Name + " is in the table twice")
		}
		m[k.Name] = k
		names = append(names, k.Name)
	}
	sort.Strings(names)
	return m, names
}

// MaxBatchBytes is the largest value that max.message.bytes may have.
func (r *Registry) MaxBatchBytes() int64 { return r.maxBatchBytes }

// TopicKey looks up a topic config.
func (r *Registry) TopicKey(name string) (*Key, bool) { k, ok := r.topic[name]; return k, ok }

// BrokerKey looks up a broker config.
func (r *Registry) BrokerKey(name string) (*Key, bool) { k, ok := r.broker[name]; return k, ok }

// brokerValue is the effective parsed value of one broker key by itself, synonyms left aside; nil if it has none.
// Dynamic values that do not parse (written by another version) are passed over.
func (r *Registry) brokerValue(l Layers, k *Key) value {
	for _, layer := range []map[string]string{l.Broker, l.Cluster, r.static} {
		if text, ok := layer[k.Name]; ok {
			if v, err := k.parse(text); err == nil {
				return v
			}
		}
	}
	if k.Null {
		return nil
	}
	return defaultOf(k)
}

// topicDefault is the value of a topic key without the topic's own override: its synonyms in order, then its default.
func (r *Registry) topicDefault(l Layers, k *Key) value {
	for _, s := range k.Synonyms {
		b := r.broker[s.Name]
		v := r.brokerValue(l, b)
		if v == nil {
			continue
		}
		return inMillis(v, s.Millis)
	}
	return defaultOf(k)
}

// inMillis converts a broker key's value by its unit; 0 takes it as it is. Below 0 means for ever and has no unit.
func inMillis(v value, unitMillis int64) value {
	n, ok := v.(int64)
	switch {
	case !ok || unitMillis == 0:
		return v
	case n < 0:
		return int64(-1)
	}
	return n * unitMillis
}

// BrokerInt is the effective value of a broker config of type int, short or long. The key must exist.
func (r *Registry) BrokerInt(l Layers, name string) int64 {
	n, _ := r.brokerValue(l, r.broker[name]).(int64)
	return n
}

// BrokerBool is the effective value of a broker config of type bool. The key must exist.
func (r *Registry) BrokerBool(l Layers, name string) bool {
	b, _ := r.brokerValue(l, r.broker[name]).(bool)
	return b
}

// BrokerString is the effective value of a broker config of type string. The key must exist.
func (r *Registry) BrokerString(l Layers, name string) string {
	text, _ := r.brokerValue(l, r.broker[name]).(string)
	return text
}

// BrokerList is the effective value of a broker config of type list. The key must exist; the list must not be changed.
func (r *Registry) BrokerList(l Layers, name string) []string {
	list, _ := r.brokerValue(l, r.broker[name]).([]string)
	return list
}

// ValidateTopic checks a topic's overrides against the table and, together with the defaults, against each other.
// Errors are *Error; Kafka answers them as INVALID_CONFIG.
func (r *Registry) ValidateTopic(l Layers, overrides map[string]string) error {
	names, err := r.checkNames(overrides)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := r.topic[name]; !ok {
			return refuse("Unknown topic config name: %s", name)
		}
	}
	for _, name := range names {
		if _, err := r.topic[name].parse(overrides[name]); err != nil {
			return err
		}
	}
	return checkTogether(r.topicValues(l, overrides))
}

func (r *Registry) checkNames(overrides map[string]string) ([]string, error) {
	names := make([]string, 0, len(overrides))
	size := 0
	for name, text := range overrides {
		names = append(names, name)
		size += len(name) + len(text)
	}
	if size > MaxOverrideBytes {
		return nil, refuse("The configs are %d bytes together; at most %d are kept for one resource", size, MaxOverrideBytes)
	}
	sort.Strings(names)
	return names, nil
}

// topicValues parses every effective topic config. Overrides that do not parse are passed over.
func (r *Registry) topicValues(l Layers, overrides map[string]string) map[string]value {
	values := make(map[string]value, len(r.topic))
	for name, k := range r.topic {
		if text, ok := overrides[name]; ok {
			if v, err := k.parse(text); err == nil {
				values[name] = v
				continue
			}
		}
		values[name] = r.topicDefault(l, k)
	}
	return values
}

func checkTogether(values map[string]value) error {
	low, high := values["min.compaction.lag.ms"].(int64), values["max.compaction.lag.ms"].(int64)
	if low > high {
		return refuse("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", low, high)
	}
	return nil
}

// ValidateBroker checks the dynamic configs of one broker (perBroker) or of the cluster's default, all of them together.
// Errors are *Error; Kafka answers them as INVALID_REQUEST.
func (r *Registry) ValidateBroker(overrides map[string]string, perBroker bool) error {
	names, err := r.checkNames(overrides)
	if err != nil {
		return err
	}
	for _, name := range names {
		k, ok := r.broker[name]
		switch {
		case !ok:
			return refuse("Unknown broker config name: %s", name)
		case k.Scope == ReadOnly:
			return refuse("Cannot update these configs dynamically: %s", name)
		case k.Scope == PerBroker && !perBroker:
			return refuse("Cannot update these configs at default cluster level, broker id must be specified: %s", name)
		}
		if _, err := k.parse(overrides[name]); err != nil {
			return err
		}
	}
	l := Layers{Cluster: overrides}
	if perBroker {
		l = Layers{Broker: overrides}
	}
	return checkTogether(r.topicValues(l, nil))
}
