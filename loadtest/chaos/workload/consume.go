package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/loadtest/chaos/history"
)

// consumer is one reader.
type consumer struct {
	load   *Load
	id     history.Reader
	client *kgo.Client
	ends   map[int32]int64 // of a final reader: how far it has to go
	commit map[int32]int64 // what a member of a group has read and not committed
}

// declare makes a reader's client.
func (l *Load) declare(id history.Reader, name, group string, flags uint8, opts ...kgo.Opt) (*consumer, error) {
	c := &consumer{load: l, id: id, commit: map[int32]int64{}}
	l.Recorder.Add(history.Op{Kind: history.DeclareReader, Reader: id, Name: name, Group: group, Flags: flags})
	if group != "" {
		opts = append(opts, kgo.ConsumerGroup(group), kgo.ConsumeTopics(l.Topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
			kgo.SessionTimeout(10*time.Second), kgo.RebalanceTimeout(20*time.Second), kgo.AdjustFetchOffsetsFn(c.assigned))
	}
	var err error
	c.client, err = kgo.NewClient(l.options(append(opts, kgo.FetchMaxWait(500*time.Millisecond), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)...)
	return c, err
}

// assigned records where a member goes on in each partition it was given.
func (c *consumer) assigned(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	for p, o := range offsets[c.load.Topic] {
		c.load.Recorder.Add(history.Op{Kind: history.Position, Reader: c.id, Partition: history.Partition(p), Offset: max(-2, o.EpochOffset().Offset)})
	}
	return offsets, nil
}

// poll records what comes next.
func (c *consumer) poll(ctx context.Context) {
	fetches := c.client.PollFetches(ctx)
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		op := history.Op{Kind: history.Poll, Reader: c.id, Partition: history.Partition(f.Partition)}
		flush := func() {
			if len(op.Records) > 0 {
				c.load.Recorder.Add(op)
				op.Records = op.Records[:0]
			}
		}
		for _, r := range f.Records {
			if p, n, ok := identify(r.Partition, r.Value); ok {
				op.Records = append(op.Records, history.Record{Offset: r.Offset, Producer: p, Sequence: n})
			} else {
				flush()
				c.load.Recorder.Add(history.Op{Kind: history.Corrupt, Reader: c.id, Partition: op.Partition, Offset: r.Offset})
			}
			c.commit[f.Partition] = r.Offset + 1
			if end, ok := c.ends[f.Partition]; ok && r.Offset+1 >= end {
				delete(c.ends, f.Partition)
			}
		}
		flush()
	})
}

// all is every partition from its start.
func (l *Load) all() kgo.Opt {
	m := map[int32]kgo.Offset{}
	for p := range l.Partitions {
		m[int32(p)] = kgo.NewOffset().AtStart()
	}
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: m})
}

// Follow reads all partitions until ctx is done.
func (l *Load) Follow(ctx context.Context, id history.Reader, name string) error {
	c, err := l.declare(id, name, "", 0, l.all())
	if err != nil {
		return err
	}
	defer c.client.Close()
	for ctx.Err() == nil {
		c.poll(ctx)
	}
	return nil
}

// Join reads as a member of a group until ctx is done, and commits after what it recorded.
func (l *Load) Join(ctx context.Context, id history.Reader, name, group string) error {
	c, err := l.declare(id, name, group, 0)
	if err != nil {
		return err
	}
	defer c.client.CloseAllowingRebalance()
	committed := time.Now()
	for ctx.Err() == nil {
		c.poll(ctx)
		if time.Since(committed) > time.Second {
			c.commitAll(ctx)
			committed = time.Now()
		}
		c.client.AllowRebalance()
	}
	return nil
}

// commitAll commits what was read of partitions that the member still has; no rebalance comes in between.
func (c *consumer) commitAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	offsets := c.client.UncommittedOffsets()[c.load.Topic]
	for p, o := range offsets {
		c.load.Recorder.Add(history.Op{Kind: history.CommitInvoke, Reader: c.id, Partition: history.Partition(p), Offset: o.Offset})
	}
	if len(offsets) == 0 {
		return
	}
	c.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{c.load.Topic: offsets}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, res *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			return
		}
		for _, t := range res.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 {
					c.load.Recorder.Add(history.Op{Kind: history.CommitAcked, Reader: c.id, Partition: history.Partition(p.Partition), Offset: offsets[p.Partition].Offset})
				}
			}
		}
	})
}

// FinalRead reads everything up to the present ends, and returns those; want gives ends instead. No progress for patience is an error.
func (l *Load) FinalRead(ctx context.Context, id history.Reader, name string, want map[int32]int64, patience time.Duration) (map[int32]int64, error) {
	c, err := l.declare(id, name, "", history.Final, l.all())
	if err != nil {
		return nil, err
	}
	defer c.client.Close()
	if want == nil {
		if want, err = c.listEnds(ctx, patience); err != nil {
			return nil, err
		}
	}
	c.ends = map[int32]int64{}
	for p, end := range want {
		l.Recorder.Add(history.Op{Kind: history.Bounds, Reader: id, Partition: history.Partition(p), End: end})
		if end > 0 {
			c.ends[p] = end
		}
	}
	for len(c.ends) > 0 {
		before := len(c.commit)
		c.commit = map[int32]int64{}
		poll, cancel := context.WithTimeout(ctx, patience)
		c.poll(poll)
		cancel()
		if len(c.commit) == 0 && poll.Err() != nil {
			return want, fmt.Errorf("%s: nothing for %v; %d partitions are not read to their ends (before: %d)", name, patience, len(c.ends), before)
		}
	}
	return want, nil
}

func (c *consumer) listEnds(ctx context.Context, patience time.Duration) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		listed, err := kadm.NewClient(c.client).ListEndOffsets(ctx, c.load.Topic)
		if err == nil {
			err = listed.Error()
		}
		if err == nil && len(listed[c.load.Topic]) == c.load.Partitions {
			ends := map[int32]int64{}
			listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
			return ends, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the ends of all partitions: %w (%w)", err, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
