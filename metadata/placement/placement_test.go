package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
)

var start = time.Unix(1_800_000_000, 0)

func broker(id int) Broker {
	return Broker{Place: metadata.Place{Broker: metadata.BrokerID(id), Incarnation: metadata.Incarnation(1000 + id)}, Rack: fmt.Sprintf("rack-%d", id%3)}
}

func brokersOf(ids ...int) []Broker {
	out := make([]Broker, len(ids))
	for i, id := range ids {
		out[i] = broker(id)
	}
	return out
}

// cluster is partitions and the brokers that own them, with plans being carried out.
type cluster struct {
	brokers    []Broker
	partitions []Partition
	now        time.Time
	rng        *rand.Rand
}

func newCluster(seed uint64, brokers []Broker, topics, each int) *cluster {
	c := &cluster{brokers: brokers, now: start, rng: rand.New(rand.NewPCG(seed, 1))}
	for t := range topics {
		places := Spread(brokers, c.owned(), int32(each))
		for i := range int32(each) {
			c.partitions = append(c.partitions, Partition{ID: metadata.PartitionID{Topic: metadata.TopicID{byte(t >> 8), byte(t)}, Partition: i},
				Owner: places[i], Wish: metadata.NoBroker})
		}
	}
	return c
}

func (c *cluster) owned() map[metadata.BrokerID]int {
	out := map[metadata.BrokerID]int{}
	for _, p := range c.partitions {
		out[p.Owner.Broker]++
	}
	return out
}

// step plans, checks the plan, and carries it out.
func (c *cluster) step(t *testing.T, limits Limits) []Move {
	t.Helper()
	brokers, partitions := slices.Clone(c.brokers), slices.Clone(c.partitions)
	moves := Plan(c.now, brokers, partitions, limits)
	c.rng.Shuffle(len(brokers), func(i, j int) { brokers[i], brokers[j] = brokers[j], brokers[i] })
	c.rng.Shuffle(len(partitions), func(i, j int) { partitions[i], partitions[j] = partitions[j], partitions[i] })
	if again := Plan(c.now, brokers, partitions, limits); !slices.Equal(moves, again) {
		t.Fatal("another plan for the same cluster in another order")
	}
	seen := map[metadata.PartitionID]bool{}
	for _, m := range moves {
		at := slices.IndexFunc(c.brokers, func(b Broker) bool { return b.Place == m.To })
		if at < 0 || c.brokers[at].Draining || m.From == m.To || seen[m.Partition] {
			t.Fatalf("bad move %+v", m)
		}
		seen[m.Partition] = true
		k := slices.IndexFunc(c.partitions, func(p Partition) bool { return p.ID == m.Partition })
		if c.partitions[k].Owner != m.From {
			t.Fatalf("%+v is not where %v is", m, c.partitions[k].Owner)
		}
		c.partitions[k].Owner, c.partitions[k].MovedAt = m.To, c.now
	}
	c.now = c.now.Add(10 * time.Second)
	return moves
}

// settle steps until nothing moves any more and returns how many moves that took.
func (c *cluster) settle(t *testing.T, limits Limits) (moves int) {
	t.Helper()
	for range 200 {
		n := len(c.step(t, limits))
		moves += n
		if n == 0 {
			c.now = c.now.Add(limits.Cooldown)
			if n = len(c.step(t, limits)); n == 0 {
				return moves
			}
			moves += n
		}
	}
	t.Fatal("it does not settle")
	return 0
}

func (c *cluster) spread() (least, most int) {
	owned := c.owned()
	least = len(c.partitions)
	for _, b := range c.brokers {
		if !b.Draining {
			least, most = min(least, owned[b.Broker]), max(most, owned[b.Broker])
		}
	}
	return least, most
}

func TestBalancedClusterStays(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 9))
		var ids []int
		for i := range 1 + rng.IntN(6) {
			ids = append(ids, i)
		}
		c := newCluster(seed, brokersOf(ids...), 1+rng.IntN(20), 1+rng.IntN(50))
		if c.step(t, DefaultLimits) != nil && len(c.partitions) > 20*len(ids) {
			t.Errorf("seed %d: %d partitions on %d brokers move though they are spread", seed, len(c.partitions), len(ids))
		}
	}
}

func TestJoiningBrokerTakesItsShareAndNoMore(t *testing.T) {
	for _, n := range []int{1, 2, 3, 9} {
		var ids []int
		for i := range n {
			ids = append(ids, i)
		}
		c := newCluster(1, brokersOf(ids...), 10, 60)
		c.brokers = append(c.brokers, broker(n))
		moves := c.settle(t, DefaultLimits)
		fair := len(c.partitions) / (n + 1)
		if least, most := c.spread(); least < fair*9/10 || most > fair*11/10+1 {
			t.Errorf("%d brokers and one more: from %d to %d partitions each, fair is %d", n, least, most, fair)
		}
		if moves > fair {
			t.Errorf("%d brokers and one more: %d moves, %d suffice", n, moves, fair)
		}
	}
}

func TestDrainingBrokerIsEmptied(t *testing.T) {
	c := newCluster(2, brokersOf(1, 2, 3), 8, 100)
	c.brokers[1].Draining = true
	moves := c.step(t, DefaultLimits)
	if n := c.owned()[2]; n != 0 {
		t.Errorf("%d partitions stay", n)
	}
	if least, most := c.spread(); most-least > 8 { // one per topic
		t.Errorf("from %d to %d partitions each", least, most)
	}
	for _, m := range moves {
		if m.Reason != OwnerDrain {
			t.Fatalf("%+v", m)
		}
	}
	c.brokers[0].Draining, c.brokers[2].Draining = true, true
	if moves := c.step(t, DefaultLimits); moves != nil {
		t.Errorf("nobody is left, and yet %d moves", len(moves))
	}
}

func TestGoneOwnerIsReplacedAtOnceWhenSealed(t *testing.T) {
	c := newCluster(3, brokersOf(1, 2, 3, 4), 20, 64)
	c.brokers = c.brokers[:3]
	if moves := c.step(t, DefaultLimits); len(moves) != 0 {
		t.Errorf("%d moves of what is not recovered yet, or because of it", len(moves))
	}
	for i := range c.partitions {
		c.partitions[i].Sealed = c.partitions[i].Owner.Broker == 4
	}
	moves := c.step(t, DefaultLimits)
	if len(moves) != 20*16 {
		t.Errorf("%d moves", len(moves))
	}
	if least, most := c.spread(); most-least > 20 {
		t.Errorf("from %d to %d partitions each", least, most)
	}
	// A newer run of a broker is another owner.
	c.brokers[0].Incarnation++
	for i := range c.partitions {
		c.partitions[i].Sealed = c.partitions[i].Owner.Broker == 1
	}
	c.step(t, DefaultLimits)
	for _, p := range c.partitions {
		if p.Owner.Broker == 1 && p.Owner.Incarnation != c.brokers[0].Incarnation {
			t.Fatalf("%v stays with a run that is over", p.ID)
		}
	}
}

func TestBytesCountAsMuchAsNumbers(t *testing.T) {
	for seed := range uint64(10) {
		c := newCluster(seed, brokersOf(1, 2, 3), 6, 50)
		for i := range c.partitions {
			c.partitions[i].BytesPerSecond = c.rng.ExpFloat64() * 1e6
			if c.partitions[i].Owner.Broker == 2 {
				c.partitions[i].BytesPerSecond *= 8
			}
		}
		c.settle(t, DefaultLimits)
		s := newState(c.brokers, c.partitions)
		loads := []float64{s.load(0), s.load(1), s.load(2)}
		if slices.Max(loads)-slices.Min(loads) > DefaultLimits.Tolerance {
			t.Errorf("seed %d: loads %.3f", seed, loads)
		}
	}
}

func TestWishes(t *testing.T) {
	c := newCluster(4, brokersOf(1, 2, 3), 1, 30)
	for i := range 6 {
		c.partitions[i].Wish = 3
	}
	c.partitions[7].Wish = 9 // there is no such broker
	c.settle(t, DefaultLimits)
	for i := range 6 {
		if c.partitions[i].Owner.Broker != 3 {
			t.Errorf("partition %d is at %d", i, c.partitions[i].Owner.Broker)
		}
	}
	c.brokers[2].Draining = true
	c.settle(t, DefaultLimits)
	if n := c.owned()[3]; n != 0 {
		t.Errorf("%d partitions stay on a draining broker because somebody wants them there", n)
	}
}

// TestTurmoil joins, drains, ends and restarts brokers at random, and checks that every plan is sound and that it settles once all is quiet.
func TestTurmoil(t *testing.T) {
	for seed := range uint64(15) {
		c := newCluster(seed, brokersOf(1, 2, 3), 5, 40)
		next := 4
		for range 30 {
			switch k := c.rng.IntN(len(c.brokers)); c.rng.IntN(6) {
			case 0:
				c.brokers = append(c.brokers, broker(next))
				next++
			case 1:
				c.brokers[k].Draining = true
			case 2:
				if len(c.brokers) > 1 {
					gone := c.brokers[k].Place
					c.brokers = slices.Delete(c.brokers, k, k+1)
					for i := range c.partitions {
						c.partitions[i].Sealed = c.partitions[i].Sealed && c.partitions[i].Owner != gone || c.partitions[i].Owner == gone
					}
				}
			case 3:
				p := &c.partitions[c.rng.IntN(len(c.partitions))]
				p.BytesPerSecond = c.rng.ExpFloat64() * 1e6
			}
			c.step(t, DefaultLimits)
			for i := range c.partitions {
				live := slices.ContainsFunc(c.brokers, func(b Broker) bool { return b.Place == c.partitions[i].Owner })
				c.partitions[i].Sealed = !live
			}
		}
		c.brokers = append(c.brokers, broker(next))
		c.settle(t, DefaultLimits)
		for _, p := range c.partitions {
			if !slices.ContainsFunc(c.brokers, func(b Broker) bool { return b.Place == p.Owner && !b.Draining }) {
				t.Fatalf("seed %d: %+v", seed, p)
			}
		}
	}
}

func TestSpread(t *testing.T) {
	brokers := brokersOf(1, 2, 3)
	brokers[1].Draining = true
	got := Spread(brokers, map[metadata.BrokerID]int{1: 5, 3: 1}, 5)
	var ids []metadata.BrokerID
	for _, p := range got {
		ids = append(ids, p.Broker)
	}
	if !slices.Equal(ids, []metadata.BrokerID{3, 1, 3, 1, 3}) {
		t.Errorf("%v", ids)
	}
	if got := Spread(brokers[1:2], nil, 3); got != nil {
		t.Errorf("%v", got)
	}
}

func TestEnsemble(t *testing.T) {
	brokers := brokersOf(0, 1, 2, 3, 4, 5) // racks 0 1 2 0 1 2
	brokers[2].Draining = true
	for _, c := range []struct {
		owner      metadata.BrokerID
		replicates map[metadata.BrokerID]int
		n          int
		want       []metadata.BrokerID
	}{
		{0, nil, 3, []metadata.BrokerID{0, 1, 5}},
		{0, map[metadata.BrokerID]int{1: 2}, 3, []metadata.BrokerID{0, 4, 5}},
		{4, nil, 1, []metadata.BrokerID{4}},
		{9, nil, 3, nil},
		{0, nil, 9, []metadata.BrokerID{0, 1, 5, 3, 4, 2}},
	} {
		if got := Ensemble(c.owner, brokers, c.replicates, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{3, 50} {
		var ids []int
		for i := range n {
			ids = append(ids, i)
		}
		c := newCluster(1, brokersOf(ids...), 1000, 100)
		for i := range c.partitions {
			c.partitions[i].BytesPerSecond = c.rng.ExpFloat64() * 1e5
		}
		c.brokers = append(c.brokers, broker(n))
		b.Run(fmt.Sprintf("100000on%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Plan(start, c.brokers, c.partitions, DefaultLimits)
			}
		})
	}
}
