package group

import (
	"context"
	"math"
	"slices"
	"time"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/metadata"
)

// Commit is an OffsetCommit request. Its topics and partitions are known to exist.
type Commit struct {
	Group      string
	MemberID   string
	InstanceID *string
	Generation int32 // -1: the committer is no member; of a consumer group: the member's epoch
	// Version is of the request: members of consumer groups have to use 9 or a later one.
	Version int16
	// RetentionMillis keeps the offsets for so long whatever the group does (v2–4); -1: the broker's retention.
	RetentionMillis int64
	// UnknownGroup is what a member of a group that is not there is told: GROUP_ID_NOT_FOUND from v9, before ILLEGAL_GENERATION.
	UnknownGroup *kerr.Error
	Topics       []CommitTopic
}

// CommitTopic is a topic in a Commit.
type CommitTopic struct {
	Topic      metadata.TopicID
	Partitions []CommitPartition
}

// CommitPartition is a partition in a Commit. The coordinator fills Err: nil once the offset is durable.
type CommitPartition struct {
	Partition   int32
	Offset      metadata.Offset
	LeaderEpoch metadata.LeaderEpoch
	Metadata    string
	Err         *kerr.Error
}

// TopicPartitions names partitions of a topic.
type TopicPartitions struct {
	Topic      metadata.TopicID
	Partitions []int32
}

// TopicOffsets are a group's offsets in a topic.
type TopicOffsets struct {
	Topic      metadata.TopicID
	Partitions []PartitionOffset
}

// PartitionOffset is a committed offset; Found is false, and Offset −1, when there is none.
type PartitionOffset struct {
	Partition int32
	Found     bool
	metadata.CommittedOffset
}

// Commit handles OffsetCommit: it blocks until the offsets are durable or known not to be, WriteTimeout has passed, or ctx is
// done, and fills in the partitions' errors. A commit that timed out may still take place.
func (c *Coordinator) Commit(ctx context.Context, r *Commit) {
	o, err := c.accept(r)
	if err == nil && o != nil {
		err = c.await(ctx, o)
	}
	for t := range r.Topics {
		for p := range r.Topics[t].Partitions {
			part := &r.Topics[t].Partitions[p]
			switch {
			case part.Err != nil: // refused by itself
			case err != nil:
				part.Err = err
			default:
				part.Err = o.topicError(r.Topics[t].Topic)
			}
		}
	}
}

// topicError is the error of the op's commits to a topic.
func (o *op) topicError(topic metadata.TopicID) *kerr.Error {
	for i := range o.commits {
		if o.commits[i].Topic == topic {
			return writeError(o.failed(i))
		}
	}
	return nil
}

// accept checks a commit and queues what is to be written of it: nil when nothing is.
func (c *Coordinator) accept(r *Commit) (*op, *kerr.Error) {
	if err := c.serving(r.Group); err != nil {
		return nil, err
	}
	if len(r.Group) > metadata.MaxGroupIDBytes { // the empty group id is allowed here, for old clients
		return nil, kerr.InvalidGroupID
	}
	o := c.commitOf(r)
	e, err := c.acquire(r.Group, r.Generation < 0)
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		return nil, r.UnknownGroup
	}
	defer c.release(e)
	if g, ok := e.core.(consumerGroup); ok {
		if err := g.checkCommit(r, o); err != nil {
			return nil, err
		}
	} else if err := e.core.CheckCommit(c.now(), r.MemberID, r.InstanceID, r.Generation); err != nil {
		return nil, err
	}
	if len(o.commits) == 0 {
		return nil, nil
	}
	return o, c.enqueue(e, o)
}

// commitOf refuses partitions with too much metadata and makes an operation of the rest.
func (c *Coordinator) commitOf(r *Commit) *op {
	now := time.Now().UnixMilli()
	expire := int64(-1)
	if r.RetentionMillis >= 0 {
		expire = now + min(r.RetentionMillis, math.MaxInt64-now)
	}
	o := &op{kind: commitOp}
	for t := range r.Topics {
		topic := &r.Topics[t]
		offsets := make(map[int32]metadata.CommittedOffset, len(topic.Partitions))
		for p := range topic.Partitions {
			part := &topic.Partitions[p]
			if part.Err = c.refuses(part); part.Err != nil {
				continue
			}
			offsets[part.Partition] = metadata.CommittedOffset{
				Offset: part.Offset, LeaderEpoch: part.LeaderEpoch, Metadata: part.Metadata, CommitMillis: now, ExpireMillis: expire,
			}
			o.bytes += offsetBytes + int64(len(part.Metadata))
		}
		if len(offsets) > 0 {
			o.commits = append(o.commits, metadata.GroupOffsets{Group: r.Group, Topic: topic.Topic, Partitions: offsets})
			o.bytes += int64(len(r.Group)) + offsetBytes
		}
	}
	return o
}

// refuses checks one offset. Kafka stores negative offsets, which no client means and which nobody could tell from none.
func (c *Coordinator) refuses(p *CommitPartition) *kerr.Error {
	switch {
	case len(p.Metadata) > metadata.MaxOffsetMetaBytes || tooLong(p.Metadata, c.opts.MetadataMaxChars):
		return kerr.OffsetMetadataTooLarge
	case p.Offset < 0 || p.LeaderEpoch == math.MaxInt32:
		return kerr.InvalidRequest
	}
	return nil
}

// offsetBytes is about what one queued offset takes in memory.
const offsetBytes = 96

// tooLong counts as Kafka does: in UTF-16 code units, of which a string never has more than bytes.
func tooLong(s string, maxChars int) bool {
	return len(s) > maxChars && len(utf16.Encode([]rune(s))) > maxChars
}

// enqueue queues an operation of a locked group.
func (c *Coordinator) enqueue(e *entry, o *op) *kerr.Error {
	o.e, o.done = e, make(chan struct{})
	if !c.queue.put(o) {
		if err := c.serving(e.id); err != nil {
			return err
		}
		return kerr.CoordinatorLoadInProgress
	}
	e.inFlight++
	e.shard.busy.Add(1)
	return nil
}

// await waits for the end of an operation. The error is not the operation's: it says that nobody waited for the end.
func (c *Coordinator) await(ctx context.Context, o *op) *kerr.Error {
	timeout := time.NewTimer(c.opts.WriteTimeout)
	defer timeout.Stop()
	select {
	case <-o.done:
		return nil
	case <-timeout.C:
		return kerr.CoordinatorNotAvailable
	case <-ctx.Done():
		return kerr.CoordinatorNotAvailable
	}
}

// do queues an operation of a locked group, unlocks it and waits.
func (c *Coordinator) do(ctx context.Context, e *entry, o *op) *kerr.Error {
	err := c.enqueue(e, o)
	c.release(e)
	if err == nil {
		err = c.await(ctx, o)
	}
	if err == nil {
		err = writeError(o.err())
	}
	return err
}

// FetchOffsets handles OffsetFetch for one group: the offsets of the topics asked for, in that order, or for nil of all topics that
// exist, in no order. A group that is not there has no offsets, without an error. With requireStable the answer waits for the
// commits that are under way (KIP-447).
func (c *Coordinator) FetchOffsets(ctx context.Context, group string, topics []TopicPartitions, requireStable bool) ([]TopicOffsets, *kerr.Error) {
	if err := c.serving(group); err != nil {
		return nil, err
	}
	e, err := c.settled(ctx, group, requireStable)
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		return missing(topics), nil
	}
	defer c.release(e)
	if topics == nil {
		return c.allOffsets(e), nil
	}
	out := missing(topics)
	for t := range out {
		of := e.offsets[out[t].Topic]
		for p := range out[t].Partitions {
			if offset, ok := of[out[t].Partitions[p].Partition]; ok {
				out[t].Partitions[p].Found, out[t].Partitions[p].CommittedOffset = true, offset
			}
		}
	}
	return out, nil
}

func missing(topics []TopicPartitions) []TopicOffsets {
	out := make([]TopicOffsets, len(topics))
	for t := range topics {
		out[t] = TopicOffsets{Topic: topics[t].Topic, Partitions: make([]PartitionOffset, len(topics[t].Partitions))}
		for i, p := range topics[t].Partitions {
			out[t].Partitions[i] = PartitionOffset{Partition: p, CommittedOffset: metadata.CommittedOffset{Offset: -1, LeaderEpoch: -1}}
		}
	}
	return out
}

func (c *Coordinator) allOffsets(e *entry) []TopicOffsets {
	var out []TopicOffsets
	for topic, of := range e.offsets {
		if _, ok := c.opts.TopicName(topic); !ok {
			continue // deleted; its offsets are on their way out
		}
		t := TopicOffsets{Topic: topic, Partitions: make([]PartitionOffset, 0, len(of))}
		for p, offset := range of {
			t.Partitions = append(t.Partitions, PartitionOffset{Partition: p, Found: true, CommittedOffset: offset})
		}
		slices.SortFunc(t.Partitions, func(a, b PartitionOffset) int { return int(a.Partition) - int(b.Partition) })
		out = append(out, t)
	}
	return out
}

// settled returns the group locked, its offsets in memory being those stored. nil when there is no such group.
func (c *Coordinator) settled(ctx context.Context, group string, stable bool) (*entry, *kerr.Error) {
	for range 3 {
		e, err := c.acquire(group, false)
		if e == nil {
			return nil, fetchError(err)
		}
		o := &op{kind: rereadOp}
		if !e.stale {
			if !stable || e.inFlight == 0 {
				return e, nil
			}
			o.kind = barrierOp
		}
		if err := c.do(ctx, e, o); err != nil {
			return nil, fetchError(err)
		}
		stable = false
	}
	return nil, kerr.NotCoordinator
}

// fetchError maps as Kafka does, whose older clients do not retry an OffsetFetch on COORDINATOR_NOT_AVAILABLE.
func fetchError(err *kerr.Error) *kerr.Error {
	if err == kerr.CoordinatorNotAvailable {
		return kerr.NotCoordinator
	}
	return err
}

// DeleteOffsets handles OffsetDelete. The errors stand in the order of the topics, nil where the offsets are gone; err is for the
// whole request.
func (c *Coordinator) DeleteOffsets(ctx context.Context, group string, topics []TopicPartitions) (errs []*kerr.Error, err *kerr.Error) {
	if err := c.serving(group); err != nil {
		return nil, err
	}
	if !validGroup(group) {
		return nil, kerr.InvalidGroupID
	}
	e, err := c.acquire(group, false)
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		return nil, kerr.GroupIDNotFound
	}
	if err := e.core.CheckOffsetDelete(); err != nil {
		c.release(e)
		return nil, err
	}
	o := &op{kind: deleteOp}
	errs = make([]*kerr.Error, len(topics))
	for i, t := range topics {
		if name, ok := c.opts.TopicName(t.Topic); ok && e.core.Subscribes(name) {
			errs[i] = kerr.GroupSubscribedToTopic
			continue
		}
		if len(t.Partitions) > 0 {
			o.deletes = append(o.deletes, metadata.GroupPartitions{Group: group, Topic: t.Topic, Partitions: t.Partitions})
		}
	}
	if len(o.deletes) == 0 {
		c.release(e)
		return errs, nil
	}
	o.bytes = offsetBytes
	if err := c.do(ctx, e, o); err != nil {
		return nil, err
	}
	c.metrics.offsetsDeleted("request", o.deletes)
	return errs, nil
}
