package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/loadtest/bench/access"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

const (
	adminTimeout = 2 * time.Minute
	// nullCluster is the id of the broker that keeps nothing: it is the ceiling, and nothing in it can be verified.
	nullCluster = "nullbroker"
	// growBy is how many partitions a topic gets at a time where the broker does not take all at once.
	growBy = 5000
)

// ErrNoTransactions says that the broker serves none.
var ErrNoTransactions = errors.New("this broker serves no transactions")

// cluster is the broker under load as an administrator sees it.
type cluster struct {
	client  *kgo.Client
	admin   *kadm.Client
	id      string
	brokers int
	leaders []string // address of each partition's leader, once there is a topic
}

func connect(ctx context.Context, s *spec.Spec, a access.Access) (*cluster, error) {
	opts := append(a.Options(), kgo.SeedBrokers(s.Bootstrap...), kgo.ClientID("tidemark-bench"), kgo.RetryTimeout(20*time.Second))
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	c := &cluster{client: client, admin: kadm.NewClient(client)}
	c.admin.SetTimeoutMillis(int32(adminTimeout / time.Millisecond))
	meta, err := c.admin.BrokerMetadata(ctx)
	if err == nil && s.Txn() {
		err = c.requireTransactions(ctx)
	}
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("reach %v: %w", s.Bootstrap, err)
	}
	c.id, c.brokers = meta.Cluster, len(meta.Brokers)
	return c, nil
}

// requireTransactions says clearly what franz-go would retry for long.
func (c *cluster) requireTransactions(ctx context.Context) error {
	versions, err := c.admin.ApiVersions(ctx)
	if err != nil {
		return err
	}
	for _, v := range versions {
		for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn} {
			if _, _, ok := v.KeyVersions(key.Int16()); !ok && v.Err == nil {
				return fmt.Errorf("%w: it does not list %s", ErrNoTransactions, key.Name())
			}
		}
	}
	return nil
}

// prepare makes sure that the topic is there and knows the leaders of its partitions.
func (c *cluster) prepare(ctx context.Context, s *spec.Spec, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	if !s.Existing {
		if err := c.create(ctx, s, topic); err != nil {
			return fmt.Errorf("create topic %s: %w", topic, err)
		}
	}
	for {
		err := c.findLeaders(ctx, s, topic)
		if err == nil || !errors.Is(err, errNotReady) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("topic %s: %w", topic, err)
		}
	}
}

// create makes the topic. Kafka's controller takes at most 10,000 changes in a request (POLICY_VIOLATION), so very many partitions
// come in steps there.
func (c *cluster) create(ctx context.Context, s *spec.Spec, topic string) error {
	configs := map[string]*string{}
	for name, value := range s.TopicConfigs {
		configs[name] = &value
	}
	_, err := c.admin.CreateTopic(ctx, int32(s.Partitions), int16(s.ReplicationFactor), configs, topic)
	if s.Partitions <= growBy || !errors.Is(err, kerr.PolicyViolation) {
		return err
	}
	if _, err := c.admin.CreateTopic(ctx, growBy, int16(s.ReplicationFactor), configs, topic); err != nil {
		return err
	}
	for n := growBy; n < s.Partitions; {
		n = min(n+growBy, s.Partitions)
		grown, err := c.admin.UpdatePartitions(ctx, n, topic)
		if err == nil {
			err = grown.Error()
		}
		if err != nil {
			return fmt.Errorf("grow to %d partitions: %w", n, err)
		}
	}
	return nil
}

var errNotReady = errors.New("not all partitions have leaders")

func (c *cluster) findLeaders(ctx context.Context, s *spec.Spec, topic string) error {
	meta, err := c.admin.Metadata(ctx, topic)
	if err != nil {
		return err
	}
	detail := meta.Topics[topic]
	switch {
	case errors.Is(detail.Err, kerr.UnknownTopicOrPartition) && !s.Existing, errors.Is(detail.Err, kerr.LeaderNotAvailable):
		return errNotReady
	case detail.Err != nil:
		return fmt.Errorf("topic %s: %w", topic, detail.Err)
	}
	if s.Existing {
		s.Partitions = len(detail.Partitions)
	} else if len(detail.Partitions) != s.Partitions {
		return errNotReady
	}
	addresses := map[int32]string{}
	for _, b := range meta.Brokers {
		addresses[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	c.leaders = make([]string, s.Partitions)
	for _, p := range detail.Partitions {
		if p.Err != nil || addresses[p.Leader] == "" || int(p.Partition) >= s.Partitions {
			return errNotReady
		}
		c.leaders[p.Partition] = addresses[p.Leader]
	}
	return nil
}

// offsets lists where each partition starts or ends.
func (c *cluster) offsets(ctx context.Context, topic string, partitions int, ends bool) ([]int64, error) {
	list := c.admin.ListStartOffsets
	if ends {
		list = c.admin.ListEndOffsets
	}
	listed, err := list(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	all := make([]int64, partitions)
	for i := range all {
		o, ok := listed.Lookup(topic, int32(i))
		if !ok {
			return nil, fmt.Errorf("list offsets: partition %d is missing", i)
		}
		all[i] = o.Offset
	}
	return all, nil
}

func (c *cluster) delete(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	_, err := c.admin.DeleteTopic(ctx, topic)
	return err
}

func (c *cluster) null() bool { return c.id == nullCluster }
