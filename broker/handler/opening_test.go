package handler

import (
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

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
