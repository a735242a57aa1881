package handler

import (
	"context"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/metadata"
)

// TestDeletedWhileOpening: a deletion that another request finished before the partitions were open must not leave them
// served.
func TestDeletedWhileOpening(t *testing.T) {
	f := newFixture(t, nil)
	f.opener.before = func() {
		topic, ok := f.Meta.Image().Topic("brief")
		if !ok {
			return
		}
		if err := f.deleteTopic(t.Context(), topic.ID, topic.Name); err != nil {
			t.Error(err)
		}
	}
	call[*kmsg.CreateTopicsResponse](f, 7, createRequest(newTopic("brief", 2, 1)))
	if open := f.Partitions.All(); len(open) != 0 {
		t.Errorf("%d partitions of a deleted topic are served", len(open))
	}
}

// TestConfiguredWhileOpening: configs that another request changed after the opener had read them must hold.
func TestConfiguredWhileOpening(t *testing.T) {
	f := newFixture(t, nil)
	f.opener.before = func() {
		topic, _ := f.Meta.Image().Topic("orders")
		err := f.Meta.SetTopicConfigs(t.Context(), topic.ID, func(old map[string]string) (map[string]string, error) {
			next := maps.Clone(old)
			if next == nil {
				next = map[string]string{}
			}
			next["max.message.bytes"] = "4321"
			return next, nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	topic := f.create("orders", 1)
	p, ok := f.Partitions.Get(metadata.PartitionID{Topic: topic.ID})
	if !ok || p.Config().MaxMessageBytes != 4321 {
		t.Errorf("the partition has %+v", p.Config())
	}
}

// TestOpeningIsAwaited: a request for a partition that is this broker's and about to be opened waits for that.
func TestOpeningIsAwaited(t *testing.T) {
	f := newFixture(t, nil)
	topic := f.create("moved", 2)
	id := metadata.PartitionID{Topic: topic.ID, Partition: 1}
	p, _ := f.Partitions.Get(id)
	config := p.Config()
	f.Partitions.Close(id)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var gone openings
	if _, code := gone.partitionOf(ctx, f.Broker, topic, 1); code != kerr.NotLeaderForPartition.Code {
		t.Errorf("a request that is over: code %d", code)
	}
	gone.end()

	answered := make(chan int16)
	go func() {
		var wait openings
		defer wait.end()
		_, code := wait.partitionOf(t.Context(), f.Broker, topic, 1)
		answered <- code
	}()
	if _, err := f.Partitions.Open(partition.OpenState{ID: id, Topic: topic.Name, Config: config}); err != nil {
		t.Fatal(err)
	}
	if code := <-answered; code != 0 {
		t.Errorf("code %d after the partition was opened", code)
	}
}
