package consumer

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// walk is a group under random events.
type walk struct {
	t       *testing.T
	rng     *rand.Rand
	g       *Group
	at      int64
	topics  *catalog
	clients []*client
	joined  int
	rebuilt int
}

func (w *walk) step() {
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch w.rng.IntN(20) {
	case 0: // the answer is lost
		reply, _ := w.g.Heartbeat(w.at, w.topics, c.request())
		if c.rejoins = true; reply.Err == nil && c.epoch == JoinEpoch {
			c.owned = nil
		}
	case 1: // it leaves, or goes away for a while
		r := c.request()
		r.Epoch = LeaveEpoch
		if c.instance != "" && w.rng.IntN(2) == 0 {
			r.Epoch = LeaveStaticEpoch
			w.joined++
			c.id = fmt.Sprintf("%s-%d", c.instance, w.joined)
			r.MemberID = w.g.static[c.instance]
		}
		w.g.Heartbeat(w.at, w.topics, r)
		c.epoch, c.owned = JoinEpoch, nil
	case 2:
		topic := w.rng.IntN(3) // made, deleted, made anew, or given other numbers of partitions
		w.topics.set(fmt.Sprintf("t%d", topic), 10*topic+w.rng.IntN(2), w.rng.Int32N(8))
	case 3:
		c.names = []string{fmt.Sprintf("t%d", w.rng.IntN(3)), "absent"}
		c.rejoins = true
	case 4:
		c.regex = []string{"t[01]", "t.*", ""}[w.rng.IntN(3)]
		c.rejoins = true
	case 5:
		w.at += w.rng.Int64N(50_000)
		if wake := w.g.WakeMillis(); wake != 0 && wake <= w.at {
			w.g.Tick(w.at)
		}
	case 6: // another broker takes over
		s := w.g.Snapshot()
		stored, err := Decode(Encode(&s))
		if err != nil {
			w.t.Fatal(err)
		}
		w.g = Restore(w.g.cfg, "g", w.at, &stored)
		w.rebuilt++
	default:
		w.at += w.rng.Int64N(1_000)
		c.beat(w.t, w.g, w.at, w.topics)
	}
	checkOwners(w.t, w.g)
	w.checkClients()
}

// checkClients asserts that no two consumers that are members have a partition.
func (w *walk) checkClients() {
	has := map[place]string{}
	for _, c := range w.clients {
		if m := w.g.members[c.id]; m == nil || c.epoch <= 0 {
			continue
		}
		for topic, list := range c.owned {
			for _, p := range list {
				if other, twice := has[place{topic, p}]; twice {
					w.t.Fatalf("%s and %s both consume %v-%d", other, c.id, topic, p)
				}
				has[place{topic, p}] = c.id
			}
		}
	}
}

// settle lets everybody send heartbeats until nothing moves any more.
func (w *walk) settle() {
	w.topics.set("t0", 0, 5)
	for round := 0; ; round++ {
		for _, c := range w.clients {
			w.at++
			if reply := c.beat(w.t, w.g, w.at, w.topics); reply.Err == kerr.UnreleasedInstanceID {
				c.id = w.g.static[c.instance] // it was not away
			}
			checkOwners(w.t, w.g)
			w.checkClients()
		}
		if w.g.State() == Stable && round > 0 {
			break
		}
		if round > 12 {
			w.t.Fatalf("state %s after %d rounds: %+v", w.g.State(), round, w.g.Describe())
		}
	}
	given := map[place]bool{}
	for _, m := range w.g.members {
		for topic, list := range m.assigned.assignment() {
			for _, p := range list {
				given[place{topic, p}] = true
			}
		}
	}
	want := 0
	for _, topic := range w.g.known {
		want += int(topic.Partitions)
	}
	if len(given) != want {
		w.t.Fatalf("%d partitions of %d are assigned", len(given), want)
	}
}

func runWalk(t *testing.T, seed uint64, steps int) *walk {
	w := &walk{t: t, rng: rand.New(rand.NewPCG(seed, 7)), g: New(testConfig(), "g"), at: now, topics: newCatalog()}
	w.topics.set("t0", 1, 3)
	for i := range 5 {
		c := &client{id: fmt.Sprintf("m%d", i), names: []string{"t0"}}
		if i >= 3 {
			c.instance = fmt.Sprintf("i%d", i)
		}
		w.clients = append(w.clients, c)
	}
	for range steps {
		w.step()
	}
	w.settle()
	return w
}

func TestWalks(t *testing.T) {
	var epochs, rebuilt int
	for seed := range uint64(200) {
		w := runWalk(t, seed, 150)
		epochs += int(w.g.epoch)
		rebuilt += w.rebuilt
	}
	if epochs < 200*10 || rebuilt < 200 { // the walks get somewhere
		t.Errorf("%d epochs, %d takeovers", epochs, rebuilt)
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(uint64(1), uint16(50))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) { runWalk(t, seed, int(steps%400)) })
}
