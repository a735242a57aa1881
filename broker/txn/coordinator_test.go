package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/txn/core"
	"github.com/tidemarkmq/tidemark/metadata"
)

// memStore is etcd as far as the coordinator sees it. before, if set, is asked at each write: the error is answered, after the write if done is set.
type memStore struct {
	mu     sync.Mutex
	rev    metadata.Revision
	ids    map[string]*metadata.Transaction
	revs   map[string]metadata.Revision
	before func() (err error, done bool)
}

func newMemStore() *memStore {
	return &memStore{ids: map[string]*metadata.Transaction{}, revs: map[string]metadata.Revision{}}
}

func (s *memStore) LoadTransactions(_ context.Context, fn func(string, *metadata.Transaction, metadata.Revision) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, t := range s.ids {
		if err := fn(id, t, s.revs[id]); err != nil {
			return err
		}
	}
	return nil
}

func (s *memStore) LoadTransaction(_ context.Context, id string) (*metadata.Transaction, metadata.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.ids[id]; t != nil {
		return t, s.revs[id], nil
	}
	return nil, 0, metadata.ErrNotFound
}

func (s *memStore) SaveTransaction(_ context.Context, id string, t *metadata.Transaction, expect metadata.Revision) (metadata.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fault error
	if s.before != nil {
		err, done := s.before()
		if err != nil && !done {
			return 0, err
		}
		fault = err
	}
	if s.revs[id] != expect {
		return 0, metadata.ErrConflict
	}
	s.rev++
	s.ids[id], s.revs[id] = t, s.rev
	return s.rev, fault
}

func (s *memStore) DeleteTransaction(_ context.Context, id string, expect metadata.Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revs[id] != expect {
		return metadata.ErrConflict
	}
	delete(s.ids, id)
	delete(s.revs, id)
	return nil
}

// peers keeps the markers of partitions, and refuses the first few attempts at each.
type peers struct {
	mu      sync.Mutex
	refuse  int
	tried   map[string]int
	markers map[metadata.PartitionID][]Marker
}

func (p *peers) Write(_ context.Context, m Marker, partitions []metadata.PartitionID) (left []metadata.PartitionID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range partitions {
		key := fmt.Sprint(m, id)
		if p.tried[key]++; p.tried[key] <= p.refuse {
			left = append(left, id)
			continue
		}
		p.markers[id] = append(p.markers[id], m)
	}
	return left
}

func (p *peers) of(id metadata.PartitionID) []Marker {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.markers[id])
}

func (p *peers) stopRefusing() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = 0
}

func (s *memStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

type world struct {
	*testing.T
	store *memStore
	peers *peers
	ids   int64
}

func simulate(t *testing.T, fn func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		fn(&world{T: t, store: newMemStore(), peers: &peers{tried: map[string]int{}, markers: map[metadata.PartitionID][]Marker{}}})
	})
}

// start runs a coordinator of all shards.
func (w *world) start() (c *Coordinator, stop func()) {
	w.Helper()
	c = New(Options{Store: w.store, Markers: w.peers, Epoch: func(int) int32 { return 7 },
		NewID: func(context.Context) (int64, error) { w.ids++; return 1000 + w.ids, nil }})
	all := make([]int, NumShards)
	for i := range all {
		all[i] = i
	}
	if err := c.Load(w.Context(), all...); err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, func() {
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
	}
}

func (w *world) init(c *Coordinator, id string) (int64, int16) {
	w.Helper()
	pid, epoch, err := c.Init(w.Context(), id, 60_000, core.None, core.None)
	if err != nil {
		w.Fatal(err)
	}
	return pid, epoch
}

func (w *world) must(err *kerr.Error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

var part = metadata.PartitionID{Topic: metadata.TopicID{1}, Partition: 3}

func TestCommitWithRefusedMarkers(t *testing.T) {
	simulate(t, func(w *world) {
		w.peers.refuse = 4
		c, stop := w.start()
		defer stop()
		pid, epoch := w.init(c, "tx")
		if err := c.Verify("tx", pid, epoch, part); err != kerr.TransactionAbortable {
			w.Errorf("verified before it was added: %v", err)
		}
		w.must(c.Add(w.Context(), "tx", pid, epoch, []metadata.PartitionID{part}, 2))
		w.must(c.Verify("tx", pid, epoch, part))
		id, next, err := c.End(w.Context(), "tx", pid, epoch, true, 2)
		if err != nil || id != pid || next != epoch+1 {
			w.Fatalf("%d, %d, %v", id, next, err)
		}
		if err := c.Add(w.Context(), "tx", pid, next, []metadata.PartitionID{part}, 2); err != kerr.ConcurrentTransactions {
			w.Errorf("the next transaction began before the markers: %v", err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		want := Marker{ProducerID: pid, ProducerEpoch: next, Commit: true, CoordinatorEpoch: 7, Version: 2}
		if got := w.peers.of(part); len(got) != 1 || got[0] != want {
			w.Errorf("markers %+v", got)
		}
		got, err := c.Describe("tx")
		if err != nil || got.Status != metadata.TxnCompleteCommit || len(got.Partitions) > 0 {
			w.Errorf("%+v, %v", got, err)
		}
		w.must(c.Add(w.Context(), "tx", pid, next, []metadata.PartitionID{part}, 2))
		if err := c.Add(w.Context(), "tx", pid, epoch, []metadata.PartitionID{part}, 2); err != kerr.ProducerFenced {
			w.Errorf("with the old epoch: %v", err)
		}
	})
}

// TestTakeover: what is decided is finished by the next coordinator, and a transaction that goes on times out there.
func TestTakeover(t *testing.T) {
	simulate(t, func(w *world) {
		w.peers.refuse = 1 << 30
		c, stop := w.start()
		pid, epoch := w.init(c, "decided")
		w.must(c.Add(w.Context(), "decided", pid, epoch, []metadata.PartitionID{part}, 2))
		_, _, err := c.End(w.Context(), "decided", pid, epoch, true, 2)
		w.must(err)
		slow, slowEpoch := w.init(c, "slow")
		w.must(c.Add(w.Context(), "slow", slow, slowEpoch, []metadata.PartitionID{part}, 2))
		stop()
		if _, _, err := c.Init(w.Context(), "tx", 1000, core.None, core.None); err != kerr.NotCoordinator {
			w.Errorf("after the stop: %v", err)
		}
		w.peers.stopRefusing()
		c, stop = w.start()
		defer stop()
		synctest.Wait()
		if got := w.peers.of(part); len(got) != 1 || !got[0].Commit || got[0].ProducerID != pid {
			w.Errorf("markers %+v", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := w.peers.of(part); len(got) != 2 || got[1].Commit || got[1].ProducerID != slow || got[1].ProducerEpoch != slowEpoch+1 {
			w.Errorf("markers %+v", got)
		}
		if _, _, err := c.End(w.Context(), "slow", slow, slowEpoch, true, 1); err != kerr.ProducerFenced {
			w.Errorf("commit after the timeout: %v", err)
		}
		time.Sleep(8 * 24 * time.Hour)
		synctest.Wait()
		if got, err := c.List(); err != nil || len(got) != 0 || w.store.len() != 0 {
			w.Errorf("not forgotten: %v, %v", got, err)
		}
	})
}

// TestUnknownOutcomes: every third write has no answer, half of them performed. Clients that repeat get through; every transaction ends once, as it was
// answered.
func TestUnknownOutcomes(t *testing.T) {
	simulate(t, func(w *world) {
		n := 0
		w.store.before = func() (error, bool) {
			if n++; n%3 == 0 {
				return metadata.ErrUnavailable, n%2 == 0
			}
			return nil, false
		}
		w.peers.refuse = 1
		c, stop := w.start()
		defer stop()
		retry := func(what string, fn func() *kerr.Error) {
			for range 100 {
				err := fn()
				if err == nil {
					return
				}
				if err != kerr.CoordinatorNotAvailable && err != kerr.ConcurrentTransactions {
					w.Fatalf("%s: %v", what, err)
				}
				time.Sleep(100 * time.Millisecond)
			}
			w.Fatalf("%s: never", what)
		}
		var pid int64
		var epoch int16
		retry("init", func() (err *kerr.Error) {
			pid, epoch, err = c.Init(w.Context(), "tx", 60_000, core.None, core.None)
			return err
		})
		for i := range 50 {
			commit := i%2 == 0
			retry("add", func() *kerr.Error { return c.Add(w.Context(), "tx", pid, epoch, []metadata.PartitionID{part}, 2) })
			before := epoch
			retry("end", func() *kerr.Error {
				id, next, err := c.End(w.Context(), "tx", pid, before, commit, 2)
				if err == nil {
					pid, epoch = id, next
				}
				return err
			})
			if epoch != before+1 {
				w.Fatalf("epoch %d after %d", epoch, before)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		got := w.peers.of(part)
		if len(got) != 50 {
			w.Fatalf("%d markers", len(got))
		}
		for i, m := range got {
			if m.Commit != (i%2 == 0) || i > 0 && m.ProducerEpoch != got[i-1].ProducerEpoch+1 {
				w.Errorf("marker %d: %+v", i, m)
			}
		}
	})
}

// TestLostShard: a coordinator that has lost its shard answers so, and changes nothing.
func TestLostShard(t *testing.T) {
	simulate(t, func(w *world) {
		c, stop := w.start()
		defer stop()
		pid, epoch := w.init(c, "tx")
		w.store.before = func() (error, bool) { return errors.Join(metadata.ErrFenced), false }
		if err := c.Add(w.Context(), "tx", pid, epoch, []metadata.PartitionID{part}, 2); err != kerr.NotCoordinator {
			w.Error(err)
		}
		if _, _, err := c.Init(w.Context(), "new", 1000, core.None, core.None); err != kerr.NotCoordinator {
			w.Error(err)
		}
		if err := c.Drop(w.Context(), ShardOf("tx")); err != nil {
			w.Error(err)
		}
		if _, err := c.Describe("tx"); err != kerr.NotCoordinator {
			w.Error(err)
		}
		for _, timeout := range []int32{0, -1, 900_001} {
			if _, _, err := c.Init(w.Context(), "tx", timeout, core.None, core.None); err != kerr.InvalidTransactionTimeout {
				w.Errorf("timeout %d: %v", timeout, err)
			}
		}
	})
}

// TestClientThatGoes: a commit that is stored, though nobody was told so, is finished even if nobody asks again.
func TestClientThatGoes(t *testing.T) {
	simulate(t, func(w *world) {
		c, stop := w.start()
		defer stop()
		pid, epoch := w.init(c, "tx")
		w.must(c.Add(w.Context(), "tx", pid, epoch, []metadata.PartitionID{part}, 2))
		w.store.before = func() (error, bool) {
			w.store.before = nil
			return metadata.ErrUnavailable, true
		}
		if _, _, err := c.End(w.Context(), "tx", pid, epoch, true, 2); err != kerr.CoordinatorNotAvailable {
			w.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := w.peers.of(part); len(got) != 1 || !got[0].Commit {
			w.Errorf("markers %+v", got)
		}
	})
}
