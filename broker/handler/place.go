package handler

import (
	"slices"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/placement"
)

// spread places the n new partitions [first, first+n) over the live brokers, those that own least first.
func (b *Broker) spread(im *metadata.Image, first, n int32) func(int32) metadata.Place {
	brokers := Placeable(im)
	if len(brokers) < 2 {
		return nil
	}
	owned := make(map[metadata.BrokerID]int, len(brokers))
	for t := range im.Topics() {
		for _, p := range im.PartitionsOf(t.ID) {
			owned[p.Owner]++
		}
	}
	places := placement.Spread(brokers, owned, n)
	if places == nil {
		return nil
	}
	return func(i int32) metadata.Place { return places[i-first] }
}

// leadBy places the partitions [first, first+len(leaders)) at the brokers that a request names for them.
func leadBy(im *metadata.Image, first int32, leaders []metadata.BrokerID) func(int32) metadata.Place {
	return func(i int32) metadata.Place {
		owner, _ := im.Broker(leaders[i-first]) // it was live when the request was checked
		return metadata.Place{Broker: owner.ID, Incarnation: owner.Incarnation}
	}
}

// Placeable is the live brokers as placement sees them.
func Placeable(im *metadata.Image) []placement.Broker {
	brokers := slices.Clone(im.Brokers())
	out := make([]placement.Broker, len(brokers))
	for i, b := range brokers {
		out[i] = placement.Broker{Place: metadata.Place{Broker: b.ID, Incarnation: b.Incarnation}, Rack: b.Rack, Draining: b.Draining}
	}
	return out
}
