package group

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/etcdembed"
)

// BenchmarkCommit commits one partition per request from many groups at once, against a store that takes no time and one that
// takes a millisecond, as etcd does. Commits per second is what counts: a call's cost is shared by all that wait.
func BenchmarkCommit(b *testing.B) {
	for _, takes := range []time.Duration{0, time.Millisecond} {
		for _, clients := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("store=%v/clients=%d", takes, clients), func(b *testing.B) { benchmarkCommit(b, takes, clients) })
		}
	}
}

func benchmarkCommit(b *testing.B, takes time.Duration, clients int) {
	store := newMemStore()
	store.hook = func(string, string) fate { time.Sleep(takes); return fine }
	if takes == 0 {
		store.hook = nil
	}
	runCommits(b, store, store, clients)
	b.ReportMetric(float64(b.N)/float64(max(1, store.calls["CommitOffsets"])), "commits/call")
}

// BenchmarkCommitEtcd is the same over the metadata store on an embedded etcd, fsync and all: with the fences of 50 shards, as brokers write, and
// without any.
func BenchmarkCommitEtcd(b *testing.B) {
	for _, fenced := range []bool{false, true} {
		for _, clients := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("fenced=%v/clients=%d", fenced, clients), func(b *testing.B) { benchmarkCommitEtcd(b, fenced, clients) })
		}
	}
}

func benchmarkCommitEtcd(b *testing.B, fenced bool, clients int) {
	etcd, err := etcdembed.Start(b.Context(), etcdembed.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer etcd.Close()
	store, err := metadata.Open(b.Context(), etcd.KV(), metadata.Options{Prefix: "/bench"})
	if err != nil {
		b.Fatal(err)
	}
	if !fenced {
		runCommits(b, store, store, clients)
		return
	}
	topic, err := store.CreateTopic(b.Context(), metadata.TopicSpec{Name: "shards", Partitions: NumShards, ReplicationFactor: 1, Owner: 1})
	if err != nil {
		b.Fatal(err)
	}
	im := store.Image()
	coordinator := store.Coordinator(func(group string) metadata.Fence {
		p, _ := im.Partition(metadata.PartitionID{Topic: topic.ID, Partition: int32(ShardOf(group, NumShards))})
		return metadata.Fence{Partition: p.ID, Revision: p.Revision}
	})
	runCommits(b, coordinator, coordinator, clients)
}

func runCommits(b *testing.B, states States, offsets Offsets, clients int) {
	c, err := New(Options{States: states, Offsets: offsets, TopicName: allTopics().name})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Load(b.Context()); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	b.ReportAllocs()
	b.SetParallelism(max(1, clients/2))
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		group := fmt.Sprintf("group-%d", n.Add(1))
		for at := metadata.Offset(0); pb.Next(); at++ {
			r := &Commit{Group: group, Generation: -1, RetentionMillis: -1, Topics: []CommitTopic{
				{Topic: ordersID, Partitions: []CommitPartition{{Partition: 0, Offset: at, LeaderEpoch: 1}}},
			}}
			if c.Commit(b.Context(), r); r.Topics[0].Partitions[0].Err != nil {
				b.Error(r.Topics[0].Partitions[0].Err)
				return
			}
		}
	})
	b.StopTimer()
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// oneMember is a coordinator with a group g of one member.
func oneMember(t testing.TB) (*Coordinator, classic.JoinReply) {
	store := newMemStore()
	c, err := New(Options{States: store, Offsets: store, TopicName: allTopics().name, InitialRebalanceDelay: new(time.Duration)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := joining("", nil)
	first.RequireKnownMemberID = false
	return c, c.Join(t.Context(), "g", first)
}

// BenchmarkHeartbeat is the request that idle groups send most.
func BenchmarkHeartbeat(b *testing.B) {
	c, r := oneMember(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Heartbeat("g", r.MemberID, nil, r.Generation); err != nil {
			b.Fatal(err)
		}
	}
}

func TestHeartbeatAllocatesNothing(t *testing.T) {
	c, r := oneMember(t)
	if n := testing.AllocsPerRun(1000, func() { c.Heartbeat("g", r.MemberID, nil, r.Generation) }); n != 0 {
		t.Errorf("%v allocations per heartbeat", n)
	}
}
