package broker

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
)

// newQuorumFleet is a fleet of the class quorum that moves nothing to the object store by itself for a while, so that the replicas matter.
func newQuorumFleet(t *testing.T) *fleet {
	f := newFleet(t)
	f.every = func(c *Config) { c.Durability, c.SealAge, c.Lease = "quorum", 20*time.Second, 2*time.Second }
	return f
}

// newTrio is a fleet of three whose logs have three members each, with a topic a and its partitions.
func newTrio(t *testing.T, partitions int32) (*fleet, []tp) {
	f := newQuorumFleet(t)
	for id := range 3 {
		f.add(id + 1)
	}
	f.createTopic("a", partitions)
	f.awaitEnsembles(3)
	var parts []tp
	for i := range partitions {
		parts = append(parts, tp{"a", i})
	}
	return f, parts
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
		f, parts := newTrio(t, 8)
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
		f, parts := newTrio(t, 6)
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
		f, parts := newTrio(t, 6)
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

// TestSimFleetQuorumZombie: a broker that cannot reach etcd is fenced on its replicas when its lease has run out: it acknowledges nothing more, and steps down by
// itself, although etcd tells it nothing.
func TestSimFleetQuorumZombie(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, parts := newTrio(t, 9)
		p := library{h: f.h, name: "p", parts: parts, records: 200, pause: 200 * time.Millisecond}
		var clients sync.WaitGroup
		clients.Go(p.run)
		time.Sleep(2 * time.Second)
		zombie := f.runs[1]
		zombie.partitioned.Store(true)
		delete(f.runs, 1)
		f.awaitOwned("without the zombie", 4*time.Second, func(n map[int]int) bool { return n[2]+n[3] == 9 })
		select {
		case <-zombie.done:
			if zombie.err == nil {
				t.Error("the zombie ended without an error")
			}
		case <-time.After(10 * time.Second):
			t.Error("the zombie does not step down")
			zombie.crash()
			<-zombie.done
		}
		clients.Wait()
		f.finish(2)
	})
}

// TestSimFleetQuorumNoEtcd: without etcd acknowledgements go on for a minute, and when it is back everybody is who he was.
func TestSimFleetQuorumNoEtcd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, parts := newTrio(t, 6)
		p := library{h: f.h, name: "p", parts: parts, records: 400, pause: 200 * time.Millisecond}
		var clients sync.WaitGroup
		clients.Go(p.run)
		time.Sleep(5 * time.Second)
		incarnations := map[int]metadata.Incarnation{}
		for id, r := range f.runs {
			incarnations[id] = r.broker.incarnation
			r.partitioned.Store(true)
		}
		before := f.h.counts()[acked]
		time.Sleep(time.Minute)
		if during := f.h.counts()[acked] - before; during < 250*6/2 {
			t.Errorf("%d records were acknowledged in the minute without etcd", during)
		}
		for _, r := range f.runs {
			r.partitioned.Store(false)
		}
		time.Sleep(10 * time.Second)
		for id, r := range f.runs {
			select {
			case <-r.done:
				t.Errorf("broker %d ended: %v", id, r.err)
			default:
			}
			if o, ok := r.broker.meta.Image().Broker(metadata.BrokerID(id)); !ok || o.Incarnation != incarnations[id] {
				t.Errorf("broker %d is not registered as it was: %+v", id, o)
			}
		}
		clients.Wait()
		f.finish(3)
	})
}

// TestSimFleetQuorumStorelessController: the broker that would recover a dead one cannot reach the object store; another one does it.
func TestSimFleetQuorumStorelessController(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, parts := newTrio(t, 9)
		p := library{h: f.h, name: "p", parts: parts, records: 100, pause: 200 * time.Millisecond}
		var clients sync.WaitGroup
		clients.Go(p.run)
		time.Sleep(2 * time.Second)
		f.runs[1].storeless.Store(true)
		f.wipe(3)
		f.awaitOwned("after the loss", 12*time.Second, func(n map[int]int) bool { return n[1]+n[2] == 9 })
		f.runs[1].storeless.Store(false)
		clients.Wait()
		f.finish(2)
	})
}

// TestSimFleetQuorumNoMore: all brokers lose their power and come back with another class; what replicas hold is recovered.
func TestSimFleetQuorumNoMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, parts := newTrio(t, 3)
		p := library{h: f.h, name: "p", parts: parts, records: 20, pause: 10 * time.Millisecond}
		p.run()
		var dead []*run
		for id := range 3 {
			f.runs[id+1].crash()
			dead = append(dead, f.runs[id+1])
		}
		f.every = func(c *Config) { c.Lease = 2 * time.Second }
		for i, r := range dead {
			<-r.done
			f.use(i + 1)
			dead[i] = f.restart(r, crashPoint{})
		}
		for i, r := range dead {
			f.began(i+1, r)
		}
		f.finish(1)
	})
}

// TestSimQuorumAlone: one broker alone acknowledges by the object store, quickly, though its seals are rare.
func TestSimQuorumAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newQuorumFleet(t)
		f.add(1)
		f.createTopic("a", 1)
		p := library{h: f.h, name: "p", parts: []tp{{"a", 0}}, records: 10, pause: time.Millisecond}
		began := time.Now()
		p.run()
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("ten records one after the other took %v", took)
		}
		f.finish(1)
	})
}
