// Package placement decides which broker owns what. It is PURE: the same input gives the same plan, whatever the order of its
// lists, so any broker may plan, and two that plan at once want the same.
//
// A partition's data is in the bucket, so a move copies nothing: it costs its clients a pause of milliseconds. What a plan weighs
// is how even the load is against how many partitions pause for it.
package placement

import (
	"cmp"
	"slices"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
)

// Broker is a live broker.
type Broker struct {
	metadata.Place
	Rack     string
	Draining bool // gets nothing and gives everything away
}

// Partition is what a plan knows of one.
type Partition struct {
	ID             metadata.PartitionID
	Owner          metadata.Place
	BytesPerSecond float64           // produced and fetched, smoothed; 0: not known
	MovedAt        time.Time         // when its owner last changed; zero: long ago
	Wish           metadata.BrokerID // where an operator wants it (KIP-455); NoBroker: anywhere
	Sealed         bool              // its owner's run is over and all that it acknowledged is in objects: it may be taken
}

// Limits of a plan.
type Limits struct {
	// Moves is how many partitions may move for the sake of balance at once. What has no live owner is taken over at once, however much it is;
	// a draining broker gives away Drains at once.
	Moves, Drains int
	// Cooldown is how long a partition stays where it has been moved to, unless its owner dies or drains.
	Cooldown time.Duration
	// Tolerance is by how much of the average the most and the least loaded broker may differ.
	Tolerance float64
}

// DefaultLimits move a few partitions at a time until brokers differ by less than a tenth.
var DefaultLimits = Limits{Moves: 64, Drains: 1000, Cooldown: 30 * time.Second, Tolerance: 0.1}

// Reason says why a partition moves.
type Reason string

// The reasons.
const (
	OwnerGone  Reason = "its owner is gone"
	OwnerDrain Reason = "its owner is draining"
	Wished     Reason = "an operator wants it there"
	Balance    Reason = "load"
)

// Move is a partition that is to change its owner. Where the reason is OwnerGone it is to be taken, otherwise released by From.
type Move struct {
	Partition metadata.PartitionID
	From, To  metadata.Place
	Reason    Reason
}

// Plan says what should move now. Partitions whose owner is neither live nor sealed are left alone: they have to be recovered first. Without a
// broker that may own anything there is no plan.
func Plan(now time.Time, brokers []Broker, partitions []Partition, limits Limits) []Move {
	s := newState(brokers, partitions)
	if len(s.takers) == 0 {
		return nil
	}
	moves := s.rehome(limits)
	moves = append(moves, s.fulfil()...)
	return append(moves, s.balance(now, limits)...)
}

// state is the assignment while a plan is made.
type state struct {
	brokers    []Broker // by id
	takers     []int    // of brokers: those that may own something
	partitions []Partition
	at         []int // owner of each partition as an index of brokers, -1: not live
	moved      []bool
	counts     []int // per broker
	bytes      []float64
	topics     map[metadata.TopicID][]int32 // partitions of a topic per broker
	totalBytes float64
}

func newState(brokers []Broker, partitions []Partition) *state {
	s := &state{brokers: slices.Clone(brokers), partitions: slices.Clone(partitions), topics: map[metadata.TopicID][]int32{}}
	slices.SortFunc(s.brokers, func(a, b Broker) int { return cmp.Compare(a.Broker, b.Broker) })
	slices.SortFunc(s.partitions, func(a, b Partition) int { return compareIDs(a.ID, b.ID) })
	index := make(map[metadata.Place]int, len(brokers))
	for i := range s.brokers {
		index[s.brokers[i].Place] = i
		if !s.brokers[i].Draining {
			s.takers = append(s.takers, i)
		}
	}
	s.at, s.moved = make([]int, len(partitions)), make([]bool, len(partitions))
	s.counts, s.bytes = make([]int, len(brokers)), make([]float64, len(brokers))
	for i := range s.partitions {
		s.totalBytes += s.partitions[i].BytesPerSecond
		at, live := index[s.partitions[i].Owner]
		if s.at[i] = -1; live {
			s.put(i, at)
		}
	}
	return s
}

func compareIDs(a, b metadata.PartitionID) int {
	return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
}

func (s *state) topic(i int) []int32 {
	id := s.partitions[i].ID.Topic
	per := s.topics[id]
	if per == nil {
		per = make([]int32, len(s.brokers))
		s.topics[id] = per
	}
	return per
}

// put makes broker at the owner of partition i, which has none.
func (s *state) put(i, at int) {
	s.at[i] = at
	s.counts[at]++
	s.bytes[at] += s.partitions[i].BytesPerSecond
	s.topic(i)[at]++
}

// move makes broker to the owner of partition i.
func (s *state) move(i, to int, why Reason) Move {
	m := Move{Partition: s.partitions[i].ID, From: s.partitions[i].Owner, To: s.brokers[to].Place, Reason: why}
	if from := s.at[i]; from >= 0 {
		s.counts[from]--
		s.bytes[from] -= s.partitions[i].BytesPerSecond
		s.topic(i)[from]--
	}
	s.put(i, to)
	s.moved[i] = true
	return m
}

// load is a broker's share of the work, 1 being the average: half by number and half by bytes, where those are known.
func (s *state) load(b int) float64 { return s.loadOf(s.counts[b], s.bytes[b]) }

func (s *state) loadOf(count int, bytes float64) float64 {
	n := float64(len(s.takers))
	byCount := float64(count) * n / float64(max(1, len(s.partitions)))
	if s.totalBytes <= 0 {
		return byCount
	}
	return (byCount + bytes*n/s.totalBytes) / 2
}

// best is the broker for a partition that must go somewhere: where its topic has fewest, then where there is least to do.
func (s *state) best(i int) int {
	per := s.topic(i)
	return slices.MinFunc(s.takers, func(a, b int) int {
		return cmp.Or(cmp.Compare(per[a], per[b]), cmp.Compare(s.load(a), s.load(b)), cmp.Compare(a, b))
	})
}

// rehome finds new owners for what has none, and for what draining brokers have.
func (s *state) rehome(limits Limits) []Move {
	var moves []Move
	for i := range s.partitions {
		if s.at[i] < 0 && s.partitions[i].Sealed {
			moves = append(moves, s.move(i, s.homeOf(i), OwnerGone))
		}
	}
	drained := 0
	for i := range s.partitions {
		if at := s.at[i]; at >= 0 && s.brokers[at].Draining && drained < limits.Drains {
			moves = append(moves, s.move(i, s.homeOf(i), OwnerDrain))
			drained++
		}
	}
	return moves
}

// homeOf is where a partition that must go goes: where an operator wants it, if that broker can.
func (s *state) homeOf(i int) int {
	if to, ok := s.wished(i); ok {
		return to
	}
	return s.best(i)
}

func (s *state) wished(i int) (to int, ok bool) {
	w := s.partitions[i].Wish
	if w == metadata.NoBroker {
		return 0, false
	}
	to, ok = slices.BinarySearchFunc(s.brokers, w, func(b Broker, id metadata.BrokerID) int { return cmp.Compare(b.Broker, id) })
	return to, ok && !s.brokers[to].Draining
}

// fulfil moves partitions to where operators want them.
func (s *state) fulfil() []Move {
	var moves []Move
	for i := range s.partitions {
		if to, ok := s.wished(i); ok && s.at[i] >= 0 && s.at[i] != to && !s.moved[i] {
			moves = append(moves, s.move(i, to, Wished))
		}
	}
	return moves
}
