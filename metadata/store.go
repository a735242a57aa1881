// Package metadata keeps the cluster's metadata in etcd: topics, partitions, brokers, configs, WAL streams, pending objects,
// consumer groups and their offsets. Readers use an Image, an immutable snapshot that a watch keeps current; every mutation
// is a swap on an epoch or a revision. FORMAT.md has the keys and values.
package metadata

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// KV is the seam to etcd; package kv says what is asked of it.
type KV = kv.KV

// Options of a Store.
type Options struct {
	Prefix    string // of every key, begins with a slash; default "/tidemark"
	ClusterID string // expected; a new cluster gets it. Default: whatever is there, and a random one for a new cluster

	// The pending objects that tiering should keep below: beyond Soft it absorbs sooner, beyond Hard it slows uploads down. The
	// store only reports them. Defaults 512 and 4096.
	PendingSoft, PendingHard int

	OffsetCacheBytes int64 // of the last known offsets of groups, approximately; default 64 MiB

	Logger *slog.Logger // nil discards
	Meter  metric.Meter // nil measures nothing
}

// Store is the metadata of a cluster. Safe for concurrent use.
type Store struct {
	kv      kv.KV
	keys    keyspace
	opts    Options
	logger  *slog.Logger
	metrics *storeMetrics

	image atomic.Pointer[Image]

	mu          sync.Mutex          // guards what follows; never held over a call
	watched     int64               // the image has every change up to this revision
	recent      map[string]kv.Event // by key: applied to the image ahead of the watch
	pending     map[string]struct{} // keys of pending objects
	subscribers map[chan struct{}]struct{}
	creating    map[TopicID]struct{} // creations that this store is at
	mine        map[Incarnation]struct{}
	progress    map[StreamID]*streamProgress
	offsets     offsetCache
}

const (
	txnAttempts    = 4 // of a transaction whose outcome stays unknown
	swapAttempts   = 10
	chunksInFlight = 16
	chunkOps       = 120 // stays below kv.MaxTxnOps with room for guards
	scanPage       = 2000
	maxPrefixBytes = 64 // keeps a partition's key and value within 512 bytes
	retryFirst     = 50 * time.Millisecond
	retryMost      = 2 * time.Second
)

// Open reads the image, creating the cluster record when there is none, and removes what crashed creations left. It starts
// nothing: call Run to follow the changes of others.
func Open(ctx context.Context, store kv.KV, o Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = "/tidemark"
	}
	o.Prefix = strings.TrimSuffix(o.Prefix, "/")
	if len(o.Prefix) > maxPrefixBytes || !strings.HasPrefix(o.Prefix, "/") {
		return nil, fmt.Errorf("metadata: %w: prefix %.100q: it begins with a slash and has at most %d bytes", ErrInvalid, o.Prefix, maxPrefixBytes)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.PendingSoft <= 0 {
		o.PendingSoft = 512
	}
	if o.PendingHard <= 0 {
		o.PendingHard = max(4096, o.PendingSoft)
	}
	if o.OffsetCacheBytes <= 0 {
		o.OffsetCacheBytes = 64 << 20
	}
	s := &Store{
		keys:        keyspace{o.Prefix},
		opts:        o,
		logger:      o.Logger,
		recent:      map[string]kv.Event{},
		pending:     map[string]struct{}{},
		subscribers: map[chan struct{}]struct{}{},
		creating:    map[TopicID]struct{}{},
		mine:        map[Incarnation]struct{}{},
		progress:    map[StreamID]*streamProgress{},
		offsets:     offsetCache{buckets: map[string]cachedBucket{}, limit: o.OffsetCacheBytes},
	}
	s.image.Store(newImage())
	var err error
	if s.metrics, err = newStoreMetrics(o.Meter, s); err != nil {
		return nil, fmt.Errorf("metadata: metrics: %w", err)
	}
	s.kv = &measured{kv: store, m: s.metrics}
	if err := s.openCluster(ctx); err != nil {
		return nil, fmt.Errorf("metadata: open the cluster record: %w", err)
	}
	if err := s.relist(ctx, true); err != nil {
		return nil, fmt.Errorf("metadata: read the cluster: %w", err)
	}
	if err := s.sweep(ctx); err != nil {
		return nil, fmt.Errorf("metadata: remove unfinished topics: %w", err)
	}
	return s, nil
}

// Image returns the newest snapshot: an atomic load. It has every mutation that returned on this store.
func (s *Store) Image() *Image { return s.image.Load() }

// PendingCount returns the number of pending objects in the cluster, without I/O.
func (s *Store) PendingCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// PendingLimits returns the soft and the hard cap of pending objects, as set in the options.
func (s *Store) PendingLimits() (soft, hard int) { return s.opts.PendingSoft, s.opts.PendingHard }

// Changes returns a channel that gets a value after topics, configs, brokers or the owners of partitions changed, whoever changed them;
// changes of partitions' state do not count. Values are not counted: take the new Image and Diff it with the last one seen. The channel
// is never closed and gets nothing more when ctx is done.
func (s *Store) Changes(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	s.subscribers[ch] = struct{}{}
	s.mu.Unlock()
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subscribers, ch)
	})
	return ch
}

// openCluster makes sure that there is a cluster record, and the one that is expected.
func (s *Store) openCluster(ctx context.Context) error {
	id := s.opts.ClusterID
	if id == "" {
		id = newClusterID()
	}
	record := encodeJSON(clusterRecord{Version: codecVersion, ClusterID: id, CreatedMillis: time.Now().UnixMilli()})
	if _, err := decodeCluster(record); err != nil {
		return err
	}
	key := s.keys.cluster()
	res, _, err := s.txn(ctx, kv.Txn{
		If:   []kv.Compare{kv.Absent(key)},
		Then: []kv.Op{kv.Put(key, record)},
		Else: []kv.Op{kv.Get(key)},
	})
	if err != nil || res.Succeeded {
		return err
	}
	if len(res.Gets[0]) == 0 {
		return fmt.Errorf("%w: cluster record vanished", ErrConflict)
	}
	r, err := decodeCluster(res.Gets[0][0].Value)
	if err != nil {
		return err
	}
	if s.opts.ClusterID != "" && r.ClusterID != s.opts.ClusterID {
		return fmt.Errorf("%w: cluster %s is here, %s was expected", ErrConflict, r.ClusterID, s.opts.ClusterID)
	}
	return nil
}

// newClusterID returns a random id in the form of Kafka's: 22 characters of URL-safe base64, not beginning with a dash.
func newClusterID() string { id := randomID(); return base64.RawURLEncoding.EncodeToString(id[:]) }

// randomID returns a random version 4 UUID whose text does not begin with a dash, which command-line tools take for an option.
func randomID() TopicID {
	for {
		var id TopicID
		_, _ = rand.Read(id[:]) // never fails, by its contract
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id.String()[0] != '-' {
			return id
		}
	}
}

// txn performs a transaction, repeating it while its outcome is unknown. That is safe because every transaction here
// compares what it changes: of all attempts, late ones included, at most one is performed, unless repetition does no harm.
// uncertain tells that an earlier attempt may have been the one: a failed comparison may then be this caller's own success.
func (s *Store) txn(ctx context.Context, t kv.Txn) (res kv.TxnResult, uncertain bool, err error) {
	for attempt := range txnAttempts {
		if attempt > 0 && !pause(ctx, attempt) {
			break
		}
		res, err = s.kv.Txn(ctx, t)
		if err == nil {
			return res, uncertain, nil
		}
		if !errors.Is(err, kv.ErrUnavailable) {
			break
		}
		uncertain = true
	}
	return kv.TxnResult{}, uncertain, convertError(err)
}

// read reads a page, repeating it while there is no answer.
func (s *Store) read(ctx context.Context, r kv.Range) (page kv.Page, err error) {
	for attempt := range txnAttempts {
		if attempt > 0 && !pause(ctx, attempt) {
			break
		}
		if page, err = s.kv.Range(ctx, r); !errors.Is(err, kv.ErrUnavailable) {
			break
		}
	}
	return page, convertError(err)
}

// scan reads a range at one revision; a compaction in between starts it again, after begin was called again.
func (s *Store) scan(ctx context.Context, start, end string, page int, begin func(), fn func(kv.Pair) error) (rev int64, err error) {
	for attempt := range txnAttempts {
		if attempt > 0 && !pause(ctx, attempt) {
			break
		}
		begin()
		rev, err = kv.Scan(ctx, s.kv, start, end, page, fn)
		if !errors.Is(err, kv.ErrUnavailable) && !errors.Is(err, kv.ErrCompacted) {
			break
		}
	}
	return rev, convertError(err)
}

// pause waits before the attempt of that number, with jitter. It returns false when ctx is done.
func pause(ctx context.Context, attempt int) bool {
	d := min(retryFirst<<min(attempt-1, 10), retryMost)
	d = d/2 + mrand.N(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// convertError gives errors of the seam the names of this package.
func convertError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kv.ErrUnavailable), errors.Is(err, kv.ErrNoSpace), errors.Is(err, kv.ErrCompacted), errors.Is(err, kv.ErrLeaseNotFound):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errors.Is(err, kv.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

// AllocateProducerIDs takes a block of n producer ids, [first, first+n), that nobody else gets. After an unknown outcome a
// block may stay unused.
func (s *Store) AllocateProducerIDs(ctx context.Context, n int64) (first int64, err error) {
	if n < 1 || n > 1<<40 {
		return 0, fmt.Errorf("%w: block of %d producer ids", ErrInvalid, n)
	}
	key := s.keys.producerIDs()
	var next, rev int64
	for attempt := range swapAttempts {
		if attempt > 1 && !pause(ctx, attempt) { // the first attempt only finds out the present value
			break
		}
		if next > math.MaxInt64-n {
			return 0, fmt.Errorf("%w: producer ids are used up", ErrInvalid)
		}
		// Whose block a value ends with cannot be told after an unknown outcome: then the next one is taken.
		res, _, err := s.txn(ctx, kv.Txn{
			If:   []kv.Compare{kv.Unchanged(key, rev)},
			Then: []kv.Op{kv.Put(key, appendProducerIDs(nil, next+n))},
			Else: []kv.Op{kv.Get(key)},
		})
		if err != nil {
			return 0, fmt.Errorf("allocate producer ids: %w", err)
		}
		if res.Succeeded {
			return next, nil
		}
		next, rev = 0, 0
		if len(res.Gets[0]) > 0 {
			if next, err = decodeProducerIDs(res.Gets[0][0].Value); err != nil {
				return 0, fmt.Errorf("metadata key %s: %w", key, err)
			}
			rev = res.Gets[0][0].ModRevision
		}
	}
	return 0, fmt.Errorf("%w: producer ids", ErrConflict)
}
