package placement

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
)

// balance moves partitions from the most to the least loaded brokers, each time the one that brings the two closest, until they differ by no
// more than is tolerated or no move helps. What moved lately, or is where an operator wants it, stays.
func (s *state) balance(now time.Time, limits Limits) []Move {
	var moves []Move
	if len(s.takers) < 2 {
		return nil
	}
	owned := s.movable(now, limits.Cooldown)
	for len(moves) < limits.Moves {
		byLoad := func(a, b int) int { return cmp.Or(cmp.Compare(s.load(a), s.load(b)), cmp.Compare(a, b)) }
		low, high := slices.MinFunc(s.takers, byLoad), slices.MaxFunc(s.takers, byLoad)
		if s.load(high)-s.load(low) <= limits.Tolerance {
			break
		}
		k := s.choose(owned[high], high, low)
		if k < 0 {
			break
		}
		i := owned[high][k]
		owned[high] = slices.Delete(owned[high], k, k+1)
		moves = append(moves, s.move(i, low, Balance))
	}
	return moves
}

// movable lists the partitions that each broker may give away for the sake of balance.
func (s *state) movable(now time.Time, cooldown time.Duration) [][]int {
	owned := make([][]int, len(s.brokers))
	for i := range s.partitions {
		p := &s.partitions[i]
		if s.at[i] >= 0 && !s.moved[i] && p.Wish == metadata.NoBroker && now.Sub(p.MovedAt) >= cooldown {
			owned[s.at[i]] = append(owned[s.at[i]], i)
		}
	}
	return owned
}

// choose returns the index in owned of the partition whose move from high to low leaves the two closest together, or -1 where none
// brings them closer. Of equals it takes one of a topic that has more partitions on high than on low.
func (s *state) choose(owned []int, high, low int) int {
	best, bestGap, bestSpread := -1, s.load(high)-s.load(low), int32(math.MinInt32)
	for k, i := range owned {
		b := s.partitions[i].BytesPerSecond
		gap := math.Abs(s.loadOf(s.counts[high]-1, s.bytes[high]-b) - s.loadOf(s.counts[low]+1, s.bytes[low]+b))
		per := s.topic(i)
		spread := per[high] - per[low]
		const epsilon = 1e-9
		if gap < bestGap-epsilon || best >= 0 && gap <= bestGap+epsilon && spread > bestSpread {
			best, bestGap, bestSpread = k, gap, spread
		}
	}
	return best
}

// Spread places the n partitions of a new topic, or those added to one: evenly over the brokers, beginning with those that own least. owned is
// how many partitions each broker has. The result has n places; it is nil where no broker may own any.
func Spread(brokers []Broker, owned map[metadata.BrokerID]int, n int32) []metadata.Place {
	var takers []Broker
	for _, b := range brokers {
		if !b.Draining {
			takers = append(takers, b)
		}
	}
	if len(takers) == 0 {
		return nil
	}
	slices.SortFunc(takers, func(a, b Broker) int {
		return cmp.Or(cmp.Compare(owned[a.Broker], owned[b.Broker]), cmp.Compare(a.Broker, b.Broker))
	})
	out := make([]metadata.Place, n)
	for i := range out {
		out[i] = takers[i%len(takers)].Place
	}
	return out
}

// Ensemble chooses who replicates the streams of owner, itself first: n brokers, or as many as there are. Brokers in racks that have none yet come
// first, then those that replicate least (replicates counts streams per broker); draining ones only where there are no others.
func Ensemble(owner metadata.BrokerID, brokers []Broker, replicates map[metadata.BrokerID]int, n int) []metadata.BrokerID {
	rest := slices.Clone(brokers)
	racks := map[string]int{}
	var out []metadata.BrokerID
	take := func(k int) {
		out = append(out, rest[k].Broker)
		racks[rest[k].Rack]++
		rest = slices.Delete(rest, k, k+1)
	}
	k := slices.IndexFunc(rest, func(b Broker) bool { return b.Broker == owner })
	if k < 0 {
		return nil
	}
	take(k)
	for len(out) < n && len(rest) > 0 {
		best := slices.MinFunc(rest, func(a, b Broker) int {
			return cmp.Or(compareBools(a.Draining, b.Draining), cmp.Compare(racks[a.Rack], racks[b.Rack]),
				cmp.Compare(replicates[a.Broker], replicates[b.Broker]), cmp.Compare(a.Broker, b.Broker))
		})
		take(slices.IndexFunc(rest, func(b Broker) bool { return b.Broker == best.Broker }))
	}
	return out
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
