package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// VerifyOptions configure Verify.
type VerifyOptions struct {
	Store   objectstore.Store
	Meta    Keeper
	Cluster string
	// Deep reads every block and every batch in it. Otherwise only the objects' sizes, indexes and the lists are checked.
	Deep bool
	// Unnamed lists the bucket and reports what nothing names.
	Unnamed  bool
	Parallel int // partitions at once; default 16
}

// Report is what Verify found.
type Report struct {
	Partitions, Segments, Objects int
	SizeBytes                     int64 // of all segments
	Problems                      []string
	Unnamed                       []string // keys that nothing names: being deleted, being written, or orphans. No problem in themselves
}

// Verify checks the bucket against etcd: everything that is named is there, whole and of the right size; each partition's segments
// follow one another from its log start to its end, without gap or overlap. It may run beside live brokers. It returns an error
// only where it could not look; what is wrong is in the report.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	orDefault(&o.Parallel, 16)
	c := NewCatalog(CatalogOptions{Store: o.Store, Partitions: o.Meta, Cluster: o.Cluster})
	defer c.Close()
	v := &verifier{o: o, catalog: c, objects: map[segment.ID]*checkedObject{}}
	if err := v.loadPending(ctx); err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Parallel)
	for q := range o.Meta.All() {
		g.Go(func() error { return v.partition(gctx, q.ID) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	v.report.Objects = len(v.objects)
	if o.Unnamed {
		m := NewMaintainer(MaintainerOptions{Catalog: c, Meta: o.Meta})
		found, err := m.list(ctx, func(segment.ID) bool { return true })
		if err != nil {
			return nil, err
		}
		named, err := m.allNames(ctx)
		if err != nil {
			return nil, err
		}
		for _, id := range found {
			if !named[id] {
				v.report.Unnamed = append(v.report.Unnamed, id.Key(o.Cluster))
			}
		}
	}
	slices.Sort(v.report.Problems)
	return &v.report, nil
}

type verifier struct {
	o       VerifyOptions
	catalog *Catalog

	mu      sync.Mutex
	report  Report
	objects map[segment.ID]*checkedObject
}

// checkedObject is the answer for one object, found once.
type checkedObject struct {
	once  sync.Once
	index *segment.Index
	err   error
}

func (v *verifier) problem(format string, args ...any) {
	v.mu.Lock()
	v.report.Problems = append(v.report.Problems, fmt.Sprintf(format, args...))
	v.mu.Unlock()
}

func (v *verifier) loadPending(ctx context.Context) error {
	records, err := v.o.Meta.PendingObjects(ctx)
	if err != nil {
		return fmt.Errorf("list pending objects: %w", err)
	}
	for _, r := range records {
		p, err := v.catalog.readPending(ctx, r)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			v.problem("pending object %s: %v", r.Key, err)
		default:
			v.catalog.add([]*pendingObject{p})
		}
	}
	return nil
}

// partition checks one partition, again while its manifest is replaced under the check.
func (v *verifier) partition(ctx context.Context, id metadata.PartitionID) error {
	for {
		q, pieces, err := v.catalog.view(id)
		if errors.Is(err, ErrUnknownPartition) {
			return nil
		}
		if err != nil {
			return err
		}
		var found []string
		var segments int
		var size int64
		err = v.walk(ctx, q, pieces, func(s *manifest.Segment) {
			segments++
			size += s.SizeBytes
		}, func(format string, args ...any) {
			found = append(found, fmt.Sprintf("partition %v: ", id)+fmt.Sprintf(format, args...))
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			found = append(found, fmt.Sprintf("partition %v: %v", id, err))
		}
		if now, ok := v.o.Meta.Partition(id); len(found) > 0 && (!ok || now.Manifest.Generation != q.Manifest.Generation) {
			continue
		}
		v.mu.Lock()
		v.report.Partitions++
		v.report.Segments += segments
		v.report.SizeBytes += size
		v.report.Problems = append(v.report.Problems, found...)
		v.mu.Unlock()
		return nil
	}
}

func (v *verifier) walk(ctx context.Context, q *metadata.Partition, pieces []piece, count func(*manifest.Segment), problem func(string, ...any)) error {
	m, err := v.catalog.manifest(ctx, q.ID, q.Manifest)
	if err != nil {
		return err
	}
	var segments []manifest.Segment
	for i := range m.Children {
		more, err := v.catalog.child(ctx, q.ID, &m.Children[i])
		if err != nil {
			return err
		}
		segments = append(segments, more...)
	}
	segments = append(segments, m.Segments...)
	if n := len(segments); n > 0 && segments[n-1].End != m.End {
		problem("manifest ends at %d, its last segment at %d", m.End, segments[n-1].End)
	}
	for _, piece := range pieces {
		segments = append(segments, segmentOf(piece))
	}
	next := m.End
	if len(segments) > 0 {
		next = segments[0].Start
	}
	if next > q.LogStart {
		problem("log start is %d, the first segment begins at %d", q.LogStart, next)
	}
	for i := range segments {
		s := &segments[i]
		count(s)
		if s.Start != next {
			problem("segment [%d, %d) in %s follows offset %d", s.Start, s.End, s.Object.Key(v.o.Cluster), next)
		}
		next = s.End
		if err := v.segment(ctx, q.ID, s); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			problem("segment [%d, %d): %v", s.Start, s.End, err)
		}
	}
	return nil
}

// object checks that an object is there with the right size, header and index.
func (v *verifier) object(ctx context.Context, s *manifest.Segment) (*segment.Index, error) {
	v.mu.Lock()
	c := v.objects[s.Object]
	if c == nil {
		c = &checkedObject{}
		v.objects[s.Object] = c
	}
	v.mu.Unlock()
	c.once.Do(func() {
		key := s.Object.Key(v.o.Cluster)
		info, err := v.o.Store.Head(ctx, key)
		if err != nil {
			c.err = fmt.Errorf("%s: %w", key, err)
			return
		}
		if info.SizeBytes != s.ObjectBytes() {
			c.err = fmt.Errorf("%s has %d bytes, want %d", key, info.SizeBytes, s.ObjectBytes())
			return
		}
		head := make([]byte, segment.HeaderBytes)
		if c.err = getRange(ctx, v.o.Store, key, head, 0); c.err != nil {
			return
		}
		h, err := segment.DecodeHeader(head)
		if err == nil && (h.ID != s.Object || h.Cluster != v.o.Cluster) {
			err = fmt.Errorf("header is of %+v of cluster %s", h.ID, h.Cluster)
		}
		if err != nil {
			c.err = fmt.Errorf("%s: %w", key, err)
			return
		}
		c.index, c.err = v.catalog.index(ctx, s)
	})
	return c.index, c.err
}

func (v *verifier) segment(ctx context.Context, p metadata.PartitionID, s *manifest.Segment) error {
	x, err := v.object(ctx, s)
	if err != nil {
		return err
	}
	key := s.Object.Key(v.o.Cluster)
	part := x.Part(p)
	if part == nil || part.Start != s.Start || part.End != s.End {
		return fmt.Errorf("%s does not hold just these offsets of the partition", key)
	}
	if len(s.Blocks) > 0 && !slices.Equal(s.Blocks, part.Blocks) {
		return fmt.Errorf("%s: its index and the manifest list other blocks", key)
	}
	if part.SizeBytes() != s.SizeBytes || part.MaxTimestampMs() != s.MaxTimestampMs {
		return fmt.Errorf("%s: its index says %d bytes up to timestamp %d, the manifest %d and %d", key, part.SizeBytes(), part.MaxTimestampMs(), s.SizeBytes, s.MaxTimestampMs)
	}
	if !v.o.Deep {
		return nil
	}
	for i := range part.Blocks {
		if err := v.block(ctx, key, &part.Blocks[i]); err != nil {
			return err
		}
	}
	return nil
}

// block reads a block and checks its CRC, and each batch's CRC and place.
func (v *verifier) block(ctx context.Context, key string, b *segment.Block) error {
	data := make([]byte, b.Length)
	if err := getRange(ctx, v.o.Store, key, data, b.Position); err != nil {
		return err
	}
	if got := crcOf(data); got != b.CRC {
		return fmt.Errorf("%s: block at %d: CRC %08x, want %08x", key, b.Position, got, b.CRC)
	}
	next := b.BaseOffset
	for len(data) > 0 {
		h, err := batch.Parse(data)
		if err != nil {
			return fmt.Errorf("%s: block at %d: %w", key, b.Position, err)
		}
		one := data[:h.SizeBytes]
		if got := batch.Checksum(one); got != h.CRC {
			return fmt.Errorf("%s: batch at offset %d: CRC %08x, want %08x", key, h.BaseOffset, h.CRC, got)
		}
		if metadata.Offset(h.BaseOffset) < next || metadata.Offset(h.NextOffset()) > b.NextOffset {
			return fmt.Errorf("%s: batch [%d, %d) in block [%d, %d) after offset %d", key, h.BaseOffset, h.NextOffset(), b.BaseOffset, b.NextOffset, next)
		}
		next = metadata.Offset(h.NextOffset())
		data = data[h.SizeBytes:]
	}
	if next != b.NextOffset {
		return fmt.Errorf("%s: block [%d, %d) ends at %d", key, b.BaseOffset, b.NextOffset, next)
	}
	return nil
}
