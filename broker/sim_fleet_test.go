package broker

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// fleet is several machines, each with a disk and a broker, on the etcd and the bucket of one world.
type fleet struct {
	*world
	h     *history
	runs  map[int]*run
	every func(*Config)
}

func newFleet(t *testing.T, ids ...int) *fleet {
	w := newWorld(t)
	f := &fleet{world: w, h: newHistory(w), runs: map[int]*run{}}
	t.Cleanup(func() { // after a test that gave up
		w.lose()
		for _, r := range f.runs {
			r.crash()
			<-r.done
		}
	})
	for _, id := range ids {
		f.add(id)
	}
	return f
}

// use makes the next run that of broker id.
func (f *fleet) use(id int) {
	f.config = func(c *Config) {
		c.NodeID, c.Listeners = id, []string{fmt.Sprintf("127.0.0.1:%d", 9091+id)}
		if f.every != nil {
			f.every(c)
		}
	}
}

// add starts a broker on a new machine.
func (f *fleet) add(id int) {
	f.t.Helper()
	f.use(id)
	f.disk = crashfs.New()
	f.disk.SetLatency(time.Millisecond)
	f.token = fmt.Sprintf("disk-%p", f.disk)
	f.began(id, f.start(crashPoint{}))
}

// crash kills a broker in the middle of what it does and starts it again on what the disk kept, after a while.
func (f *fleet) crash(id int, away time.Duration) {
	f.t.Helper()
	r := f.runs[id]
	r.crash()
	<-r.done
	time.Sleep(away)
	f.use(id)
	f.began(id, f.restart(r, crashPoint{}))
}

func (f *fleet) began(id int, r *run) {
	f.t.Helper()
	f.runs[id] = r
	if !r.await() {
		f.t.Fatalf("broker %d: %v", id, r.err)
	}
}

// leave stops a broker in order.
func (f *fleet) leave(id int) {
	f.t.Helper()
	r := f.runs[id]
	r.stop()
	<-r.done
	if r.err != nil {
		f.errorf("broker %d left: %v", id, r.err)
	}
	delete(f.runs, id)
}

// owned is how many partitions each broker owns under its present incarnation.
func (f *fleet) owned() map[int]int {
	out := map[int]int{}
	for id, r := range f.runs {
		im := r.broker.meta.Image()
		for t := range im.Topics() {
			for _, p := range im.PartitionsOf(t.ID) {
				if p.Owner == metadata.BrokerID(id) && p.OwnerIncarnation == r.broker.incarnation {
					out[id]++
				}
			}
		}
	}
	return out
}

// awaitOwned waits until what the brokers own is as wanted.
func (f *fleet) awaitOwned(what string, limit time.Duration, as func(map[int]int) bool) {
	f.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if got := f.owned(); as(got) {
			f.t.Logf("%s: %v after %v", what, got, time.Since(began))
			return
		} else if time.Since(began) > limit {
			f.t.Fatalf("%s: %v after %v", what, got, limit)
		}
	}
}

// TestSimFleetComeBack: brokers come back at about the time at which others take over what they had; both may seal the same stream.
func TestSimFleetComeBack(t *testing.T) {
	for away := 1500 * time.Millisecond; away < 3500*time.Millisecond; away += 100 * time.Millisecond {
		t.Run(away.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFleet(t)
				f.every = func(c *Config) { c.Durability, c.SealAge, c.Lease = "object", 50*time.Millisecond, 2*time.Second }
				f.add(1)
				f.add(2)
				f.createTopic("a", 4)
				parts := []tp{{"a", 0}, {"a", 1}, {"a", 2}, {"a", 3}}
				p := library{h: f.h, name: "p", parts: parts, records: 60, pause: 200 * time.Millisecond}
				var clients sync.WaitGroup
				clients.Go(p.run)
				time.Sleep(time.Second)
				f.kv.SetFaults(func(memkv.Call) memkv.Fault { return memkv.Fault{Delay: 20 * time.Millisecond} })
				f.crash(2, away)
				f.kv.SetFaults(nil)
				clients.Wait()
				f.finish(1)
			})
		})
	}
}

// TestSimSameID: a broker with the id of a dead one and an empty disk waits for its lease; one with the id of a live one is refused.
func TestSimSameID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.every = func(c *Config) { c.Durability, c.SealAge = "object", 50*time.Millisecond }
		f.add(1)
		f.createTopic("a", 2)
		first := f.runs[1]
		f.use(1)
		f.disk, f.token = crashfs.New(), "another disk"
		second := f.start(crashPoint{})
		if second.await() || !errors.Is(second.err, metadata.ErrExists) {
			t.Errorf("a second broker 1: %v", second.err)
		}
		<-second.done
		first.crash()
		<-first.done
		began := time.Now()
		f.add(1)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the successor of a dead broker was ready after %v", took)
		}
		f.finish(1)
	})
}

// finish runs the oracle on the last broker.
func (f *fleet) finish(last int) {
	f.t.Helper()
	for id := range f.runs {
		if id != last {
			f.leave(id)
		}
	}
	r := f.runs[last]
	f.mu.Lock()
	f.run = r
	f.mu.Unlock()
	f.use(last)
	f.awaitOwned("all at the last broker", 30*time.Second, func(n map[int]int) bool { return n[last] == r.broker.meta.Image().NumPartitions() })
	delete(f.runs, last)
	f.h.checkAll(r)
}

// TestSimFleet: brokers join, leave in order, are killed and come back while producers and groups go on; nothing is lost, doubled or
// reordered, and the load spreads.
func TestSimFleet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, 1)
		f.createTopic("a", 12)
		f.createTopic("b", 5)
		var parts []tp
		for i := range int32(12) {
			parts = append(parts, tp{"a", i})
		}
		for i := range int32(5) {
			parts = append(parts, tp{"b", i})
		}
		var clients sync.WaitGroup
		for i := range 3 {
			p := library{h: f.h, name: fmt.Sprintf("p%d", i), parts: parts[i*4 : i*4+6], records: 300, pause: 100 * time.Millisecond}
			clients.Go(p.run)
		}
		group := f.h.groupOf("g", parts)
		time.Sleep(2 * time.Second)
		group.commit(1)

		f.add(2)
		f.add(3)
		f.awaitOwned("three brokers", 10*time.Second, func(n map[int]int) bool { return n[1] > 15 && n[2] > 15 && n[3] > 15 })
		group.commit(2)
		f.leave(2)
		f.awaitOwned("one left", time.Second, func(n map[int]int) bool { return n[1]+n[3] == 67 })
		group.commit(3)
		f.crash(3, 300*time.Millisecond)
		group.commit(4)
		f.crash(1, 15*time.Second) // longer than its lease: the other coordinates its groups meanwhile
		group.commit(5)
		f.add(4)
		f.awaitOwned("another", 40*time.Second, func(n map[int]int) bool { return n[1] > 15 && n[3] > 15 && n[4] > 15 })
		group.commit(6)
		f.leave(1)
		clients.Wait()
		group.commit(7)
		group.close()
		f.finish(4)
	})
}

// wipe kills a broker and takes its disk away. It does not come back.
func (f *fleet) wipe(id int) {
	r := f.runs[id]
	r.crash()
	<-r.done
	delete(f.runs, id)
}

// TestSimFleetObject: brokers of the object class die with their disks while producers and groups go on; nothing that was acknowledged is lost,
// and others serve what they had as soon as their leases have run out.
func TestSimFleetObject(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.every = func(c *Config) { c.Durability, c.SealAge, c.Lease = "object", 50*time.Millisecond, 2*time.Second }
		f.add(1)
		f.add(2)
		f.createTopic("a", 8)
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
		f.awaitOwned("after the first loss", 3*time.Second, func(n map[int]int) bool { return n[2] == 58 })
		group.commit(2)
		f.add(3)
		f.awaitOwned("a newcomer", 10*time.Second, func(n map[int]int) bool { return n[2] > 20 && n[3] > 20 })
		group.commit(3)
		f.wipe(2)
		f.awaitOwned("after the second loss", 3*time.Second, func(n map[int]int) bool { return n[3] == 58 })
		f.crash(3, time.Second) // and one that comes back to its disk
		group.commit(4)
		clients.Wait()
		group.close()
		f.finish(3)
	})
}

// TestSimFleetZombie: a broker that cannot reach etcd for longer than its lease, and then can, acknowledges nothing of what others have taken over,
// and steps down.
func TestSimFleetZombie(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.every = func(c *Config) { c.Durability, c.SealAge, c.Lease = "object", 50*time.Millisecond, 2*time.Second }
		f.add(1)
		f.add(2)
		f.createTopic("a", 8)
		var parts []tp
		for i := range int32(8) {
			parts = append(parts, tp{"a", i})
		}
		p := library{h: f.h, name: "p", parts: parts, records: 200, pause: 200 * time.Millisecond}
		var clients sync.WaitGroup
		clients.Go(p.run)
		time.Sleep(2 * time.Second)
		zombie := f.runs[1]
		zombie.partitioned.Store(true)
		delete(f.runs, 1)
		f.awaitOwned("without the zombie", 4*time.Second, func(n map[int]int) bool { return n[2] == 8 })
		time.Sleep(5 * time.Second)
		zombie.partitioned.Store(false)
		select {
		case <-zombie.done:
			if zombie.err == nil {
				t.Error("the zombie ended without an error")
			}
		case <-time.After(30 * time.Second):
			t.Error("the zombie does not step down")
			zombie.crash()
			<-zombie.done
		}
		clients.Wait()
		f.finish(2)
	})
}

// TestSimFleetStoreAway: a broker that is to leave while the object store is away goes on serving, groups too, and leaves once the store is back.
func TestSimFleetStoreAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, 1, 2)
		f.createTopic("a", 8)
		var parts []tp
		for i := range int32(8) {
			parts = append(parts, tp{"a", i})
		}
		p := library{h: f.h, name: "p", parts: parts, records: 300, pause: 500 * time.Millisecond}
		var clients sync.WaitGroup
		clients.Go(p.run)
		group := f.h.groupOf("g", parts)
		group.commit(1)
		time.Sleep(2 * time.Second)
		f.store.Script(faulty.Rule{Count: faulty.Forever, Fault: faulty.Throttled})
		leaver := f.runs[2]
		leaver.stop()
		for i := range int64(12) {
			time.Sleep(10 * time.Second)
			group.commit(2 + i)
		}
		select {
		case <-leaver.done:
			t.Errorf("broker 2 left without a store: %v", leaver.err)
		default:
		}
		f.store.Script()
		f.leave(2)
		group.commit(20)
		clients.Wait()
		group.close()
		f.finish(1)
	})
}
