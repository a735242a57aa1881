package metadata

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// edit makes a new image out of an older one, copying what it touches once. Not safe for concurrent use.
type edit struct {
	keys  keyspace
	im    *Image
	owned struct {
		ids, names                [imageShards]bool
		brokers, configs, deleted bool
	}
	topics map[TopicID]*topicState // copied by this edit; may be changed in place
}

// newEdit starts from old, which stays as it is.
func newEdit(keys keyspace, old *Image) *edit {
	im := *old
	return &edit{keys: keys, im: &im, topics: map[TopicID]*topicState{}}
}

// apply applies one event of a key below meta/. It fails on records that cannot be decoded, and then changes nothing.
func (e *edit) apply(ev kv.Event) error {
	name, ok := strings.CutPrefix(ev.Key, e.keys.prefix)
	if !ok {
		return fmt.Errorf("%w: key %q outside the prefix", ErrInvalid, ev.Key)
	}
	var err error
	switch {
	case strings.HasPrefix(name, dirPartition):
		err = e.applyPartition(name[len(dirPartition):], ev)
	case strings.HasPrefix(name, dirTopic):
		err = e.applyTopic(name[len(dirTopic):], ev)
	case strings.HasPrefix(name, dirDeleted):
		err = e.applyDeleted(name[len(dirDeleted):], ev)
	case strings.HasPrefix(name, dirBroker):
		err = e.applyBroker(name[len(dirBroker):], ev)
	case strings.HasPrefix(name, dirConfig):
		err = e.applyConfig(name[len(dirConfig):], ev)
	case name == dirCluster:
		err = e.applyCluster(ev)
	}
	if err != nil {
		return fmt.Errorf("metadata key %s: %w", ev.Key, err)
	}
	e.im.revision = max(e.im.revision, Revision(ev.ModRevision))
	return nil
}

// finish returns the image. The edit must not be used afterwards.
func (e *edit) finish() *Image {
	for id, t := range e.topics {
		if t.topic == nil {
			continue
		}
		// Creation writes partitions before the record, so holes are damage, or the record was read ahead of the watch. They are
		// shown as partitions without an owner and without a revision.
		for len(t.parts) < int(t.topic.Partitions) {
			t.parts = append(t.parts, nil)
		}
		for i := range t.topic.Partitions {
			if t.parts[i] == nil {
				t.parts[i] = &Partition{ID: PartitionID{Topic: id, Partition: i}, Owner: NoBroker}
			}
		}
	}
	return e.im
}

// topic returns the state of a topic for changing.
func (e *edit) topic(id TopicID) *topicState {
	if t, ok := e.topics[id]; ok {
		return t
	}
	t := &topicState{}
	old := e.im.state(id)
	if old != nil {
		*t = topicState{topic: old.topic, parts: slices.Clone(old.parts), count: old.count}
	}
	e.topics[id] = t
	i := shardOfID(id)
	if !e.owned.ids[i] {
		e.owned.ids[i] = true
		e.im.ids[i] = &idShard{maps.Clone(e.im.ids[i].m)}
		if e.im.ids[i].m == nil {
			e.im.ids[i].m = map[TopicID]*topicState{}
		}
	}
	e.im.ids[i].m[id] = t
	if t.topic != nil {
		// The name may already belong to a successor, when its creation was seen before this topic's deletion.
		if shard := e.nameShard(t.topic.Name); shard[t.topic.Name] == old {
			shard[t.topic.Name] = t
		}
	}
	return t
}

func (e *edit) nameShard(name string) map[string]*topicState {
	i := uint8(maphash.String(nameSeed, name))
	if !e.owned.names[i] {
		e.owned.names[i] = true
		e.im.names[i] = &nameShard{maps.Clone(e.im.names[i].m)}
		if e.im.names[i].m == nil {
			e.im.names[i].m = map[string]*topicState{}
		}
	}
	return e.im.names[i].m
}

// drop forgets a topic of which nothing is left.
func (e *edit) drop(id TopicID, t *topicState) {
	if t.topic == nil && t.count == 0 {
		delete(e.im.ids[shardOfID(id)].m, id)
		delete(e.topics, id)
	}
}

func (e *edit) applyPartition(name string, ev kv.Event) error {
	id, err := parsePartition(name)
	if err != nil {
		return err
	}
	if ev.IsDelete {
		t := e.topic(id.Topic)
		if int(id.Partition) < len(t.parts) {
			if t.parts[id.Partition].recorded() {
				t.count--
			}
			t.parts[id.Partition] = nil
		}
		e.drop(id.Topic, t)
		return nil
	}
	p, err := decodePartition(ev.Value)
	if err != nil {
		return err
	}
	p.ID, p.Revision = id, Revision(ev.ModRevision)
	e.setPartition(&p)
	return nil
}

func (e *edit) setPartition(p *Partition) {
	id := p.ID
	t := e.topic(id.Topic)
	for len(t.parts) <= int(id.Partition) {
		t.parts = append(t.parts, nil)
	}
	old := t.parts[id.Partition]
	if !old.recorded() {
		t.count++
	}
	if !old.recorded() || old.LeaderEpoch != p.LeaderEpoch {
		e.im.topicsVersion++ // whoever serves it has work to do
	}
	t.parts[id.Partition] = p
}

// keep takes the record of a topic or partition over from old, because the one at key cannot be decoded: without it the topic would
// look deleted, and its data would be dropped. An error says that old has none either; other records are not worth one.
func (e *edit) keep(old *Image, key string) (kept bool, err error) {
	name := strings.TrimPrefix(key, e.keys.prefix)
	if id, perr := parsePartition(strings.TrimPrefix(name, dirPartition)); perr == nil && strings.HasPrefix(name, dirPartition) {
		t := old.state(id.Topic)
		if t == nil || int(id.Partition) >= len(t.parts) || !t.parts[id.Partition].recorded() {
			return false, fmt.Errorf("%w: partition %s was never known", ErrInvalid, id)
		}
		e.setPartition(t.parts[id.Partition])
		return true, nil
	}
	if id, perr := parseTopic(strings.TrimPrefix(name, dirTopic)); perr == nil && strings.HasPrefix(name, dirTopic) {
		t, ok := old.TopicByID(id)
		if !ok {
			return false, fmt.Errorf("%w: topic %s was never known", ErrInvalid, id)
		}
		e.setTopic(id, t)
		return true, nil
	}
	return false, nil
}

func (e *edit) applyTopic(name string, ev kv.Event) error {
	id, err := parseTopic(name)
	if err != nil {
		return err
	}
	var topic *Topic
	if !ev.IsDelete {
		r, err := decodeTopic(ev.Value)
		if err != nil {
			return err
		}
		topic = &Topic{Name: r.Name, ID: id, Partitions: r.Partitions, ReplicationFactor: r.ReplicationFactor,
			Configs: r.Configs, Internal: r.Internal, Revision: Revision(ev.ModRevision)}
	}
	e.setTopic(id, topic)
	return nil
}

// setTopic shows the topic, or takes it away where topic is nil.
func (e *edit) setTopic(id TopicID, topic *Topic) {
	t := e.topic(id)
	if old := t.topic; old != nil {
		e.im.topics--
		e.im.partitions -= int(old.Partitions)
		if shard := e.nameShard(old.Name); (topic == nil || topic.Name != old.Name) && shard[old.Name] == t {
			delete(shard, old.Name)
		}
	}
	if (t.topic == nil) != (topic == nil) || (topic != nil && topic.Name != t.topic.Name) {
		e.im.sorted = &sortedNames{}
	}
	t.topic = topic
	if topic != nil {
		e.im.topics++
		e.im.partitions += int(topic.Partitions)
		shard := e.nameShard(topic.Name)
		if holder := shard[topic.Name]; holder == nil || holder == t || holder.topic.Revision < topic.Revision {
			shard[topic.Name] = t
		}
	}
	e.im.topicsVersion++
	e.drop(id, t)
}

func (e *edit) applyDeleted(name string, ev kv.Event) error {
	id, err := parseTopic(name)
	if err != nil {
		return err
	}
	var d *DeletedTopic
	if !ev.IsDelete {
		r, err := decodeTombstone(ev.Value)
		if err != nil {
			return err
		}
		d = &DeletedTopic{ID: id, Name: r.Name, DeletedMillis: r.DeletedMillis}
	}
	if !e.owned.deleted {
		e.owned.deleted = true
		e.im.deleted = maps.Clone(e.im.deleted)
	}
	if d == nil {
		delete(e.im.deleted, id)
	} else {
		e.im.deleted[id] = d
	}
	e.im.topicsVersion++
	return nil
}

func (e *edit) applyBroker(name string, ev kv.Event) error {
	n, err := parseHex32(name)
	if err != nil {
		return err
	}
	id := BrokerID(n)
	var b Broker
	if !ev.IsDelete {
		if b, err = brokerOf(id, ev.Pair); err != nil {
			return err
		}
	}
	if !e.owned.brokers {
		e.owned.brokers = true
		e.im.brokers = slices.Clone(e.im.brokers)
	}
	i, found := slices.BinarySearchFunc(e.im.brokers, id, func(b Broker, id BrokerID) int { return cmp.Compare(b.ID, id) })
	switch {
	case ev.IsDelete && found:
		e.im.brokers = slices.Delete(e.im.brokers, i, i+1)
	case ev.IsDelete:
	case found:
		e.im.brokers[i] = b
	default:
		e.im.brokers = slices.Insert(e.im.brokers, i, b)
	}
	e.im.topicsVersion++
	return nil
}

// brokerOf decodes a registration. A registration that does not name its incarnation has that of its key's creation.
func brokerOf(id BrokerID, p kv.Pair) (Broker, error) {
	r, err := decodeBroker(p.Value)
	if err != nil {
		return Broker{}, err
	}
	b := Broker{ID: id, Host: r.Host, Port: r.Port, Rack: r.Rack, Token: r.Token, Replica: r.Replica, Draining: r.Draining, Incarnation: r.Incarnation}
	if b.Incarnation == 0 {
		b.Incarnation = Incarnation(p.CreateRevision)
	}
	return b, nil
}

func (e *edit) applyConfig(name string, ev kv.Event) error {
	id, err := parseConfigID(name)
	if err != nil {
		return err
	}
	var c brokerConfigs
	if !ev.IsDelete {
		r, err := decodeConfigs(ev.Value)
		if err != nil {
			return err
		}
		c = brokerConfigs{r.Configs, Revision(ev.ModRevision)}
	}
	if !e.owned.configs {
		e.owned.configs = true
		e.im.configs = maps.Clone(e.im.configs)
	}
	if ev.IsDelete {
		delete(e.im.configs, id)
	} else {
		e.im.configs[id] = c
	}
	e.im.topicsVersion++
	return nil
}

func (e *edit) applyCluster(ev kv.Event) error {
	if ev.IsDelete {
		return nil // the id of a running cluster does not change
	}
	r, err := decodeCluster(ev.Value)
	if err != nil {
		return err
	}
	e.im.clusterID = r.ClusterID
	return nil
}
