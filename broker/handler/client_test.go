package handler

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemarkmq/tidemark/broker/server"
)

// serve puts the fixture behind a real listener and returns an admin client that reaches it whatever address it is told.
func (f *fixture) serve() *kadm.Client {
	f.t.Helper()
	s, err := server.New(server.Options{Handler: f.Broker})
	if err != nil {
		f.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, ln.Addr().String())
	}
	client, err := kgo.NewClient(kgo.SeedBrokers("broker.test:9092"), kgo.Dialer(dial), kgo.RetryTimeout(5*time.Second))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		client.Close()
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("serve: %v", err)
		}
		stop, end := context.WithTimeout(context.Background(), 5*time.Second)
		defer end()
		if err := s.Shutdown(stop); err != nil {
			f.t.Errorf("shutdown: %v", err)
		}
	})
	return kadm.NewClient(client)
}

// TestAdminClient walks a topic's life with a client that negotiates versions itself.
func TestAdminClient(t *testing.T) {
	f := newFixture(t, nil)
	admin := f.serve()
	ctx := t.Context()

	made, err := admin.CreateTopics(ctx, 3, 3, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, "orders")
	if err != nil || made["orders"].Err != nil || made["orders"].NumPartitions != 3 || made["orders"].ReplicationFactor != 3 {
		t.Fatalf("create: %v %+v", err, made)
	}
	if again, err := admin.CreateTopic(ctx, 1, 1, nil, "orders"); err != kerr.TopicAlreadyExists {
		t.Errorf("create again: %v %+v", err, again)
	}
	topics, err := admin.ListTopics(ctx)
	if err != nil || len(topics) != 1 || len(topics["orders"].Partitions) != 3 || topics["orders"].Partitions[2].Leader != 7 {
		t.Fatalf("list: %v %+v", err, topics)
	}
	if _, err := admin.UpdatePartitions(ctx, 5, "orders"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: kadm.StringPtr("delete")},
		{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("77")},
	}, "orders"); err != nil {
		t.Fatal(err)
	}
	described, err := admin.DescribeTopicConfigs(ctx, "orders")
	if err != nil || len(described) != 1 || described[0].Err != nil {
		t.Fatalf("describe: %v %+v", err, described)
	}
	values := map[string]string{}
	for _, c := range described[0].Configs {
		values[c.Key] = c.MaybeValue()
	}
	if values["cleanup.policy"] != "compact,delete" || values["retention.ms"] != "77" {
		t.Errorf("configs: %v", values)
	}
	if _, err := admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "log.retention.bytes", Value: kadm.StringPtr("1000")}}); err != nil {
		t.Error(err)
	}
	brokers, err := admin.DescribeBrokerConfigs(ctx, 7)
	if err != nil || len(brokers) != 1 || brokers[0].Err != nil || len(brokers[0].Configs) < 50 {
		t.Errorf("describe broker: %v, %d configs", err, len(brokers[0].Configs))
	}
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil || len(dirs[7]["/data/wal"].Topics["orders"]) != 5 {
		t.Errorf("log dirs: %v %+v", err, dirs)
	}
	meta, err := admin.BrokerMetadata(ctx)
	if err != nil || meta.Cluster != f.Meta.Image().ClusterID() || meta.Controller != 7 {
		t.Errorf("cluster: %v %+v", err, meta)
	}
	if deleted, err := admin.DeleteTopics(ctx, "orders", "missing"); err != nil || deleted["orders"].Err != nil || deleted["missing"].Err != kerr.UnknownTopicOrPartition {
		t.Errorf("delete: %v %+v", err, deleted)
	}
	if n := len(f.Partitions.All()); n != 0 {
		t.Errorf("%d partitions are open", n)
	}
}
