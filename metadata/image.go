package metadata

import (
	"cmp"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"sync"
)

// Image is an immutable snapshot of the cluster's metadata: cluster, brokers, topics, partitions, configs. Taking one costs
// an atomic load. What it returns is shared: do not change it. Safe for concurrent use.
type Image struct {
	clusterID string
	revision  Revision
	ids       [imageShards]*idShard
	names     [imageShards]*nameShard
	sorted    *sortedNames // shared by successive images with the same set of names
	brokers   []Broker     // sorted by id
	configs   map[BrokerID]brokerConfigs
	deleted   map[TopicID]*DeletedTopic // their partitions stay in ids

	topics, partitions int // visible ones
	// topicsVersion changes with every change of a topic, a config, a broker or a partition's owner; not with partitions' state.
	topicsVersion uint64
}

// A change copies only the shards that it touches, so the price of a new image does not grow with the cluster: two shards, two arrays
// of pointers, and the pointers of one topic's partitions.
const imageShards = 256

type (
	idShard   struct{ m map[TopicID]*topicState }
	nameShard struct{ m map[string]*topicState }
)

// topicState is a topic with its partitions; immutable once its image is published. A topic that is being created or is
// deleted has partitions and no record, and cannot be seen from outside.
type topicState struct {
	topic *Topic
	parts []*Partition // by number; nil where no key is
	count int          // of parts that are recorded
}

// recorded tells a partition that has a key from none and from what stands in a hole.
func (p *Partition) recorded() bool { return p != nil && p.Revision != 0 }

type brokerConfigs struct {
	configs  map[string]string
	revision Revision
}

type sortedNames struct {
	once  sync.Once
	names []string
}

var nameSeed = maphash.MakeSeed()

func shardOfID(id TopicID) int { return int(id[0] ^ id[15]) }

func newImage() *Image {
	im := &Image{sorted: &sortedNames{}, configs: map[BrokerID]brokerConfigs{}, deleted: map[TopicID]*DeletedTopic{}}
	for i := range imageShards {
		im.ids[i], im.names[i] = &idShard{}, &nameShard{}
	}
	return im
}

// ClusterID returns the cluster's id: 22 characters, as Kafka makes them.
func (im *Image) ClusterID() string { return im.clusterID }

// Revision returns the newest etcd revision of which the image has changes.
func (im *Image) Revision() Revision { return im.revision }

// NumTopics returns the number of topics.
func (im *Image) NumTopics() int { return im.topics }

// NumPartitions returns the number of partitions of all topics.
func (im *Image) NumPartitions() int { return im.partitions }

// Topic returns a topic by name.
func (im *Image) Topic(name string) (*Topic, bool) {
	t, ok := im.names[uint8(maphash.String(nameSeed, name))].m[name]
	if !ok {
		return nil, false
	}
	return t.topic, true
}

// TopicBytes returns a topic by name, without allocating.
func (im *Image) TopicBytes(name []byte) (*Topic, bool) {
	t, ok := im.names[uint8(maphash.Bytes(nameSeed, name))].m[string(name)]
	if !ok {
		return nil, false
	}
	return t.topic, true
}

// TopicByID returns a topic by id.
func (im *Image) TopicByID(id TopicID) (*Topic, bool) {
	t := im.state(id)
	if t == nil || t.topic == nil {
		return nil, false
	}
	return t.topic, true
}

func (im *Image) state(id TopicID) *topicState { return im.ids[shardOfID(id)].m[id] }

// Topics returns all topics sorted by name.
func (im *Image) Topics() iter.Seq[*Topic] {
	im.sorted.once.Do(func() {
		names := make([]string, 0, im.topics)
		for _, s := range im.names {
			names = slices.AppendSeq(names, maps.Keys(s.m))
		}
		slices.Sort(names)
		im.sorted.names = names
	})
	return func(yield func(*Topic) bool) {
		for _, name := range im.sorted.names {
			if t, ok := im.Topic(name); ok && !yield(t) {
				return
			}
		}
	}
}

// Partition returns a partition of a topic that exists.
func (im *Image) Partition(id PartitionID) (*Partition, bool) {
	t := im.state(id.Topic)
	if t == nil || t.topic == nil || id.Partition < 0 || id.Partition >= t.topic.Partitions {
		return nil, false
	}
	return t.parts[id.Partition], true
}

// PartitionsOf returns the partitions of a topic by number, or nil when it does not exist.
func (im *Image) PartitionsOf(id TopicID) []*Partition {
	t := im.state(id)
	if t == nil || t.topic == nil {
		return nil
	}
	return t.parts[:t.topic.Partitions:t.topic.Partitions]
}

// Brokers returns the live brokers sorted by id.
func (im *Image) Brokers() []Broker { return im.brokers }

// Broker returns a live broker.
func (im *Image) Broker(id BrokerID) (Broker, bool) {
	i, ok := slices.BinarySearchFunc(im.brokers, id, func(b Broker, id BrokerID) int { return cmp.Compare(b.ID, id) })
	if !ok {
		return Broker{}, false
	}
	return im.brokers[i], true
}

// Controller returns the broker that clients should send administrative requests to: the live broker with the lowest id.
// Every broker can serve them. NoBroker when none is live.
func (im *Image) Controller() BrokerID {
	if len(im.brokers) == 0 {
		return NoBroker
	}
	return im.brokers[0].ID
}

// BrokerConfigs returns the dynamic configs of a broker, or of the whole cluster for ClusterDefault; nil when there are none.
func (im *Image) BrokerConfigs(id BrokerID) map[string]string { return im.configs[id].configs }

// DeletedTopics returns the tombstones of topics that are not purged yet, sorted by id.
func (im *Image) DeletedTopics() []DeletedTopic {
	out := make([]DeletedTopic, 0, len(im.deleted))
	for id, d := range im.deleted {
		t := *d
		if st := im.state(id); st != nil {
			for _, p := range st.parts {
				if p.recorded() {
					t.Partitions = append(t.Partitions, *p)
				}
			}
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b DeletedTopic) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return out
}

// Changes is the difference between two images as far as it concerns which topics there are and how they are configured.
type Changes struct {
	Created    []*Topic // in the newer image only
	Deleted    []*Topic // in the older image only; a topic made again under its name is in both lists
	Configured []*Topic // with other configs; as of the newer image
	Extended   []*Topic // with more partitions; as of the newer image
	Brokers    bool     // brokers came, went or changed
	Configs    bool     // dynamic configs of brokers or of the cluster changed
}

// Diff returns what changed between two images of one store. Its price is that of the parts that changed. The order of the
// topics is not defined.
func Diff(older, newer *Image) Changes {
	var c Changes
	for i := range imageShards {
		a, b := older.ids[i], newer.ids[i]
		if a == b {
			continue
		}
		for id, was := range a.m {
			is := b.m[id]
			switch {
			case was.topic == nil:
			case is == nil || is.topic == nil:
				c.Deleted = append(c.Deleted, was.topic)
			case is.topic != was.topic:
				if !maps.Equal(is.topic.Configs, was.topic.Configs) {
					c.Configured = append(c.Configured, is.topic)
				}
				if is.topic.Partitions > was.topic.Partitions {
					c.Extended = append(c.Extended, is.topic)
				}
			}
		}
		for id, is := range b.m {
			if was := a.m[id]; is.topic != nil && (was == nil || was.topic == nil) {
				c.Created = append(c.Created, is.topic)
			}
		}
	}
	c.Brokers = !slices.Equal(older.brokers, newer.brokers)
	c.Configs = !maps.EqualFunc(older.configs, newer.configs, func(x, y brokerConfigs) bool { return x.revision == y.revision })
	return c
}
