package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

func kafkaGoTrip(ctx context.Context, bootstrap, codec string) error {
	topic := fmt.Sprintf("kafka-go-%s-%d", codec, time.Now().UnixNano())
	conn, err := kafka.DialContext(ctx, "tcp", bootstrap)
	if err != nil {
		return err
	}
	defer conn.Close()
	controller, err := conn.Controller()
	if err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	leader, err := kafka.DialContext(ctx, "tcp", net.JoinHostPort(controller.Host, strconv.Itoa(controller.Port)))
	if err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	defer leader.Close()
	if err := leader.CreateTopics(kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond} // the shared default one remembers that the topic was unknown
	defer transport.CloseIdleConnections()
	writer := &kafka.Writer{
		Transport: transport,
		Addr:      kafka.TCP(bootstrap), Topic: topic, Balancer: &kafka.Hash{}, RequiredAcks: kafka.RequireAll,
		BatchTimeout: 5 * time.Millisecond, Compression: kafkaGoCodec(codec),
	}
	messages := make([]kafka.Message, recordsPerCodec)
	for i := range messages {
		messages[i] = kafka.Message{Key: []byte(key(i)), Value: []byte(value(codec, i)), Headers: []kafka.Header{{Key: headerName, Value: []byte(codec)}}}
	}
	if err := errors.Join(writer.WriteMessages(ctx, messages...), writer.Close()); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	var w wanted
	if err := kafkaGoConsume(ctx, bootstrap, topic, codec, &w, recordsPerCodec-groupTail); err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	if err := kafkaGoConsume(ctx, bootstrap, topic, codec, &w, groupTail); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return leader.DeleteTopics(topic)
}

func kafkaGoCodec(codec string) kafka.Compression {
	switch codec {
	case "gzip":
		return kafka.Gzip
	case "snappy":
		return kafka.Snappy
	case "lz4":
		return kafka.Lz4
	case "zstd":
		return kafka.Zstd
	}
	return 0
}

func kafkaGoConsume(ctx context.Context, bootstrap, topic, codec string, w *wanted, n int) error {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{bootstrap}, Topic: topic, GroupID: topic, StartOffset: kafka.FirstOffset, MaxWait: 250 * time.Millisecond,
	})
	var err error
	for range n {
		var m kafka.Message
		if m, err = reader.FetchMessage(ctx); err != nil {
			break
		}
		if len(m.Headers) != 1 || string(m.Headers[0].Value) != codec {
			err = fmt.Errorf("headers %v", m.Headers)
			break
		}
		if err = w.check(codec, string(m.Key), string(m.Value)); err != nil {
			break
		}
		if err = reader.CommitMessages(ctx, m); err != nil {
			break
		}
	}
	return errors.Join(err, reader.Close())
}
