package handler

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

const (
	// maxPartitionsPerRequest is Kafka's bound of what one request may create.
	maxPartitionsPerRequest = 10_000
	// anyReplicationFactor is accepted whatever the broker count: copies are kept by the durability class and the object
	// store, and clients everywhere ask for three.
	anyReplicationFactor = 3

	defaultAdminTimeout = 30 * time.Second // for a timeout of 0 or less
	maxAdminTimeout     = 5 * time.Minute
)

// adminTimeout bounds a request's own timeout.
func adminTimeout(ctx context.Context, timeoutMillis int32) (context.Context, context.CancelFunc) {
	d := time.Duration(timeoutMillis) * time.Millisecond
	if d <= 0 {
		d = defaultAdminTimeout
	}
	return context.WithTimeout(ctx, min(d, maxAdminTimeout))
}

// createTopics answers CreateTopics (19).
func (b *Broker) createTopics(ctx context.Context, _ *server.Conn, _ wire.Header, req *kmsg.CreateTopicsRequest) (kmsg.Response, error) {
	ctx, cancel := adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrCreateTopicsResponse()
	times := make(map[string]int, len(req.Topics))
	for _, t := range req.Topics {
		times[t.Topic]++
	}
	tooMany := b.checkTotal(req.Topics)
	for i := range req.Topics {
		t := &req.Topics[i]
		n := times[t.Topic]
		times[t.Topic] = 0
		if n == 0 {
			continue // answered with the first of its name
		}
		var (
			result kmsg.CreateTopicsResponseTopic
			err    error
		)
		switch {
		case n > 1:
			err = invalidRequest("Duplicate topic name.")
		case t.Topic == clusterMetadataTopic:
			err = invalidRequest("Creation of internal topic %s is prohibited.", clusterMetadataTopic)
		case tooMany != nil:
			err = tooMany
		default:
			result, err = b.createTopic(ctx, t, req.ValidateOnly)
		}
		if err != nil {
			result = kmsg.NewCreateTopicsResponseTopic()
			result.Topic = t.Topic
			result.ErrorCode, result.ErrorMessage = b.answer(ctx, "CreateTopics", err)
		}
		resp.Topics = append(resp.Topics, result)
	}
	return resp, nil
}

// checkTotal bounds the partitions of one request, as Kafka's controller does.
func (b *Broker) checkTotal(topics []kmsg.CreateTopicsRequestTopic) error {
	total := int64(0)
	for i := range topics {
		switch t := &topics[i]; {
		case len(t.ReplicaAssignment) > 0:
			total += int64(len(t.ReplicaAssignment))
		case t.NumPartitions > 0:
			total += int64(t.NumPartitions)
		default:
			total++
		}
	}
	if total > maxPartitionsPerRequest {
		return refuse(kerr.PolicyViolation, "Excessively large number of partitions per request: %d, at most %d are allowed.", total, maxPartitionsPerRequest)
	}
	return nil
}

// createTopic checks one topic in Kafka's order (ReplicationControlManager), and unless validateOnly makes it and opens
// its partitions on this broker.
func (b *Broker) createTopic(ctx context.Context, t *kmsg.CreateTopicsRequestTopic, validateOnly bool) (kmsg.CreateTopicsResponseTopic, error) {
	im := b.Meta.Image()
	layers := b.layers(im)
	spec, err := b.planTopic(im, layers, t)
	if err != nil {
		return kmsg.CreateTopicsResponseTopic{}, err
	}
	var id metadata.TopicID
	if !validateOnly {
		topic, err := b.makeTopic(ctx, spec)
		if err != nil {
			return kmsg.CreateTopicsResponseTopic{}, err
		}
		id = topic.ID
	}
	result := kmsg.NewCreateTopicsResponseTopic()
	result.Topic, result.TopicID = t.Topic, id
	result.NumPartitions, result.ReplicationFactor = spec.Partitions, spec.ReplicationFactor
	for _, e := range b.Configs.DescribeTopic(layers, spec.Configs) {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.ReadOnly = e.Key.Name, nullable(e.Value), e.ReadOnly
		c.Source, c.IsSensitive = int8(e.Source), e.Key.Sensitive()
		result.Configs = append(result.Configs, c)
	}
	return result, nil
}

// makeTopic creates the topic and has its partitions opened before it is answered for. The opening is not cut short by
// the end of the request: the topic exists by then.
func (b *Broker) makeTopic(ctx context.Context, spec metadata.TopicSpec) (*metadata.Topic, error) {
	topic, err := b.Meta.CreateTopic(ctx, spec)
	if errors.Is(err, metadata.ErrExists) {
		return nil, topicExists(spec.Name)
	}
	if err != nil {
		return nil, err
	}
	b.logger.InfoContext(ctx, "topic created", "topic", topic.Name, "id", topic.ID, "partitions", topic.Partitions)
	return topic, b.openPartitions(context.WithoutCancel(ctx), topic, 0)
}

// openPartitions opens the topic's partitions from first on that this broker owns. A deletion or a change of configs that
// came in between has not seen them: both are looked at again.
func (b *Broker) openPartitions(ctx context.Context, topic *metadata.Topic, first int32) error {
	im := b.Meta.Image()
	for i := first; i < topic.Partitions; i++ {
		p, ok := im.Partition(metadata.PartitionID{Topic: topic.ID, Partition: i})
		if !ok || p.Owner != b.NodeID {
			continue
		}
		if err := b.Opener.OpenPartition(ctx, topic, p); err != nil {
			return err
		}
	}
	if _, ok := b.Meta.Image().TopicByID(topic.ID); !ok {
		b.Opener.ClosePartitions(topic.ID)
		return nil
	}
	b.configureTopic(topic.ID)
	return nil
}

func topicExists(name string) error {
	return refuse(kerr.TopicAlreadyExists, "Topic '%s' already exists.", name)
}

// planTopic checks everything that can be checked before the creation.
func (b *Broker) planTopic(im *metadata.Image, layers configs.Layers, t *kmsg.CreateTopicsRequestTopic) (metadata.TopicSpec, error) {
	spec := metadata.TopicSpec{Name: t.Topic, Internal: isInternal(t.Topic), Owner: b.NodeID, Incarnation: b.Incarnation()}
	if err := checkTopicName(t.Topic); err != nil {
		return spec, err
	}
	// An existing topic is told before a collision, since it collides with nothing but itself.
	if _, ok := im.Topic(t.Topic); ok {
		return spec, topicExists(t.Topic)
	}
	if err := checkCollision(im, t.Topic); err != nil {
		return spec, err
	}
	var err error
	if spec.Configs, err = topicConfigs(t.Configs); err != nil {
		return spec, err
	}
	if err := b.Configs.ValidateTopic(layers, spec.Configs); err != nil {
		return spec, err
	}
	if len(t.ReplicaAssignment) > 0 {
		if spec.Partitions, spec.ReplicationFactor, err = checkAssignments(im, t); err != nil {
			return spec, err
		}
		leaders := make([]metadata.BrokerID, spec.Partitions)
		for _, a := range t.ReplicaAssignment {
			leaders[a.Partition] = metadata.BrokerID(a.Replicas[0])
		}
		spec.Place = leadBy(im, 0, leaders)
		return spec, nil
	}
	if spec.Partitions, spec.ReplicationFactor, err = b.checkCounts(im, layers, t.NumPartitions, t.ReplicationFactor); err != nil {
		return spec, err
	}
	spec.Place = b.spread(im, 0, spec.Partitions)
	return spec, nil
}

func topicConfigs(given []kmsg.CreateTopicsRequestTopicConfig) (map[string]string, error) {
	all := make(map[string]string, len(given))
	var nulls []string
	for _, c := range given {
		if c.Value == nil {
			nulls = append(nulls, c.Name)
			continue
		}
		all[c.Name] = *c.Value
	}
	if len(nulls) > 0 {
		return nil, refuse(kerr.InvalidConfig, "Null value not supported for topic configs: %s", strings.Join(nulls, ","))
	}
	return all, nil
}

// checkCounts replaces −1 by the defaults and bounds the rest.
func (b *Broker) checkCounts(im *metadata.Image, layers configs.Layers, partitions int32, factor int16) (int32, int16, error) {
	switch {
	case factor < -1 || factor == 0:
		return 0, 0, refuse(kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	case partitions < -1 || partitions == 0:
		return 0, 0, refuse(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	if partitions == -1 {
		partitions = int32(b.Configs.BrokerInt(layers, configs.NumPartitions))
	}
	if factor == -1 {
		factor = int16(b.Configs.BrokerInt(layers, configs.DefaultReplicationFactor))
	}
	if partitions > maxPartitionsPerRequest {
		return 0, 0, refuse(kerr.InvalidPartitions, "Number of partitions is %d; at most %d can be created at once.", partitions, maxPartitionsPerRequest)
	}
	if n := len(im.Brokers()); int(factor) > max(n, anyReplicationFactor) {
		return 0, 0, refuse(kerr.InvalidReplicationFactor, "Unable to replicate the partition %d time(s): "+
			"The target replication factor of %d cannot be reached because only %d broker(s) are registered.", factor, factor, n)
	}
	return partitions, factor, nil
}

// checkAssignments applies Kafka's rules of manual assignments. They decide the counts, and by the first replica who owns a partition first.
func checkAssignments(im *metadata.Image, t *kmsg.CreateTopicsRequestTopic) (int32, int16, error) {
	if t.ReplicationFactor != -1 {
		return 0, 0, invalidRequest("A manual partition assignment was specified, but replication factor was not set to -1.")
	}
	if t.NumPartitions != -1 {
		return 0, 0, invalidRequest("A manual partition assignment was specified, but numPartitions was not set to -1.")
	}
	factor := -1
	seen := make(map[int32]bool, len(t.ReplicaAssignment))
	for _, a := range t.ReplicaAssignment {
		if seen[a.Partition] {
			return 0, 0, refuse(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.Partition)
		}
		if err := checkReplicas(im, a.Replicas, factor); err != nil {
			return 0, 0, err
		}
		seen[a.Partition] = true
		factor = len(a.Replicas)
	}
	for i := range int32(len(seen)) {
		if !seen[i] {
			return 0, 0, refuse(kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
		}
	}
	return int32(len(seen)), int16(factor), nil
}

// checkReplicas checks one partition's replicas against the live brokers and the factor so far (−1 = none yet).
func checkReplicas(im *metadata.Image, replicas []int32, factor int) error {
	if len(replicas) == 0 {
		return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	sorted := slices.Sorted(slices.Values(replicas))
	for i, id := range sorted {
		if _, ok := im.Broker(metadata.BrokerID(id)); !ok {
			return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", id)
		}
		if i > 0 && sorted[i-1] == id {
			return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", id)
		}
	}
	if factor >= 0 && len(replicas) != factor {
		return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes a partition with %d replica(s), "+
			"but this is not consistent with previous partitions, which have %d replica(s).", len(replicas), factor)
	}
	return nil
}

// nullable turns a config's value into the wire's null or text.
func nullable(v configs.Value) *string {
	if v.Null {
		return nil
	}
	return &v.Text
}
