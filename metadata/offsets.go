package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// offsetCache keeps the last known buckets, so that a commit is one transaction. What is not in it, or is stale, costs
// another one. Guarded by Store.mu.
type offsetCache struct {
	buckets map[string]cachedBucket
	size    int64
	limit   int64
}

type cachedBucket struct {
	entries  []bucketOffset // immutable
	revision int64          // 0: the key is absent
	bytes    int64
}

func (c *offsetCache) put(key string, b cachedBucket) {
	b.bytes = int64(len(key)) + 100
	for _, e := range b.entries {
		b.bytes += 64 + int64(len(e.Metadata))
	}
	c.size += b.bytes - c.buckets[key].bytes
	c.buckets[key] = b
	for old, v := range c.buckets { // in random order
		if c.size <= c.limit {
			break
		}
		delete(c.buckets, old)
		c.size -= v.bytes
	}
}

// bucketChange is what a call changes in one bucket.
type bucketChange struct {
	key     string
	fences  []Fence                    // one at most
	changes map[uint8]*CommittedOffset // nil deletes
	items   []int                      // of the caller's slice
	before  *cachedBucket              // what the change is applied to; nil: whatever the cache has
	entries []bucketOffset             // as last put into a transaction
}

// LoadOffsets reads all offsets of a group.
func (s *Store) LoadOffsets(ctx context.Context, group string) ([]GroupOffsets, error) {
	start := s.keys.groupOffsets(group)
	var out []GroupOffsets
	err := s.loadOffsets(ctx, start, kv.PrefixEnd(start), func() { out = nil }, func(o GroupOffsets) error {
		if n := len(out); n > 0 && out[n-1].Topic == o.Topic {
			maps.Copy(out[n-1].Partitions, o.Partitions)
		} else {
			out = append(out, o)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load offsets of group %q: %w", group, err)
	}
	return out, nil
}

// LoadAllOffsets calls fn for the offsets of every group, as of one revision; those of one group and topic may come in
// several calls. An error of fn ends the listing and is returned. fn may see offsets twice when the listing had to start again.
func (s *Store) LoadAllOffsets(ctx context.Context, fn func(GroupOffsets) error) error {
	start, end := s.keys.dir(dirOffsets)
	if err := s.loadOffsets(ctx, start, end, func() {}, fn); err != nil {
		return fmt.Errorf("load offsets: %w", err)
	}
	return nil
}

func (s *Store) loadOffsets(ctx context.Context, start, end string, begin func(), fn func(GroupOffsets) error) error {
	dir, _ := s.keys.dir(dirOffsets)
	_, err := s.scan(ctx, start, end, groupPage, begin, func(p kv.Pair) error {
		group, topic, bucket, err := parseOffsets(p.Key[len(dir):])
		if err != nil {
			return err
		}
		entries, err := decodeBucket(p.Value)
		if err != nil {
			return fmt.Errorf("metadata key %s: %w", p.Key, err)
		}
		s.rememberBucket(p.Key, entries, p.ModRevision)
		o := GroupOffsets{Group: group, Topic: topic, Partitions: make(map[int32]CommittedOffset, len(entries))}
		for _, e := range entries {
			o.Partitions[bucket*offsetBucketPartitions+int32(e.partition)] = e.CommittedOffset
		}
		return fn(o)
	})
	return err
}

func (s *Store) rememberBucket(key string, entries []bucketOffset, rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev == 0 || rev >= s.offsets.buckets[key].revision {
		s.offsets.put(key, cachedBucket{entries: entries, revision: rev})
	}
}

// CommitOffsets stores offsets of any number of groups, in as few transactions as fit, several at a time. Other offsets of the
// same groups stay. A group's offsets are written by its coordinator alone; a second writer loses nothing, but the last one
// wins. Repeating a call does no harm. Offsets of one item are stored together if they fit one transaction; items fail by
// themselves. Errors: *PartialError by index.
func (s *Store) CommitOffsets(ctx context.Context, offsets []GroupOffsets) error {
	return s.commitOffsets(ctx, nil, offsets)
}

func (s *Store) commitOffsets(ctx context.Context, fenceOf func(string) Fence, offsets []GroupOffsets) error {
	failed := map[int]error{}
	var list changeList
	for i, o := range offsets {
		changes := make(map[int32]*CommittedOffset, len(o.Partitions))
		err := validateGroup(o.Group)
		for partition, c := range o.Partitions {
			if partition < 0 || partition >= MaxTopicPartitions {
				err = fmt.Errorf("%w: partition %d", ErrInvalid, partition)
			}
			c, bad := c.normalise()
			if bad != nil {
				err = bad
			}
			changes[partition] = &c
		}
		if err != nil {
			failed[i] = fmt.Errorf("group %q: %w", o.Group, err)
			continue
		}
		fences, err := fencesOf(fenceOf, o.Group)
		if err != nil {
			failed[i] = fmt.Errorf("group %q: %w", o.Group, err)
			continue
		}
		list.add(s, i, fences, o.Group, o.Topic, changes)
	}
	s.changeBuckets(ctx, list.changes, failed)
	if err := partial(failed); err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	return nil
}

// DeleteOffsets removes offsets of any number of groups; those that are not there are no error. Errors: *PartialError by
// index.
func (s *Store) DeleteOffsets(ctx context.Context, deletions []GroupPartitions) error {
	return s.deleteOffsets(ctx, nil, deletions)
}

func (s *Store) deleteOffsets(ctx context.Context, fenceOf func(string) Fence, deletions []GroupPartitions) error {
	failed := map[int]error{}
	var list changeList
	for i, d := range deletions {
		changes := make(map[int32]*CommittedOffset, len(d.Partitions))
		err := validateGroup(d.Group)
		for _, partition := range d.Partitions {
			if partition < 0 || partition >= MaxTopicPartitions {
				err = fmt.Errorf("%w: partition %d", ErrInvalid, partition)
			}
			changes[partition] = nil
		}
		if err != nil {
			failed[i] = fmt.Errorf("group %q: %w", d.Group, err)
			continue
		}
		fences, err := fencesOf(fenceOf, d.Group)
		if err != nil {
			failed[i] = fmt.Errorf("group %q: %w", d.Group, err)
			continue
		}
		list.add(s, i, fences, d.Group, d.Topic, changes)
	}
	s.changeBuckets(ctx, list.changes, failed)
	if err := partial(failed); err != nil {
		return fmt.Errorf("delete offsets: %w", err)
	}
	return nil
}

// changeList gathers the changes of a call by bucket, in the order of the first mention.
type changeList struct {
	changes []*bucketChange
	byKey   map[string]*bucketChange
}

func (l *changeList) add(s *Store, item int, fences []Fence, group string, topic TopicID, changes map[int32]*CommittedOffset) {
	if l.byKey == nil {
		l.byKey = map[string]*bucketChange{}
	}
	var key string
	last := int32(-1)
	for _, partition := range slices.Sorted(maps.Keys(changes)) {
		if bucket := partition / offsetBucketPartitions; bucket != last {
			key, last = s.keys.offsets(group, topic, bucket), bucket
		}
		c := l.byKey[key]
		if c == nil {
			c = &bucketChange{key: key, fences: fences, changes: map[uint8]*CommittedOffset{}}
			l.byKey[key] = c
			l.changes = append(l.changes, c)
		}
		c.changes[uint8(partition%offsetBucketPartitions)] = changes[partition]
		if n := len(c.items); n == 0 || c.items[n-1] != item {
			c.items = append(c.items, item)
		}
	}
}

// changeBuckets performs the changes in chunks, and notes the items that failed.
func (s *Store) changeBuckets(ctx context.Context, changes []*bucketChange, failed map[int]error) {
	var mu sync.Mutex
	fail := func(c *bucketChange, err error) {
		mu.Lock()
		defer mu.Unlock()
		for _, i := range c.items {
			failed[i] = err
		}
	}
	var group errgroup.Group
	group.SetLimit(chunksInFlight)
	for len(changes) > 0 {
		chunk := changes[:fitting(changes)]
		changes = changes[len(chunk):]
		group.Go(func() error {
			s.changeChunk(ctx, slices.Clone(chunk), fail)
			return nil
		})
	}
	_ = group.Wait() // failures are noted by item
}

// fitting is how many of the changes one transaction can compare, each with its key and its fence.
func fitting(changes []*bucketChange) int {
	fences := map[Fence]struct{}{}
	for i, c := range changes {
		for _, f := range c.fences {
			fences[f] = struct{}{}
		}
		if i+1+len(fences) > chunkOps {
			return max(i, 1)
		}
	}
	return len(changes)
}

// maxOffsetTxnBytes leaves room in a transaction for keys and comparisons.
const maxOffsetTxnBytes = kv.MaxTxnBytes - 128<<10

// changeChunk performs up to chunkOps changes. Those that do not fit one transaction take several.
func (s *Store) changeChunk(ctx context.Context, changes []*bucketChange, fail func(*bucketChange, error)) {
	for attempts := 0; len(changes) > 0; attempts++ {
		if attempts >= swapAttempts+len(changes) {
			for _, c := range changes {
				fail(c, ErrConflict)
			}
			return
		}
		t, now, later := s.offsetsTxn(changes, fail)
		if len(now) == 0 {
			changes = later
			continue
		}
		var fences []Fence
		for _, c := range now {
			for _, f := range c.fences {
				if !slices.Contains(fences, f) {
					fences = append(fences, f)
				}
			}
		}
		res, _, err := s.fencedTxn(ctx, fences, t)
		var fallen *fencedError
		if errors.As(err, &fallen) { // the groups of other shards are none the worse for it
			changes = slices.DeleteFunc(append(now, later...), func(c *bucketChange) bool {
				lost := slices.ContainsFunc(c.fences, func(f Fence) bool { return slices.Contains(fallen.fences, f) })
				if lost {
					fail(c, fallen)
				}
				return lost
			})
			continue
		}
		if err != nil {
			if errors.Is(err, ErrUnavailable) {
				s.forgetBuckets(now)
			}
			for _, c := range append(now, later...) {
				fail(c, err)
			}
			return
		}
		if res.Succeeded {
			for _, c := range now {
				rev := res.Revision
				if len(c.entries) == 0 {
					rev = 0
				}
				s.rememberBucket(c.key, c.entries, rev)
			}
			changes = later
			continue
		}
		var bad []*bucketChange
		for i, c := range now {
			var entries []bucketOffset
			var rev int64
			if pairs := res.Gets[i]; len(pairs) == 1 {
				if entries, err = decodeBucket(pairs[0].Value); err != nil {
					fail(c, fmt.Errorf("metadata key %s: %w", c.key, err))
					bad = append(bad, c)
					continue
				}
				rev = pairs[0].ModRevision
			}
			c.before = &cachedBucket{entries: entries, revision: rev}
		}
		changes = slices.DeleteFunc(append(now, later...), func(c *bucketChange) bool { return slices.Contains(bad, c) })
	}
}

func (s *Store) forgetBuckets(changes []*bucketChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		s.offsets.size -= s.offsets.buckets[c.key].bytes
		delete(s.offsets.buckets, c.key)
	}
}

// offsetsTxn makes a transaction of as many changes as fit and returns them and the rest.
func (s *Store) offsetsTxn(changes []*bucketChange, fail func(*bucketChange, error)) (t kv.Txn, now, later []*bucketChange) {
	size := 0
	for i, c := range changes {
		if c.before == nil {
			s.mu.Lock()
			known := s.offsets.buckets[c.key]
			s.mu.Unlock()
			c.before = &known
		}
		c.entries = mergeBucket(c.before.entries, c.changes)
		op := kv.Delete(c.key)
		if len(c.entries) > 0 {
			op = kv.Put(c.key, appendBucket(nil, c.entries))
		}
		if len(op.Value) > MaxOffsetBucketBytes {
			fail(c, fmt.Errorf("%w: offsets of %d bytes in one value", ErrInvalid, len(op.Value)))
			continue
		}
		n := len(op.Value) + 3*len(c.key) + 64
		if size += n; size > maxOffsetTxnBytes && len(now) > 0 {
			return t, now, append(later, changes[i:]...)
		}
		t.If = append(t.If, kv.Unchanged(c.key, c.before.revision))
		t.Then = append(t.Then, op)
		t.Else = append(t.Else, kv.Get(c.key))
		now = append(now, c)
	}
	return t, now, later
}
