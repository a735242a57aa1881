package tiering

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// divide gives each partition its place in one of the seal's objects.
func (u *Uploader) divide(out *seal, parts []*sealPart) error {
	var shared, single []*sealPart
	for _, p := range parts {
		if p.bytes == 0 {
			continue
		}
		p.finish()
		out.ranges = append(out.ranges, Range{Partition: p.part.Partition, Start: p.part.Start, End: p.part.End, SizeBytes: p.bytes, MaxTimestampMs: p.maxTs})
		if p.bytes >= u.o.SingleBytes {
			single = append(single, p)
		} else {
			shared = append(shared, p)
		}
	}
	if len(shared) == 1 {
		// Nothing is shared with nobody: as a single object it need not be looked through when its partition drops it.
		single, shared = append(single, shared...), nil
	}
	if len(single) > maxSingles {
		slices.SortFunc(single, func(a, b *sealPart) int { return cmp.Compare(b.bytes, a.bytes) })
		shared, single = append(shared, single[maxSingles:]...), single[:maxSingles]
	}
	if len(shared) > 0 {
		if err := u.allot(out, segment.Shared, shared); err != nil {
			return err
		}
	}
	for _, p := range single {
		if err := u.allot(out, segment.Single, []*sealPart{p}); err != nil {
			return err
		}
	}
	return nil
}

// allot adds an object with the given parts to the seal.
func (u *Uploader) allot(out *seal, kind segment.Kind, from []*sealPart) error {
	slices.SortFunc(from, func(a, b *sealPart) int { return segment.Compare(a.part.Partition, b.part.Partition) })
	o := &sealed{kind: kind, parts: make([]segment.Part, len(from)), from: from}
	for i, p := range from {
		o.parts[i] = p.part
	}
	u.nextSeq++
	id := segment.ID{Kind: o.kind, Epoch: uint64(u.o.StreamID), Seq: u.nextSeq, Nonce: rand.Uint64()}
	layout, err := segment.Plan(segment.Header{ID: id, Cluster: u.o.Catalog.o.Cluster, Stream: u.o.StreamID.String(),
		From: uint64(out.from), To: uint64(out.to), Created: u.now().UnixMilli()}, o.parts)
	if err != nil {
		return err
	}
	o.layout, o.key, o.end = layout, id.Key(u.o.Catalog.o.Cluster), layout.Footer.IndexAt
	for i, p := range from {
		p.object, p.blocks, p.at = o, o.parts[i].Blocks, o.parts[i].Blocks[0].Position
	}
	out.objects = append(out.objects, o)
	return nil
}
