package partition

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/entry"
	"github.com/tidemarkmq/tidemark/tiering/producers"
	"github.com/tidemarkmq/tidemark/wal"
	"github.com/tidemarkmq/tidemark/wal/crashfs"
)

// TestAckedBatchesSurviveACrash: whenever the machine dies, the WAL alone holds every acked batch at its acked offset, without
// gaps, and a producer that goes on after the recovery gets its last batch's first offset again.
func TestAckedBatchesSurviveACrash(t *testing.T) {
	for crashAt := 5; crashAt < 60; crashAt += 7 {
		for _, loss := range []int{0, 50, 100} {
			t.Run(fmt.Sprintf("at %d, loss %d", crashAt, loss), func(t *testing.T) { crashOnce(t, crashAt, loss) })
		}
	}
}

func crashOnce(t *testing.T, crashAt, loss int) {
	disk := crashfs.New()
	options := wal.Options{FS: disk, Dir: "/wal/1", Epoch: 1, SegmentBytes: 1 << 20, SlabBytes: 128 << 10, SlabCount: 4}
	log, err := wal.New(options)
	if err != nil {
		t.Fatal(err)
	}
	disk.CrashAt(disk.Ops() + crashAt)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = log.Run(ctx); close(ended) }()
	set, err := NewSet(Options{WAL: log, File: log, Cold: &fakeCold{}, Meta: &fakeMeta{}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := set.Open(OpenState{ID: testID, Topic: "t", LeaderEpoch: 3, MaxTimestampMs: -1, Config: testConfig(), LogStart: 40, End: 40})
	if err != nil {
		t.Fatal(err)
	}
	type acked struct {
		at  metadata.Offset
		seq int32
	}
	var acks []acked
	seq := int32(math.MaxInt32 - 30) // wraps on the way
	for range 200 {
		h, err := batch.Parse(mk(t, 3, 400, 0, idempotent(1, 0, seq)))
		if err != nil {
			t.Fatal(err)
		}
		o := newOutcome()
		if p.Append(context.Background(), mk(t, 3, 400, 0, idempotent(1, 0, seq)), &h, o, 0) != nil {
			break
		}
		res := <-o.c
		if res.err != nil {
			break
		}
		acks = append(acks, acked{res.BaseOffset, seq})
		seq = batch.AddSequence(seq, 3)
	}
	cancel()
	<-ended

	options.FS = disk.After(loss, uint64(crashAt))
	recovered, err := wal.Recover(options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := recovered.Close(); err != nil {
			t.Error(err)
		}
	}()
	var state producers.State
	t.Logf("%d batches acked", len(acks))
	next, i := int64(40), 0
	err = recovered.Scan(context.Background(), recovered.Start(), recovered.End(), func(e wal.Entry) error {
		eh, b, err := entry.Parse(e.Data)
		if err != nil {
			return err
		}
		h, err := batch.Parse(b)
		if err != nil {
			return err
		}
		if eh.Partition != testID || eh.LeaderEpoch != 3 || h.LeaderEpoch != 3 || h.BaseOffset != next || batch.Checksum(b) != h.CRC {
			return fmt.Errorf("offset %d: %s, %s", next, eh, h)
		}
		if i < len(acks) && (int64(acks[i].at) != h.BaseOffset || acks[i].seq != h.BaseSequence) {
			return fmt.Errorf("acked %+v, found %s", acks[i], h)
		}
		next, i = h.NextOffset(), i+1
		return state.ApplyBatch(b, 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if i < len(acks) {
		t.Fatalf("%d batches acked, %d recovered", len(acks), i)
	}
	if len(acks) == 0 {
		return
	}
	last := acks[len(acks)-1]
	h, err := batch.Parse(mk(t, 3, 400, 0, idempotent(1, 0, last.seq)))
	if err != nil {
		t.Fatal(err)
	}
	if dup, ok, err := state.Check(&h); err != nil || !ok || dup.FirstOffset != int64(last.at) {
		t.Fatalf("retry of the last batch: %+v %v %v", dup, ok, err)
	}
}
