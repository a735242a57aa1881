package tiering

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

const (
	// preloadGapBytes is how much that is not wanted a request for manifests may bring between what is.
	preloadGapBytes = 64 << 10
	// preloadRunBytes bounds one request.
	preloadRunBytes = 4 << 20
	preloadParallel = 8
	// decodedFactor is how much memory a decoded manifest takes at most per byte of its encoding.
	decodedFactor = 4
)

// manifestWant is a manifest that is not in the cache.
type manifestWant struct {
	partition metadata.PartitionID
	ref       metadata.ManifestRef
	at        manifest.Ref
}

// Preload brings the manifests of the first partitions of ids into the cache, as many as it can hold beside others, and returns how
// many of ids that is (at least one). Manifests are stored many to an object, mostly in the order of partitions: what
// would be a request each is a request per few MiB. ids should be sorted. What cannot be read is left to whoever asks for it; only ctx
// is an error.
func (c *Catalog) Preload(ctx context.Context, ids []metadata.PartitionID) (int, error) {
	wants, n := c.missingManifests(ids)
	if len(wants) < 2 {
		return n, nil
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(preloadParallel)
	for _, run := range manifestRuns(wants) {
		g.Go(func() error {
			if err := c.preloadRun(gctx, run); err != nil && ctx.Err() == nil {
				c.o.Logger.Debug("manifests cannot be read together; each is read by itself", "manifests", len(run), "error", err)
			}
			return context.Cause(ctx)
		})
	}
	return n, g.Wait()
}

// missingManifests returns the manifests that the first n of ids lack in the cache.
func (c *Catalog) missingManifests(ids []metadata.PartitionID) (wants []manifestWant, n int) {
	budget := c.manifests.maxBytes / 2
	for _, id := range ids {
		q, ok := c.o.Partitions.Partition(id)
		if ok && q.Manifest.Key != "" && !c.manifests.has(manifestKey{id, q.Manifest.Generation, q.Manifest.Key}) {
			if budget -= q.Manifest.SizeBytes * decodedFactor; budget < 0 && n > 0 {
				break
			}
			// A pointer that cannot be decoded is reported by whoever needs it.
			if at, err := manifest.DecodeRef(c.o.Cluster, q.Manifest); err == nil {
				wants = append(wants, manifestWant{id, q.Manifest, at})
			}
		}
		n++
	}
	return wants, n
}

// manifestRuns divides wants into requests: one for those that are near each other in their object.
func manifestRuns(wants []manifestWant) [][]manifestWant {
	slices.SortFunc(wants, func(a, b manifestWant) int {
		x, y := &a.at.Object, &b.at.Object
		return cmp.Or(cmp.Compare(x.Epoch, y.Epoch), cmp.Compare(x.Seq, y.Seq), cmp.Compare(x.Nonce, y.Nonce), cmp.Compare(a.at.Position, b.at.Position))
	})
	var runs [][]manifestWant
	for i := 0; i < len(wants); {
		first := &wants[i].at
		j, end := i+1, first.Position+first.Length
		for j < len(wants) && wants[j].at.Object == first.Object && wants[j].at.Position-end <= preloadGapBytes &&
			wants[j].at.Position+wants[j].at.Length-first.Position <= preloadRunBytes {
			end = wants[j].at.Position + wants[j].at.Length
			j++
		}
		runs = append(runs, wants[i:j])
		i = j
	}
	return runs
}

// preloadRun reads the manifests of one request into the cache.
func (c *Catalog) preloadRun(ctx context.Context, run []manifestWant) error {
	first, last := &run[0].at, &run[len(run)-1].at
	b := make([]byte, last.Position+last.Length-first.Position)
	if err := getRange(ctx, c.o.Store, first.Object.Key(c.o.Cluster), b, first.Position); err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	for i := range run {
		w := &run[i]
		from := w.at.Position - first.Position
		m, err := decodeManifest(b[from:from+w.at.Length], w.partition, w.ref)
		if err != nil {
			return err
		}
		m.Producers = slices.Clone(m.Producers) // not to keep all of b
		c.manifests.put(manifestKey{w.partition, w.ref.Generation, w.ref.Key}, m, manifestBytes(m))
	}
	return nil
}

// decodeManifest decodes what ref points at.
func decodeManifest(b []byte, p metadata.PartitionID, ref metadata.ManifestRef) (*manifest.Manifest, error) {
	m, err := manifest.Decode(b)
	if err == nil && (m.Partition != p || m.Generation != ref.Generation || m.End != ref.End) {
		err = fmt.Errorf("it is of %v, generation %d, end %d", m.Partition, m.Generation, m.End)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: manifest of %v generation %d at %s: %w", ErrCorrupt, p, ref.Generation, ref.Key, err)
	}
	return m, nil
}

// preloader brings the manifests that a step of maintenance will look at into the cache, a stretch of partitions at a time.
type preloader struct {
	m      *Maintainer
	owned  []Owned
	needed func(Owned) bool
	loaded int // of owned
}

func (m *Maintainer) preloader(owned []Owned, needed func(Owned) bool) preloader {
	return preloader{m: m, owned: owned, needed: needed}
}

// upTo sees to it that what partition i needs has been asked for. The error is ctx's.
func (p *preloader) upTo(ctx context.Context, i int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if i < p.loaded {
		return nil
	}
	var ids []metadata.PartitionID
	var at []int
	for j := i; j < len(p.owned) && len(ids) < absorbBatch; j++ {
		if p.needed(p.owned[j]) {
			ids, at = append(ids, p.owned[j].Partition), append(at, j)
		}
	}
	n, err := p.m.catalog.Preload(ctx, ids)
	switch {
	case len(ids) == 0:
		p.loaded = len(p.owned)
	case n < len(ids):
		p.loaded = at[n]
	default:
		p.loaded = at[n-1] + 1
	}
	return err
}

// owned returns the partitions of this broker in the order in which objects hold them.
func (m *Maintainer) owned() []Owned {
	owned := m.o.Owner.Owned()
	slices.SortFunc(owned, func(a, b Owned) int { return segment.Compare(a.Partition, b.Partition) })
	return owned
}

// known returns the outlook of the partition's present manifest, if there is one.
func (m *Maintainer) known(p metadata.PartitionID) (o outlook, q *metadata.Partition, pieces []piece, known bool) {
	q, pieces, err := m.catalog.view(p)
	if err != nil {
		return outlook{}, nil, nil, false
	}
	o, ok := m.outlooks[p]
	return o, q, pieces, ok && o.generation == q.Manifest.Generation
}

// mayRetain, mayAbsorb and mayMerge tell which partitions' manifests a step will load; to be wrong costs a request.
func (m *Maintainer) mayRetain(o Owned) bool {
	_, _, _, known := m.known(o.Partition)
	return !known && (o.RetentionMs >= 0 || o.RetentionBytes >= 0)
}

func (m *Maintainer) mayAbsorb(o Owned) bool {
	look, q, pieces, known := m.known(o.Partition)
	return q != nil && (!known || len(pieces) > 0 || !look.empty && look.firstEnd <= q.LogStart)
}

func (m *Maintainer) mayMerge(o Owned) bool {
	look, q, _, known := m.known(o.Partition)
	return q != nil && (!known || look.mergeable)
}
