package tiering

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/directory"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/wal"
)

// fixedPartitions is metadata without etcd.
type fixedPartitions map[metadata.PartitionID]*metadata.Partition

func (f fixedPartitions) Partition(p metadata.PartitionID) (*metadata.Partition, bool) {
	q, ok := f[p]
	return q, ok
}

// acceptAll commits without etcd.
type acceptAll struct{}

func (acceptAll) CommitObjects(context.Context, metadata.StreamID, metadata.Revision, []metadata.PendingObject) error {
	return nil
}
func (acceptAll) PendingObjects(context.Context) ([]metadata.PendingObject, error) { return nil, nil }

// repeating is a dead stream in which batch copies follow each other; it makes entries as they are asked for.
type repeating struct {
	data    []byte // one entry; its batch holds records records
	records int64
	parts   []metadata.PartitionID
	entries int
}

func (r *repeating) end() wal.Position { return wal.Position(r.entries * len(r.data)) }

func (r *repeating) Scan(ctx context.Context, from, to wal.Position, fn func(wal.Entry) error) error {
	n := len(r.data)
	for i := int(from) / n; i*n < int(to); i++ {
		entry.Put(r.data, entry.Header{Partition: r.parts[i%len(r.parts)]})
		batch.PutBaseOffset(r.data[entry.HeaderBytes:], int64(i/len(r.parts))*r.records)
		if err := fn(wal.Entry{Pos: wal.Position(i * n), Next: wal.Position((i + 1) * n), Data: r.data}); err != nil {
			return err
		}
	}
	return nil
}

func newRepeating(tb testing.TB, parts, batchBytes int, totalBytes int) (*repeating, fixedPartitions) {
	b := batch.Builder{}
	rng := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 1000)
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	for n := 0; n < batchBytes; n += 1010 {
		b.Add(1, nil, value)
	}
	bytes, err := b.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	r := &repeating{data: append(make([]byte, entry.HeaderBytes), bytes...), records: int64(b.Count())}
	meta := fixedPartitions{}
	for i := range parts {
		id := metadata.PartitionID{Topic: metadata.TopicID{1}, Partition: int32(i)}
		r.parts = append(r.parts, id)
		meta[id] = &metadata.Partition{ID: id}
	}
	r.entries = max(totalBytes/len(r.data), parts) / parts * parts
	return r, meta
}

func benchCatalog(tb testing.TB, store objectstore.Store, r *repeating, meta fixedPartitions) *Catalog {
	c := NewCatalog(CatalogOptions{Store: store, Partitions: meta, Cluster: "AAAAAAAAAAAAAAAAAAAAAA"})
	if err := DrainRecovered(context.Background(), r, r.end(), UploaderOptions{StreamID: 1, Catalog: c, Store: store, Meta: acceptAll{}}); err != nil {
		tb.Fatal(err)
	}
	return c
}

// BenchmarkCatchUp replays partitions that were never read before, 1 MiB at a time, with a cache much smaller than the data.
func BenchmarkCatchUp(b *testing.B) {
	stores := map[string]func(b *testing.B) objectstore.Store{
		"memory": func(*testing.B) objectstore.Store { return memory.New() },
		"directory": func(b *testing.B) objectstore.Store {
			s, err := directory.New(directory.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			return s
		},
	}
	for name, open := range stores {
		for _, c := range []struct {
			name              string
			parts, batchBytes int
		}{{"1x1MiB", 1, 1 << 20}, {"12x64KiB", 12, 64 << 10}, {"1x1KiB", 1, 1010}} {
			b.Run(name+"/"+c.name, func(b *testing.B) {
				const total = 512 << 20
				r, meta := newRepeating(b, c.parts, c.batchBytes, total)
				catalog := benchCatalog(b, open(b), r, meta)
				defer catalog.Close()
				b.SetBytes(int64(r.entries) * int64(len(r.data)-entry.HeaderBytes))
				b.ResetTimer()
				for b.Loop() {
					reader := NewReader(catalog, ReaderOptions{CacheBytes: 64 << 20})
					benchReplay(b, reader, r.parts, catalog.End(r.parts[0]))
					reader.Close()
				}
			})
		}
	}
}

func benchReplay(b *testing.B, reader *Reader, parts []metadata.PartitionID, end metadata.Offset) {
	for at := make([]metadata.Offset, len(parts)); at[0] < end; {
		for i, p := range parts {
			if at[i] >= end {
				continue
			}
			c, err := reader.Read(context.Background(), p, at[i], 1<<20)
			if err != nil {
				b.Fatal(err)
			}
			at[i] = c.Next
			c.Release()
		}
	}
}

// BenchmarkUpload seals and puts into memory: what the broker pays for uploading, but for the store's client.
func BenchmarkUpload(b *testing.B) {
	for _, c := range []struct {
		name              string
		parts, batchBytes int
	}{{"1x1MiB", 1, 1 << 20}, {"12x64KiB", 12, 64 << 10}, {"200x1KiB", 200, 1010}} {
		b.Run(c.name, func(b *testing.B) {
			r, meta := newRepeating(b, c.parts, c.batchBytes, 512<<20)
			b.SetBytes(int64(r.end()))
			for b.Loop() {
				benchCatalog(b, discard{}, r, meta).Close()
			}
		})
	}
}

// discard reads bodies as a client would, and forgets them.
type discard struct{ objectstore.Store }

func (discard) Put(_ context.Context, _ string, body objectstore.Body, _ objectstore.PutOptions) error {
	p := make([]byte, 256<<10)
	for at := int64(0); at < body.Size(); at += int64(len(p)) {
		if _, err := body.ReadAt(p, at); err != nil && at+int64(len(p)) < body.Size() {
			return err
		}
	}
	return nil
}

func (acceptAll) SkipTo(context.Context, metadata.StreamID, metadata.Revision, uint64) error {
	return nil
}
