// Package txn is the transaction coordinator: it drives the PURE decisions of txn/core with a store, timers and writers of markers. A transactional
// id belongs to a shard, which is owned like a partition; every write compares that, so a broker that has lost a shard changes nothing.
//
// Nothing is answered before it is stored. Once a prepared state is stored its outcome stands: whoever owns the shard writes the markers until every
// partition has one, and only then may the next transaction begin.
package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group"
	"github.com/tidemarkmq/tidemark/broker/txn/core"
	"github.com/tidemarkmq/tidemark/metadata"
)

// NumShards is the number of shards, and of partitions of __transaction_state by whose ownership they are owned.
const NumShards = 50

// ShardOf is the shard of a transactional id, as Kafka computes it (TransactionStateManager.partitionFor).
func ShardOf(id string) int { return group.ShardOf(id, NumShards) }

// Store keeps transactional ids; *metadata.CoordinatorStore is one. Errors are those of package metadata: ErrFenced for a lost shard, ErrUnavailable
// for an unknown outcome.
type Store interface {
	LoadTransactions(ctx context.Context, fn func(id string, t *metadata.Transaction, rev metadata.Revision) error) error
	LoadTransaction(ctx context.Context, id string) (*metadata.Transaction, metadata.Revision, error)
	SaveTransaction(ctx context.Context, id string, t *metadata.Transaction, expect metadata.Revision) (metadata.Revision, error)
	DeleteTransaction(ctx context.Context, id string, expect metadata.Revision) error
}

// Marker says how a transaction ended, for one producer.
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	Commit           bool
	CoordinatorEpoch int32 // leader epoch of the shard's partition
	Version          int8  // transaction.version
}

// Markers writes markers into partitions, wherever they are.
type Markers interface {
	// Write returns when it is known of each partition whether its marker is durable, or ctx is done; left are those that need another attempt. A
	// partition that does not exist any more needs none. A marker that is there already does no harm.
	Write(ctx context.Context, m Marker, partitions []metadata.PartitionID) (left []metadata.PartitionID)
}

// Options of a Coordinator. Store, Markers and NewID are required.
type Options struct {
	Store   Store
	Markers Markers
	NewID   func(ctx context.Context) (int64, error) // an unused producer id
	// Epoch is the leader epoch of the partition by which a shard is owned.
	Epoch func(shard int) int32

	MaxTimeout   func() time.Duration // transaction.max.timeout.ms; nil: 15 min
	Retention    time.Duration        // transactional.id.expiration.ms; 0: 7 days
	TimeoutCheck time.Duration        // how often transactions are looked at for their timeout; 0: 10 s, as in Kafka
	WriteTimeout time.Duration        // of one call of the store; 0: 5 s
	Patience     time.Duration        // how long a request waits for its predecessor of the same id; 0: 200 ms
	Logger       *slog.Logger         // nil: discard
}

func (o *Options) setDefaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Retention, 7*24*time.Hour)
	set(&o.TimeoutCheck, 10*time.Second)
	set(&o.WriteTimeout, 5*time.Second)
	set(&o.Patience, 200*time.Millisecond)
	if o.MaxTimeout == nil {
		o.MaxTimeout = func() time.Duration { return 15 * time.Minute }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Coordinator answers the transaction APIs for the shards that this broker owns. Safe for concurrent use, except Load and Drop with each other.
type Coordinator struct {
	opts    Options
	logger  *slog.Logger
	shards  [NumShards]shard
	stopped atomic.Bool
}

// New returns a coordinator that serves nothing before Load.
func New(opts Options) *Coordinator {
	opts.setDefaults()
	c := &Coordinator{opts: opts, logger: opts.Logger}
	return c
}

// phases of a shard.
const (
	foreign = iota // another broker's: NOT_COORDINATOR
	loading        // COORDINATOR_LOAD_IN_PROGRESS
	serving
)

// shard is a share of the transactional ids. mu guards all; it is never held over a wait.
type shard struct {
	mu      sync.Mutex
	phase   int
	entries map[string]*entry
	life    context.Context // ends when the shard is dropped
	end     context.CancelFunc
	busy    sync.WaitGroup // requests and writers of markers; grows only while the shard is served
}

// entry is a transactional id.
type entry struct {
	id    string
	shard *shard
	now   atomic.Pointer[metadata.Transaction] // as stored; nil: not yet

	turn      chan struct{}     // holds a token while somebody decides and stores; guards what follows
	rev       metadata.Revision // of what is stored; 0 nothing
	uncertain atomic.Bool       // the outcome of the last write is unknown; set and cleared by who has the turn
	finishing bool              // somebody writes the markers
	gone      bool              // forgotten: look the id up again
}

// Load reads the ids of shards from the store and then serves them; what is prepared is finished. The caller owns the shards already. After an error it
// may be repeated.
func (c *Coordinator) Load(ctx context.Context, shards ...int) error {
	wanted := map[int]bool{}
	for _, i := range shards {
		s := &c.shards[i]
		s.mu.Lock()
		if s.phase != serving {
			s.phase, s.entries, wanted[i] = loading, map[string]*entry{}, true
		}
		s.mu.Unlock()
	}
	err := c.opts.Store.LoadTransactions(ctx, func(id string, t *metadata.Transaction, rev metadata.Revision) error {
		if i := ShardOf(id); wanted[i] {
			s := &c.shards[i]
			e := &entry{id: id, shard: s, turn: make(chan struct{}, 1), rev: rev}
			e.now.Store(t)
			s.mu.Lock()
			s.entries[id] = e
			s.mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range wanted {
		s := &c.shards[i]
		s.mu.Lock()
		s.phase = serving
		s.life, s.end = context.WithCancel(context.Background())
		for _, e := range s.entries {
			if e.now.Load().Status.Prepared() {
				e.finishing = true
				s.busy.Add(1)
				go c.finish(e)
			}
		}
		s.mu.Unlock()
	}
	return nil
}

// Drop ends the serving of shards. It returns when nothing of this coordinator is under way in them, or ctx is done. Transactions stay as they are
// stored: the next owner finishes them.
func (c *Coordinator) Drop(ctx context.Context, shards ...int) error {
	ended := make(chan struct{})
	for _, i := range shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.phase = foreign
		if s.end != nil {
			s.end()
		}
		s.mu.Unlock()
	}
	go func() {
		for _, i := range shards {
			c.shards[i].busy.Wait()
		}
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("transactions are being written: %w", context.Cause(ctx))
	}
	for _, i := range shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.entries = nil
		s.mu.Unlock()
	}
	return nil
}

// find returns an id's entry, made if create is set, nil if there is none. The caller calls leave at the end, if there is no error.
func (c *Coordinator) find(id string, create bool) (*entry, *kerr.Error) {
	s := &c.shards[ShardOf(id)]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.stopped.Load() || s.phase == foreign:
		return nil, kerr.NotCoordinator
	case s.phase == loading:
		return nil, kerr.CoordinatorLoadInProgress
	}
	e := s.entries[id]
	if e == nil && create {
		e = &entry{id: id, shard: s, turn: make(chan struct{}, 1)}
		s.entries[id] = e
	}
	if e != nil {
		s.busy.Add(1)
	}
	return e, nil
}

func (e *entry) leave() { e.shard.busy.Done() }

// take waits for the entry's turn, for a while.
func (c *Coordinator) take(ctx context.Context, e *entry) *kerr.Error {
	select {
	case e.turn <- struct{}{}:
		return nil
	default:
	}
	patience := time.NewTimer(c.opts.Patience)
	defer patience.Stop()
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-patience.C:
	case <-ctx.Done():
	}
	return kerr.ConcurrentTransactions
}

func writeError(err error) *kerr.Error {
	switch {
	case errors.Is(err, metadata.ErrFenced):
		return kerr.NotCoordinator
	case errors.Is(err, metadata.ErrInvalid):
		return kerr.InvalidRequest
	}
	return kerr.CoordinatorNotAvailable
}

func millis() int64 { return time.Now().UnixMilli() }

var none = core.Decision{ProducerID: core.None, ProducerEpoch: core.None}
