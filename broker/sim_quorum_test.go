package broker

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore/faulty"
)

// newQuorumFleet is a fleet of the class quorum that moves nothing to the object store by itself for a while, so that the replicas matter.
func newQuorumFleet(t *testing.T) *fleet {
	f := newFleet(t)
	f.every = func(c *Config) { c.Durability, c.SealAge, c.Lease = "quorum", 20*time.Second, 2*time.Second }
	return f
}

// awaitEnsembles waits until every broker's log has n members, all of them live.
func (f *fleet) awaitEnsembles(n int) {
	f.t.Helper()
	f.awaitOwned(fmt.Sprintf("ensembles of %d", n), 20*time.Second, func(map[int]int) bool {
		for _, r := range f.runs {
			e, err := r.broker.meta.Ensemble(f.t.Context(), r.broker.streamID())
			if err != nil || len(e.Members) != n {
				return false
			}
			for _, m := range e.Members {
				if o := f.runs[int(m.Broker)]; o == nil || o.token != m.Disk {
					return false
				}
			}
		}
		return true
	})
}

// TestSimFleetQuorum: brokers of the class quorum die with their disks, one after the other, while producers and groups go on; nothing acknowledged is lost.
func TestSimFleetQuorum(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newQuorumFleet(t)
		for id := range 3 {
			f.add(id + 1)
		}
		f.createTopic("a", 8)
		f.awaitEnsembles(3)
		var parts []tp
		for i := range int32(8) {
			parts = append(parts, tp{"a", i})
		}
		var clients sync.WaitGroup
		for i := range 2 {
			p := library{h: f.h, name: fmt.Sprintf("p%d", i), parts: parts[i*2 : i*2+6], records: 300, pause: 200 * time.Millisecond}
			clients.Go(p.run)
		}
		group := f.h.groupOf("g", parts)
		group.commit(1)
		time.Sleep(2 * time.Second)
		f.wipe(1)
		f.awaitOwned("after the first loss", 4*time.Second, func(n map[int]int) bool { return n[2]+n[3] == 58 })
		group.commit(2)
		f.add(4)
		f.awaitEnsembles(3)
		group.commit(3)
		f.wipe(2)
		f.awaitOwned("after the second loss", 4*time.Second, func(n map[int]int) bool { return n[3]+n[4] == 58 })
		f.crash(3, time.Second) // and one that comes back to its disk
		group.commit(4)
		f.leave(4) // and one that goes in order: the last one is alone
		clients.Wait()
		group.close()
		f.finish(3)
	})
}

// TestSimFleetQuorumStoreAway: acknowledgements of the class quorum need no object store, not even when a broker is killed and comes back.
func TestSimFleetQuorumStoreAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newQuorumFleet(t)
		for id := range 3 {
			f.add(id + 1)
		}
		f.createTopic("a", 6)
		f.awaitEnsembles(3)
		var parts []tp
		for i := range int32(6) {
			parts = append(parts, tp{"a", i})
		}
		f.store.Script(faulty.Rule{Count: faulty.Forever, Fault: faulty.Throttled})
		p := library{h: f.h, name: "p", parts: parts, records: 100, pause: 100 * time.Millisecond}
		p.run()
		f.store.Script()
		f.crash(2, time.Second)
		f.wipe(1)
		f.finish(3)
	})
}

// TestSimFleetQuorumAll: all brokers lose their power at once and come back.
func TestSimFleetQuorumAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newQuorumFleet(t)
		for id := range 3 {
			f.add(id + 1)
		}
		f.createTopic("a", 6)
		f.awaitEnsembles(3)
		var parts []tp
		for i := range int32(6) {
			parts = append(parts, tp{"a", i})
		}
		p := library{h: f.h, name: "p", parts: parts, records: 200, pause: 100 * time.Millisecond}
		var clients sync.WaitGroup
		clients.Go(p.run)
		time.Sleep(3 * time.Second)
		var dead []*run
		for id := range 3 {
			f.runs[id+1].crash()
			dead = append(dead, f.runs[id+1])
		}
		for i, r := range dead {
			<-r.done
			f.use(i + 1)
			dead[i] = f.restart(r, crashPoint{})
		}
		for i, r := range dead {
			f.began(i+1, r)
		}
		clients.Wait()
		f.finish(1)
	})
}
