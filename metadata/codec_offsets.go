package metadata

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

// offsetBucketPartitions is how many consecutive partitions of a topic share one value of a group's offsets.
const offsetBucketPartitions = 256

// bucketOffset is one entry of a bucket; partition counts within it.
type bucketOffset struct {
	partition uint8
	CommittedOffset
}

// appendBucket encodes entries sorted by partition. Commit times are relative to the newest, which keeps them short.
func appendBucket(b []byte, entries []bucketOffset) []byte {
	var newest int64
	for _, e := range entries {
		newest = max(newest, e.CommitMillis)
	}
	b = append(b, kindOffsets, codecVersion)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	b = binary.AppendUvarint(b, uint64(newest))
	for _, e := range entries {
		b = append(b, e.partition)
		b = binary.AppendUvarint(b, uint64(e.Offset))
		b = binary.AppendUvarint(b, uint64(e.LeaderEpoch+1))
		b = binary.AppendUvarint(b, uint64(newest-e.CommitMillis))
		b = binary.AppendUvarint(b, uint64(e.ExpireMillis))
		b = appendString(b, e.Metadata)
	}
	return b
}

// decodeBucket returns the entries sorted by partition.
func decodeBucket(b []byte) ([]bucketOffset, error) {
	d := newDecoder(b, kindOffsets)
	n := int(d.uint("count", offsetBucketPartitions))
	newest := d.uint("newest commit time", math.MaxInt64)
	entries := make([]bucketOffset, 0, n)
	for range n {
		var e bucketOffset
		e.partition = d.byte("partition")
		e.Offset = Offset(d.uint("offset", math.MaxInt64))
		e.LeaderEpoch = LeaderEpoch(int64(d.uint("leader epoch", math.MaxInt32)) - 1)
		e.CommitMillis = int64(newest - d.uint("commit time", newest))
		e.ExpireMillis = int64(d.uint("expiry time", math.MaxInt64))
		e.Metadata = d.string("metadata", MaxOffsetMetaBytes)
		if k := len(entries); d.err == nil && k > 0 && entries[k-1].partition >= e.partition {
			d.fail("partition %d follows %d", e.partition, entries[k-1].partition)
		}
		if d.err != nil {
			return nil, d.err
		}
		entries = append(entries, e)
	}
	return entries, d.done()
}

// normalise checks an offset and brings absent values to the form in which they are stored.
func (o CommittedOffset) normalise() (CommittedOffset, error) {
	if o.Offset < 0 || o.LeaderEpoch == math.MaxInt32 || o.CommitMillis < 0 || len(o.Metadata) > MaxOffsetMetaBytes {
		return o, fmt.Errorf("%w: committed offset %d, epoch %d, commit time %d, metadata of %d bytes",
			ErrInvalid, o.Offset, o.LeaderEpoch, o.CommitMillis, len(o.Metadata))
	}
	o.LeaderEpoch = max(o.LeaderEpoch, -1)
	o.ExpireMillis = max(o.ExpireMillis, 0)
	return o, nil
}

// mergeBucket returns the entries with changes applied: a nil change deletes.
func mergeBucket(entries []bucketOffset, changes map[uint8]*CommittedOffset) []bucketOffset {
	out := make([]bucketOffset, 0, len(entries)+len(changes))
	keys := slices.Sorted(maps.Keys(changes))
	for _, e := range entries {
		for len(keys) > 0 && keys[0] < e.partition {
			out = appendChange(out, keys[0], changes[keys[0]])
			keys = keys[1:]
		}
		if len(keys) > 0 && keys[0] == e.partition {
			out = appendChange(out, keys[0], changes[keys[0]])
			keys = keys[1:]
			continue
		}
		out = append(out, e)
	}
	for _, k := range keys {
		out = appendChange(out, k, changes[k])
	}
	return out
}

func appendChange(out []bucketOffset, partition uint8, o *CommittedOffset) []bucketOffset {
	if o == nil {
		return out
	}
	return append(out, bucketOffset{partition, *o})
}
