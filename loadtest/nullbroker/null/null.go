// Package null is a Kafka broker that keeps nothing, as the ceiling of benchmarks.
package null

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
)

// Options of a Broker.
type Options struct {
	Partitions  int   // of every topic; 12
	RecordBytes int   // of a fetched record's value; 1024
	BatchBytes  int   // of a fetched batch, at most; 1 MiB
	EndOffset   int64 // of every partition for fetches, rounded up to whole batches; 1<<40
}

// Broker makes up what clients ask for. Safe for concurrent use.
type Broker struct {
	opts       Options
	batch      []byte // fetched over and over, behind a base offset of its own
	batchCount int64
	producerID atomic.Int64

	mu     sync.RWMutex
	byName map[string]*topic
	byID   map[[16]byte]*topic

	connsMu sync.Mutex
	conns   map[net.Conn]struct{}
}

// topic counts produced records by partition.
type topic struct {
	name string
	id   [16]byte
	next []atomic.Int64
}

// New makes a broker; it starts nothing.
func New(o Options) (*Broker, error) {
	if o.Partitions == 0 {
		o.Partitions = 12
	}
	if o.RecordBytes == 0 {
		o.RecordBytes = 1024
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = 1 << 20
	}
	if o.EndOffset == 0 {
		o.EndOffset = 1 << 40
	}
	if o.Partitions < 0 || o.Partitions > maxPartitions || o.RecordBytes < 0 || o.BatchBytes < 0 || o.BatchBytes > 1<<27 || o.EndOffset < 0 || o.EndOffset > 1<<60 {
		return nil, errors.New("options out of range")
	}
	b := &Broker{opts: o, byName: map[string]*topic{}, byID: map[[16]byte]*topic{}, conns: map[net.Conn]struct{}{}}
	b.batch, b.batchCount = makeBatch(o.BatchBytes, o.RecordBytes)
	b.opts.EndOffset = (o.EndOffset + b.batchCount - 1) / b.batchCount * b.batchCount
	return b, nil
}

// Serve accepts connections until ctx is done; then it closes ln and all connections, waits for them and returns nil.
func (b *Broker) Serve(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() {
		_ = ln.Close()
		b.connsMu.Lock()
		defer b.connsMu.Unlock()
		for nc := range b.conns {
			_ = nc.Close()
		}
	})
	defer stop()
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		b.connsMu.Lock()
		b.conns[nc] = struct{}{}
		b.connsMu.Unlock()
		if ctx.Err() != nil {
			_ = nc.Close()
		}
		wg.Go(func() {
			c := conn{b: b, nc: nc, in: make([]byte, readBytes)}
			c.serve()
			_ = nc.Close()
			b.connsMu.Lock()
			delete(b.conns, nc)
			b.connsMu.Unlock()
		})
	}
}

// Bounds of what clients can make the broker remember.
const (
	maxTopics     = 10_000
	maxPartitions = 1 << 17
)

// topic returns the topic of a name, which exists from then on; nil when there are too many.
func (b *Broker) topic(name string) *topic { return b.create(name, 0) }

// create returns the topic of a name, with a number of partitions if it is new; 0 or less: the broker's own number.
func (b *Broker) create(name string, partitions int) *topic {
	b.mu.RLock()
	t := b.byName[name]
	b.mu.RUnlock()
	if t != nil {
		return t
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.byName[name]; t != nil {
		return t
	}
	if len(b.byName) >= maxTopics {
		return nil
	}
	if partitions <= 0 {
		partitions = b.opts.Partitions
	}
	sum := sha256.Sum256([]byte(name))
	t = &topic{name: name, id: [16]byte(sum[:16]), next: make([]atomic.Int64, partitions)}
	b.byName[name], b.byID[t.id] = t, t
	return t
}

// forget deletes a topic. It is there again when it is next asked for.
func (b *Broker) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.byName[name]; t != nil {
		delete(b.byName, name)
		delete(b.byID, t.id)
	}
}

func (b *Broker) topicByID(id [16]byte) *topic {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byID[id]
}

// Produced is how many records were thrown away.
func (b *Broker) Produced() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var n int64
	for _, t := range b.byName {
		for i := range t.next {
			n += t.next[i].Load()
		}
	}
	return n
}

func hostPort(a net.Addr) (string, int32) {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), 0
	}
	n, _ := strconv.ParseInt(port, 10, 32)
	return host, int32(n)
}
