package broker

import (
	"testing"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/metadata"
)

// TestHandedOverStaysClosed: an image from before the hand-over does not open the partition again, in a leader epoch that is over.
func TestHandedOverStaysClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.add(1)
		f.createTopic("a", 1)
		b := f.runs[1].broker
		set, err := partition.NewSet(partition.Options{Meta: b.meta})
		if err != nil {
			t.Fatal(err)
		}
		o := &opener{
			catalog: b.catalog, pending: b.meta, partitions: set, deleted: func(metadata.TopicID) {},
			config: func(tp *metadata.Topic) configs.Topic { return b.configs.Topic(configs.Layers{}, tp.Configs) },
		}
		if err := o.reconcile(t.Context(), b.meta.Image, b.incarnation); err != nil {
			t.Fatal(err)
		}
		topic, _ := b.meta.Image().Topic("a")
		id := metadata.PartitionID{Topic: topic.ID}
		p, ok := set.Get(id)
		if !ok {
			t.Fatal("not open")
		}
		old := b.meta.Image()
		set.Release(id, p.LeaderEpoch())
		if err := b.meta.ReleasePartitions(t.Context(), nil, []metadata.Release{{Partition: id, LeaderEpoch: p.LeaderEpoch(), To: 9, ToIncarnation: 999}}); err != nil {
			t.Fatal(err)
		}
		set.Close(id)
		if err := o.reconcile(t.Context(), func() *metadata.Image { return old }, b.incarnation); err != nil {
			t.Fatal(err)
		}
		if again, ok := set.Get(id); ok {
			t.Errorf("open again with epoch %d after it was handed over", again.LeaderEpoch())
		}
		set.Keep(id) // had the release been refused
		if err := o.reconcile(t.Context(), func() *metadata.Image { return old }, b.incarnation); err != nil {
			t.Fatal(err)
		}
		if _, ok := set.Get(id); !ok {
			t.Error("not open after the hand-over was called off")
		}
	})
}
