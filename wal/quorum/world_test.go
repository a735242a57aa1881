package quorum

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

const testStream = 77

var (
	errCut  = errors.New("not reached")
	errGone = errors.New("the broker is gone")
)

// world is a few brokers, each with a disk full of replicas, and the network between them and the one that writes.
type world struct {
	t    *testing.T
	mu   sync.Mutex
	rand *rand.Rand
	at   map[Member]*host
	etcd []Member // the stream's ensemble
	open bool     // the stream is still the writer's
	loss int      // percent of requests or answers that are lost

	committed atomic.Uint64
}

type host struct {
	disk *crashfs.FS
	rs   *wal.Replicas // nil: down
	cut  bool
}

func newWorld(t *testing.T, seed uint64, members ...Member) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 9)), at: map[Member]*host{}, open: true}
	for _, m := range members {
		disk := crashfs.New()
		disk.SetLatency(time.Millisecond)
		w.at[m] = &host{disk: disk}
		w.up(m)
	}
	return w
}

// up starts a broker on its disk.
func (w *world) up(m Member) {
	h := w.at[m]
	rs, err := wal.OpenReplicas(wal.ReplicaOptions{FS: h.disk, Dir: "replicas", Sync: wal.SyncData})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	h.rs = rs
	w.mu.Unlock()
}

// crash ends a broker as power loss would.
func (w *world) crash(m Member) {
	h := w.at[m]
	w.mu.Lock()
	rs := h.rs
	h.rs = nil
	w.mu.Unlock()
	h.disk.Crash()
	_ = rs.Close() // its disk is gone
	h.disk = h.disk.After(50, w.rand.Uint64())
	h.disk.SetLatency(time.Millisecond)
}

func (w *world) cut(m Member, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at[m].cut = cut
}

func (w *world) close() {
	for m, h := range w.at {
		if h.rs != nil {
			if err := h.rs.Close(); err != nil {
				w.t.Errorf("%v: %v", m, err)
			}
		}
	}
}

// link is the way to a member.
type link struct {
	w *world
	m Member
	a Appender // of an opened link
}

func (w *world) dial(m Member) Peer { return link{w: w, m: m} }

// pass carries out a request on a member unless it, or its answer, is lost.
func (l link) pass(ctx context.Context, do func(*wal.Replicas) error) error {
	l.w.mu.Lock()
	h := l.w.at[l.m]
	var rs *wal.Replicas
	cut, roll := false, l.w.rand.IntN(100)
	if h != nil {
		rs, cut = h.rs, h.cut
	}
	l.w.mu.Unlock()
	time.Sleep(100 * time.Microsecond)
	if rs == nil || cut || roll < l.w.loss {
		return errCut
	}
	if err := do(rs); err != nil {
		return err
	}
	if roll < 2*l.w.loss {
		return errCut
	}
	return context.Cause(ctx)
}

func (l link) Open(ctx context.Context, stream uint64, h wal.StreamHeader, oldest wal.SegmentRef, create bool) (a Appender, tail wal.Tail, err error) {
	err = l.pass(ctx, func(rs *wal.Replicas) (err error) {
		l.a, tail, err = rs.Open(ctx, stream, h, oldest, create)
		return err
	})
	return l, tail, err
}

func (l link) Append(ctx context.Context, k wal.Chunk) (held wal.Position, err error) {
	err = l.pass(ctx, func(*wal.Replicas) (err error) { held, err = l.a.Append(ctx, k); return err })
	return held, err
}

func (l link) Fence(ctx context.Context, stream, epoch uint64) (tail wal.Tail, err error) {
	err = l.pass(ctx, func(rs *wal.Replicas) (err error) { tail, err = rs.Fence(ctx, stream, epoch); return err })
	return tail, err
}

func (l link) Read(ctx context.Context, stream uint64, from wal.Position, maxBytes int, dst []byte) (k wal.Chunk, err error) {
	err = l.pass(ctx, func(rs *wal.Replicas) (err error) { k, err = rs.Read(ctx, stream, from, maxBytes, dst); return err })
	return k, err
}

func (l link) Trim(ctx context.Context, stream uint64, to wal.Position) error {
	return l.pass(ctx, func(rs *wal.Replicas) error { return rs.Trim(ctx, stream, to) })
}

func (l link) Remove(ctx context.Context, stream, epoch uint64) error {
	return l.pass(ctx, func(rs *wal.Replicas) error { return rs.Remove(ctx, stream, epoch) })
}

// owner is the broker that writes the stream.
type owner struct {
	w      *world
	log    *wal.Log
	writer *Writer
	stop   func()

	mu    sync.Mutex
	acked int
	err   error
}

// own starts the stream's owner, which is not one of the world's members.
func (w *world) own(self Member, candidates func() []Member) *owner {
	disk := crashfs.New()
	disk.SetLatency(time.Millisecond)
	log, err := wal.New(wal.Options{FS: disk, Dir: "wal", Epoch: 5, Owner: [16]byte{1}, SegmentBytes: 64 << 10, SlabBytes: 32 << 10, SlabCount: 6,
		MaxBytes: 8 << 20, Sync: wal.SyncData, Replicated: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.etcd = []Member{self}
	o := &owner{w: w, log: log}
	o.writer, err = NewWriter(Options{Log: log, Stream: testStream, Self: self, Quorum: 2, Size: 3, Dial: w.dial,
		Candidates: func([]Member) []Member { return candidates() }, Change: w.change, Committed: func() wal.Position { return wal.Position(w.committed.Load()) }})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var parts sync.WaitGroup
	parts.Go(func() { _ = log.Run(ctx) }) // it fails when it is fenced
	parts.Go(func() {
		if err := o.writer.Run(ctx); err != nil {
			w.t.Errorf("writer: %v", err)
		}
	})
	o.stop = func() {
		cancel()
		log.Fail(errGone) // what waits for members that nobody sends to any more would wait for ever
		parts.Wait()
		if err := log.Close(); err != nil {
			w.t.Error(err)
		}
	}
	return o
}

// change is etcd: a swap that only the stream's writer makes while nobody recovers it.
func (w *world) change(_ context.Context, next []Member) error {
	time.Sleep(time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.open {
		return wal.ErrFenced
	}
	w.etcd = next
	return nil
}

// recoverer swaps the stream's record and returns the ensemble as it is then.
func (w *world) recoverer() []Member {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = false
	return w.etcd
}

type acker struct {
	o *owner
	i int
}

func (a acker) Committed(err error) {
	a.o.mu.Lock()
	defer a.o.mu.Unlock()
	switch {
	case err != nil:
		a.o.err = err
	case a.o.acked != a.i:
		a.o.w.t.Errorf("entry %d acknowledged after %d", a.i, a.o.acked)
	default:
		a.o.acked++
	}
}

// append adds the i-th entry, of up to 3000 bytes.
func (o *owner) append(i int) error {
	data := make([]byte, 8+(i*739)%3000)
	binary.BigEndian.PutUint64(data, uint64(i))
	ctx, cancel := context.WithTimeout(o.w.t.Context(), 100*time.Millisecond)
	defer cancel()
	a, err := o.log.Admit(ctx, len(data))
	if err != nil {
		return err
	}
	r := o.log.Append(a, len(data), acker{o, i})
	r.Write(data)
	r.Done()
	return nil
}

func (o *owner) acks() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acked
}

// check reads what was recovered: entries in order from the first, among them all that were acknowledged.
func (w *world) check(r *Recovered, acked int) error {
	n := 0
	err := r.Scan(w.t.Context(), 0, r.End(), func(e wal.Entry) error {
		if i := int(binary.BigEndian.Uint64(e.Data)); i != n || len(e.Data) != 8+(i*739)%3000 {
			return fmt.Errorf("entry %d of %d bytes in place %d", i, len(e.Data), n)
		}
		n++
		return nil
	})
	if err == nil && n < acked {
		w.t.Errorf("%d of %d acknowledged entries were recovered", n, acked)
	}
	return err
}
