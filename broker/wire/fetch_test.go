package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// randomFetch makes the same random answer for both encoders.
func randomFetch(r *rand.Rand, version int16) (*FetchResponse, *kmsg.FetchResponse) {
	want := kmsg.NewPtrFetchResponse()
	want.Version = version
	want.ThrottleMillis, want.ErrorCode, want.SessionID = int32(r.IntN(99)), int16(r.IntN(99)), int32(r.IntN(99))
	got := &FetchResponse{ThrottleMillis: want.ThrottleMillis, ErrorCode: want.ErrorCode, SessionID: want.SessionID}
	for range r.IntN(4) {
		wt := kmsg.NewFetchResponseTopic()
		wt.Topic, wt.TopicID = "topic"[:r.IntN(6)], [16]byte{byte(r.Uint32()), 1}
		gt := FetchTopic{Topic: wt.Topic, TopicID: wt.TopicID}
		for i := range r.IntN(200) >> r.IntN(8) {
			g, w := randomFetchPartition(r, version, int32(i))
			gt.Partitions = append(gt.Partitions, g)
			wt.Partitions = append(wt.Partitions, w)
		}
		got.Topics = append(got.Topics, gt)
		want.Topics = append(want.Topics, wt)
	}
	if version >= 16 {
		for range r.IntN(3) {
			rack := "rack"
			n := NodeEndpoint{int32(r.IntN(9)), "host.example", 9092, &rack}
			if r.IntN(2) == 0 {
				n.Rack = nil
			}
			got.NodeEndpoints = append(got.NodeEndpoints, n)
			want.Brokers = append(want.Brokers, kmsg.FetchResponseBroker{NodeID: n.NodeID, Host: n.Host, Port: n.Port, Rack: n.Rack})
		}
	}
	return got, want
}

func randomFetchPartition(r *rand.Rand, version int16, n int32) (FetchPartition, kmsg.FetchResponseTopicPartition) {
	g := NewFetchPartition(n, int16(r.IntN(3)))
	w := kmsg.NewFetchResponseTopicPartition()
	w.Partition, w.ErrorCode, w.HighWatermark = n, g.ErrorCode, g.HighWatermark
	if r.IntN(2) == 0 {
		g.HighWatermark, g.LastStable, g.LogStart, g.PreferredReplica = r.Int64(), r.Int64(), r.Int64(), 4
		w.HighWatermark, w.LastStableOffset, w.LogStartOffset, w.PreferredReadReplica = g.HighWatermark, g.LastStable, g.LogStart, 4
	}
	if r.IntN(3) == 0 {
		g.Aborted, w.AbortedTransactions = []AbortedTransaction{}, []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
		for range r.IntN(3) {
			a := AbortedTransaction{r.Int64(), r.Int64()}
			g.Aborted = append(g.Aborted, a)
			w.AbortedTransactions = append(w.AbortedTransactions, kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset})
		}
	}
	w.RecordBatches = []byte{}
	for range r.IntN(4) {
		b := newBatch(r, r.IntN(1000))[:r.IntN(61)]
		g.Records = append(g.Records, b)
		w.RecordBatches = append(w.RecordBatches, b...)
	}
	if version >= 12 && r.IntN(3) == 0 {
		g.Diverging = &EpochEnd{3, r.Int64()}
		w.DivergingEpoch.Epoch, w.DivergingEpoch.EndOffset = 3, g.Diverging.EndOffset
	}
	if version >= 12 && r.IntN(3) == 0 {
		g.CurrentLeader = &LeaderIDEpoch{7, 8}
		w.CurrentLeader.LeaderID, w.CurrentLeader.LeaderEpoch = 7, 8
	}
	if version >= 12 && r.IntN(3) == 0 {
		g.Snapshot = &EpochEnd{5, 6}
		w.SnapshotID.Epoch, w.SnapshotID.EndOffset = 5, 6
	}
	return g, w
}

func TestFetchResponseIsKmsgs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var e FetchEncoder
	for version := int16(4); version <= 18; version++ {
		for range 60 {
			resp, want := randomFetch(r, version)
			vec, size := e.Encode(resp, version, 77)
			got := bytes.Join(vec, nil)
			ref := want.AppendTo(AppendResponseHeader(nil, Header{KeyFetch, version, 77, ""}))
			FinishResponse(ref, 0, 0)
			if !bytes.Equal(got, ref) || size != len(ref) {
				t.Fatalf("v%d: %d and %d bytes\n% x\n% x", version, size, len(ref), got, ref)
			}
			e.Reset()
		}
	}
}

func TestFetchEncodeDoesNotCopyRecords(t *testing.T) {
	p := NewFetchPartition(0, 0)
	p.Records = [][]byte{[]byte("first"), nil, []byte("second")}
	resp := &FetchResponse{Topics: []FetchTopic{{Partitions: []FetchPartition{p}}}}
	var e FetchEncoder
	vec, _ := e.Encode(resp, 13, 1)
	if len(vec) != 4 || &vec[1][0] != &p.Records[0][0] || &vec[2][0] != &p.Records[2][0] {
		t.Errorf("%q", vec)
	}
	if resp.SizeBytes() != 11 {
		t.Error(resp.SizeBytes())
	}
}

func benchFetch(partitions, bytesEach int) *FetchResponse {
	t := FetchTopic{Topic: "bench-topic", TopicID: [16]byte{1}}
	for i := range partitions {
		p := NewFetchPartition(int32(i), 0)
		p.Records = [][]byte{make([]byte, bytesEach)}
		t.Partitions = append(t.Partitions, p)
	}
	return &FetchResponse{Topics: []FetchTopic{t}}
}

func TestFetchEncodeDoesNotAllocate(t *testing.T) {
	var e FetchEncoder
	resp := benchFetch(1000, 100)
	if n := testing.AllocsPerRun(20, func() {
		e.Encode(resp, 17, 1)
		e.Reset()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFetchEncode(b *testing.B) {
	for name, resp := range map[string]*FetchResponse{"1": benchFetch(1, 1<<20), "1000": benchFetch(1000, 1<<10)} {
		b.Run(name, func(b *testing.B) {
			var e FetchEncoder
			b.ReportAllocs()
			for b.Loop() {
				e.Encode(resp, 17, 1)
				e.Reset()
			}
		})
	}
}
