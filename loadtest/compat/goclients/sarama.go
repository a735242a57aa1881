package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

func saramaTrip(ctx context.Context, bootstrap, codec string) error {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V3_6_0_0
	cfg.Producer.Idempotent = true
	cfg.Net.MaxOpenRequests = 1
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Return.Successes = true
	cfg.Producer.MaxMessageBytes = 900_000
	if err := cfg.Producer.Compression.UnmarshalText([]byte(codec)); err != nil {
		return err
	}
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	cfg.Consumer.Offsets.AutoCommit.Enable = false
	topic := fmt.Sprintf("sarama-%s-%d", codec, time.Now().UnixNano())
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, cfg)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := saramaProduce(bootstrap, topic, codec, cfg); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	var w wanted
	if err := saramaConsume(ctx, bootstrap, topic, codec, cfg, &w, recordsPerCodec-groupTail); err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	if err := saramaConsume(ctx, bootstrap, topic, codec, cfg, &w, groupTail); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	groups, err := admin.DescribeConsumerGroups([]string{topic})
	if err != nil {
		return fmt.Errorf("describe group: %w", err)
	}
	if len(groups) != 1 || groups[0].State != "Empty" {
		return fmt.Errorf("group after its members left: %+v", groups)
	}
	return admin.DeleteTopic(topic)
}

func saramaProduce(bootstrap, topic, codec string, cfg *sarama.Config) error {
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, cfg)
	if err != nil {
		return err
	}
	messages := make([]*sarama.ProducerMessage, recordsPerCodec)
	for i := range messages {
		messages[i] = &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(key(i)), Value: sarama.StringEncoder(value(codec, i)),
			Headers: []sarama.RecordHeader{{Key: []byte(headerName), Value: []byte(codec)}},
		}
	}
	return errors.Join(producer.SendMessages(messages), producer.Close())
}

// saramaGroup reads some records and then ends its session.
type saramaGroup struct {
	codec string
	done  context.CancelFunc

	mu   sync.Mutex
	w    *wanted
	left int
	err  error
}

func (*saramaGroup) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*saramaGroup) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (g *saramaGroup) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok || !g.take(s, m) {
				return nil
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (g *saramaGroup) take(s sarama.ConsumerGroupSession, m *sarama.ConsumerMessage) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left == 0 || g.err != nil {
		return false
	}
	if len(m.Headers) != 1 || string(m.Headers[0].Value) != g.codec {
		g.err = fmt.Errorf("headers %v", m.Headers)
	} else {
		g.err = g.w.check(g.codec, string(m.Key), string(m.Value))
	}
	s.MarkMessage(m, "")
	if g.left--; g.left == 0 || g.err != nil {
		s.Commit()
		g.done()
	}
	return true
}

func saramaConsume(ctx context.Context, bootstrap, topic, codec string, cfg *sarama.Config, w *wanted, n int) error {
	group, err := sarama.NewConsumerGroup([]string{bootstrap}, topic, cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := &saramaGroup{codec: codec, done: cancel, w: w, left: n}
	err = group.Consume(ctx, []string{topic}, g)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if g.left > 0 && err == nil && g.err == nil {
		err = fmt.Errorf("%d records never came", g.left)
	}
	return errors.Join(err, g.err, group.Close())
}
