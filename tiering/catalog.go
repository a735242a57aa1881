package tiering

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/producers"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// CatalogOptions configure a Catalog.
type CatalogOptions struct {
	Store      objectstore.Store
	Partitions Partitions
	Cluster    string // cluster id, part of every key
	CacheBytes int64  // of decoded manifests and indexes; default 64 MiB
	// Beyond SoftPending objects, or SoftIndexBytes of their indexes in memory, absorbing is due at once (defaults 512 and 64 MiB);
	// beyond HardPending objects sealing is throttled (default 4096).
	SoftPending, HardPending int
	SoftIndexBytes           int64
	Logger                   *slog.Logger
	Meter                    metric.Meter
}

// Catalog knows which objects hold which committed offsets of which partition: the pending objects with their indexes are in memory,
// manifests and the indexes of absorbed objects in a cache. It is safe for concurrent use.
type Catalog struct {
	o         CatalogOptions
	base      context.Context
	cancel    context.CancelFunc
	loads     sync.WaitGroup
	manifests *cache[manifestKey, *manifest.Manifest]
	children  *cache[childKey, []manifest.Segment]
	indexes   *cache[segment.ID, *segment.Index]
	pressed   chan struct{} // one signal: more than the soft cap is pending
	metrics   *metrics

	mu         sync.RWMutex
	pending    []*pendingObject // by stream and sequence
	parts      map[metadata.PartitionID][]piece
	indexBytes int64  // of the indexes of pending objects
	own        int    // pending objects that are not foreign
	ownBytes   int64  // of their indexes
	additions  uint64 // calls of add

	syncing chan struct{} // holds a token while a Sync runs
}

type manifestKey struct {
	partition  metadata.PartitionID
	generation uint64
	key        string
}

type childKey struct {
	object   segment.ID
	position int64
}

// pendingObject is a committed object that not all of its partitions' manifests cover.
type pendingObject struct {
	record   metadata.PendingObject
	id       segment.ID
	index    *segment.Index
	footer   segment.Footer
	memBytes int64
	foreign  bool   // committed by another broker, as far as this one knows: not for this one to hurry with
	since    uint64 // Catalog.additions when it was added
}

// piece is what a pending object holds of one partition.
type piece struct {
	object *pendingObject
	part   *segment.Part
}

// NewCatalog returns an empty catalog; Load fills it.
func NewCatalog(o CatalogOptions) *Catalog {
	o.Logger = loggerOr(o.Logger)
	orDefault(&o.CacheBytes, 64<<20)
	orDefault(&o.SoftPending, 512)
	orDefault(&o.HardPending, 4096)
	orDefault(&o.SoftIndexBytes, 64<<20)
	c := &Catalog{o: o, parts: map[metadata.PartitionID][]piece{}, pressed: make(chan struct{}, 1), syncing: make(chan struct{}, 1)}
	c.base, c.cancel = context.WithCancel(context.Background())
	const loadTimeout = time.Minute
	c.manifests = newCache[manifestKey, *manifest.Manifest](c.base, &c.loads, o.CacheBytes/2, loadTimeout)
	c.children = newCache[childKey, []manifest.Segment](c.base, &c.loads, o.CacheBytes/8, loadTimeout)
	c.indexes = newCache[segment.ID, *segment.Index](c.base, &c.loads, o.CacheBytes*3/8, loadTimeout)
	c.metrics = newMetrics(o.Meter, o.Logger)
	c.metrics.watchCatalog(c)
	return c
}

// Close gives up the loads that are under way and waits for them. The catalog must not be used afterwards.
func (c *Catalog) Close() {
	c.cancel()
	c.loads.Wait()
}

func (c *Catalog) readPending(ctx context.Context, r metadata.PendingObject) (*pendingObject, error) {
	id, err := segment.ParseKey(c.o.Cluster, r.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: pending object: %w", ErrCorrupt, err)
	}
	x, f, err := readIndex(ctx, c.o.Store, r.Key, r.FooterAt, r.SizeBytes)
	if err != nil {
		return nil, err
	}
	if f.IndexCRC != r.CRC {
		return nil, fmt.Errorf("%w: %s: index CRC %08x, committed with %08x", ErrCorrupt, r.Key, f.IndexCRC, r.CRC)
	}
	return newPending(r, id, x, f), nil
}

func newPending(r metadata.PendingObject, id segment.ID, x *segment.Index, f segment.Footer) *pendingObject {
	return &pendingObject{record: r, id: id, index: x, footer: f, memBytes: indexBytes(x)}
}

// readIndex reads the index of an object of sizeBytes that begins at indexAt, in one request.
func readIndex(ctx context.Context, store objectstore.Store, key string, indexAt, sizeBytes int64) (*segment.Index, segment.Footer, error) {
	if n := sizeBytes - indexAt; indexAt < segment.HeaderBytes || n < segment.FooterBytes || n > segment.MaxIndexBytes+segment.FooterBytes {
		return nil, segment.Footer{}, fmt.Errorf("%w: %s: index at %d of %d bytes", ErrCorrupt, key, indexAt, sizeBytes)
	}
	b := make([]byte, sizeBytes-indexAt)
	if err := getRange(ctx, store, key, b, indexAt); err != nil {
		return nil, segment.Footer{}, err
	}
	x, f, err := segment.DecodeTail(b)
	if err == nil && (f.IndexAt != indexAt || f.SizeBytes() != sizeBytes) {
		err = fmt.Errorf("%w: footer says index at %d of %d bytes", segment.ErrCorrupt, f.IndexAt, f.SizeBytes())
	}
	if err != nil {
		return nil, f, fmt.Errorf("%w: %s: %w", ErrCorrupt, key, err)
	}
	return x, f, nil
}

// indexBytes estimates what a decoded index takes in memory.
func indexBytes(x *segment.Index) int64 {
	n := int64(64)
	for i := range x.Parts {
		n += 160 + int64(len(x.Parts[i].Blocks))*48 + int64(len(x.Parts[i].Producers)) + int64(len(x.Parts[i].Aborted))*32
	}
	return n
}

// add makes committed objects known. One that is known already is left as it is.
func (c *Catalog) add(objects []*pendingObject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.additions++
	for _, o := range objects {
		at, known := slices.BinarySearchFunc(c.pending, o, comparePending)
		if known {
			continue
		}
		o.since = c.additions
		c.pending = slices.Insert(c.pending, at, o)
		c.countLocked(o, 1)
		for i := range o.index.Parts {
			p := &o.index.Parts[i]
			pieces := append(c.parts[p.Partition], piece{o, p})
			if n := len(pieces); n > 1 && pieces[n-2].part.Start > p.Start {
				pieces = slices.Clone(pieces) // readers may hold the old one
				slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.part.Start, b.part.Start) })
			}
			c.parts[p.Partition] = pieces
		}
	}
	if c.own > c.o.SoftPending || c.ownBytes > c.o.SoftIndexBytes {
		select {
		case c.pressed <- struct{}{}:
		default:
		}
	}
}

func comparePending(a, b *pendingObject) int {
	return cmp.Or(cmp.Compare(a.record.Stream, b.record.Stream), cmp.Compare(a.record.Seq, b.record.Seq))
}

// countLocked counts an object in (1) or out (-1).
func (c *Catalog) countLocked(o *pendingObject, n int) {
	c.indexBytes += int64(n) * o.memBytes
	if !o.foreign {
		c.own += n
		c.ownBytes += int64(n) * o.memBytes
	}
}

// remove forgets objects that are no longer pending. Those that are forgotten already are no error.
func (c *Catalog) remove(objects []*pendingObject) {
	gone := make(map[*pendingObject]bool, len(objects))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range objects {
		if at, known := slices.BinarySearchFunc(c.pending, o, comparePending); known && c.pending[at] == o {
			gone[o] = true
		}
	}
	c.pending = slices.DeleteFunc(c.pending, func(o *pendingObject) bool { return gone[o] })
	for o := range gone {
		c.countLocked(o, -1)
		for i := range o.index.Parts {
			p := o.index.Parts[i].Partition
			// A new slice: readers may hold the old one.
			rest := slices.DeleteFunc(slices.Clone(c.parts[p]), func(q piece) bool { return q.object == o })
			if len(rest) == 0 {
				delete(c.parts, p)
			} else {
				c.parts[p] = rest
			}
		}
	}
}

// pendingList returns the pending objects, by stream and sequence.
func (c *Catalog) pendingList() []*pendingObject {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.pending)
}

func (c *Catalog) pendingCount() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.pending)
}

// pieces returns what is pending of p from offset from on, in order. The slice must not be changed.
func (c *Catalog) pieces(p metadata.PartitionID, from metadata.Offset) []piece {
	c.mu.RLock()
	all := c.parts[p]
	c.mu.RUnlock()
	i, _ := slices.BinarySearchFunc(all, from, func(q piece, from metadata.Offset) int { return cmp.Compare(q.part.Start, from) })
	return all[i:]
}

// view returns the partition's record and the pending pieces beyond its manifest, as they were together: a swap that comes in
// between would be followed by the removal of pieces.
func (c *Catalog) view(p metadata.PartitionID) (*metadata.Partition, []piece, error) {
	q, ok := c.o.Partitions.Partition(p)
	for ok {
		pieces := c.pieces(p, q.Manifest.End)
		var again *metadata.Partition
		if again, ok = c.o.Partitions.Partition(p); ok && again.Manifest.Generation == q.Manifest.Generation {
			return again, pieces, nil
		}
		q = again
	}
	return nil, nil, fmt.Errorf("%v: %w", p, ErrUnknownPartition)
}

// End is one past the last committed offset of p, without I/O; 0 for a partition without data.
func (c *Catalog) End(p metadata.PartitionID) metadata.Offset {
	q, pieces, err := c.view(p)
	switch {
	case err != nil:
		return 0
	case len(pieces) > 0:
		return pieces[len(pieces)-1].part.End
	}
	return q.Manifest.End
}

// State is the partition as object store and etcd have it, for opening it. It costs one request where the partition has a
// manifest, and none otherwise.
func (c *Catalog) State(ctx context.Context, p metadata.PartitionID) (LogState, error) {
	q, pieces, err := c.view(p)
	if err != nil {
		return LogState{}, err
	}
	m, err := c.manifest(ctx, p, q.Manifest)
	if err != nil {
		return LogState{}, err
	}
	s := LogState{Start: q.LogStart, End: m.End, Producers: &producers.State{}, Epochs: slices.Clone(m.Epochs),
		MaxTimestampMs: m.MaxTimestampMs(), SizeBytes: m.SizeBytes()}
	if len(m.Producers) > 0 {
		if s.Producers, err = producers.Decode(m.Producers); err != nil {
			return LogState{}, fmt.Errorf("%w: manifest of %v: %w", ErrCorrupt, p, err)
		}
	}
	for _, piece := range pieces {
		part := piece.part
		if part.Start != s.End {
			return LogState{}, fmt.Errorf("%w: %v: offsets [%d, %d) are missing", ErrCorrupt, p, s.End, part.Start)
		}
		if len(part.Producers) > 0 {
			delta, err := producers.Decode(part.Producers)
			if err != nil {
				return LogState{}, fmt.Errorf("%w: %s: %v: %w", ErrCorrupt, piece.object.record.Key, p, err)
			}
			s.Producers.Merge(delta)
		}
		for i := range part.Blocks {
			s.Epochs = manifest.AppendEpoch(s.Epochs, part.Blocks[i].LeaderEpoch, part.Blocks[i].BaseOffset)
		}
		s.End = part.End
		s.MaxTimestampMs = max(s.MaxTimestampMs, part.MaxTimestampMs())
		s.SizeBytes += part.SizeBytes()
	}
	return s, nil
}

// SizeBytes is the size of the partition's committed data, with at most one request.
func (c *Catalog) SizeBytes(ctx context.Context, p metadata.PartitionID) (int64, error) {
	q, pieces, err := c.view(p)
	if err != nil {
		return 0, err
	}
	m, err := c.manifest(ctx, p, q.Manifest)
	if err != nil {
		return 0, err
	}
	n := m.SizeBytes()
	for _, piece := range pieces {
		n += piece.part.SizeBytes()
	}
	return n, nil
}

// manifest returns the manifest that ref points at. It must not be changed.
func (c *Catalog) manifest(ctx context.Context, p metadata.PartitionID, ref metadata.ManifestRef) (*manifest.Manifest, error) {
	if ref.Key == "" {
		return &manifest.Manifest{Partition: p, Generation: ref.Generation, End: ref.End}, nil
	}
	return c.manifests.get(ctx, manifestKey{p, ref.Generation, ref.Key}, func(ctx context.Context) (*manifest.Manifest, int64, error) {
		at, err := manifest.DecodeRef(c.o.Cluster, ref)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %v: %w", ErrCorrupt, p, err)
		}
		b := make([]byte, at.Length)
		if err := getRange(ctx, c.o.Store, at.Object.Key(c.o.Cluster), b, at.Position); err != nil {
			return nil, 0, fmt.Errorf("manifest of %v: %w", p, err)
		}
		m, err := decodeManifest(b, p, ref)
		if err != nil {
			return nil, 0, err
		}
		return m, manifestBytes(m), nil
	})
}

// remember puts a manifest that has just been published into the cache in place of the one before.
func (c *Catalog) remember(p metadata.PartitionID, old, ref metadata.ManifestRef, m *manifest.Manifest) {
	c.manifests.drop(manifestKey{p, old.Generation, old.Key})
	c.manifests.put(manifestKey{p, ref.Generation, ref.Key}, m, manifestBytes(m))
}

func manifestBytes(m *manifest.Manifest) int64 {
	return 200 + segmentsBytes(m.Segments) + int64(len(m.Children))*120 + int64(len(m.Epochs))*16 + int64(len(m.Producers))
}

func segmentsBytes(segments []manifest.Segment) int64 {
	n := int64(len(segments)) * 144
	for i := range segments {
		n += int64(len(segments[i].Blocks)) * 48
	}
	return n
}

// child returns the segments of a child. They must not be changed.
func (c *Catalog) child(ctx context.Context, p metadata.PartitionID, child *manifest.Child) ([]manifest.Segment, error) {
	return c.children.get(ctx, childKey{child.Object, child.Position}, func(ctx context.Context) ([]manifest.Segment, int64, error) {
		b := make([]byte, child.Length)
		key := child.Object.Key(c.o.Cluster)
		if err := getRange(ctx, c.o.Store, key, b, child.Position); err != nil {
			return nil, 0, fmt.Errorf("manifest of %v: %w", p, err)
		}
		if got := crcOf(b); got != child.CRC {
			return nil, 0, fmt.Errorf("%w: %s: CRC %08x, want %08x", ErrCorrupt, key, got, child.CRC)
		}
		owner, segments, err := manifest.DecodeChild(b)
		if err == nil && owner != p {
			err = fmt.Errorf("it is of %v", owner)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %s: child of %v: %w", ErrCorrupt, key, p, err)
		}
		return segments, segmentsBytes(segments), nil
	})
}

// index returns the index of an absorbed object.
func (c *Catalog) index(ctx context.Context, s *manifest.Segment) (*segment.Index, error) {
	return c.indexes.get(ctx, s.Object, func(ctx context.Context) (*segment.Index, int64, error) {
		key := s.Object.Key(c.o.Cluster)
		x, f, err := readIndex(ctx, c.o.Store, key, s.IndexAt, s.ObjectBytes())
		if err == nil && f.IndexCRC != s.IndexCRC {
			err = fmt.Errorf("%w: %s: index CRC %08x, manifest says %08x", ErrCorrupt, key, f.IndexCRC, s.IndexCRC)
		}
		if err != nil {
			return nil, 0, err
		}
		return x, indexBytes(x), nil
	})
}
