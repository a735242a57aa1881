package core

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/metadata"
)

// FuzzProducers plays steps of two producers that share an id. Whatever they do: epochs of an id never fall, what was fenced stays so, an outcome
// that is decided does not change, and only the producer with the newest epoch can add to a transaction.
func FuzzProducers(f *testing.F) {
	f.Add([]byte{0, 2, 4, 7, 1, 0, 2, 5, 7, 8, 9, 16, 18, 20, 23}, int16(0))
	f.Add([]byte{0, 2, 4, 7, 2, 4, 7, 2, 6, 7, 0, 10, 12, 7}, int16(32760))
	f.Fuzz(func(t *testing.T, steps []byte, start int16) {
		type producer struct {
			id    int64
			epoch int16
		}
		producers := [2]producer{{None, None}, {None, None}}
		var s *metadata.Transaction
		ids, now := int64(100), int64(0)
		if start >= 0 && start < 32766 {
			s = state(metadata.TxnEmpty, 0, epoch(start, None))
		}
		for _, step := range steps {
			now += 10
			who := &producers[step>>3&1]
			version := int8(step >> 4 & 2)
			decide := func(fn func(fresh int64) Decision) Decision {
				d := fn(None)
				if d.NeedsID {
					ids++
					d = fn(ids)
				}
				if d.NeedsID {
					t.Fatalf("an id is not enough: %+v", s)
				}
				return d
			}
			before := s
			var d Decision
			switch step & 7 {
			case 0: // starts anew
				d = decide(func(fresh int64) Decision { return Init{1000, None, None, fresh, now}.Decide(s) })
			case 1: // continues
				d = decide(func(fresh int64) Decision { return Init{1000, who.id, who.epoch, fresh, now}.Decide(s) })
			case 2, 3:
				d = Add{who.id, who.epoch, []metadata.PartitionID{p0, p1}[step&7-2 : step&7-1], version, now}.Decide(s)
				if d.Err == nil && (s.ProducerID != who.id || s.ProducerEpoch != who.epoch) {
					t.Fatalf("%+v adds to %+v", *who, s)
				}
			case 4, 5:
				d = decide(func(fresh int64) Decision { return End{who.id, who.epoch, step&1 == 0, version, fresh, now}.Decide(s) })
			case 6:
				if s != nil {
					d = decide(func(fresh int64) Decision { return TimeOut(s, fresh, now+2000) })
				}
			case 7:
				if s != nil && s.Status.Prepared() {
					d.Next = Complete(s, now)
				}
			}
			if d.Err == nil && d.Next != nil && step&7 < 6 && step&7 != 2 && step&7 != 3 {
				*who = producer{d.ProducerID, d.ProducerEpoch}
			}
			if d.Next == nil {
				continue
			}
			s = d.Next
			if before == nil {
				continue
			}
			if s.ProducerID == before.ProducerID && s.ProducerEpoch < before.ProducerEpoch {
				t.Fatalf("step %d: the epoch falls: %+v, then %+v", step, before, s)
			}
			if before.Status.Prepared() && (step&7 != 7 || s.Status.Prepared() || (s.Status == metadata.TxnCompleteCommit) != (before.Status == metadata.TxnPrepareCommit)) {
				t.Fatalf("step %d: %+v becomes %+v", step, before, s)
			}
			if s.Status == metadata.TxnOngoing && len(s.Partitions) == 0 || s.Status == metadata.TxnEmpty && len(s.Partitions) > 0 {
				t.Fatalf("step %d: %+v", step, s)
			}
			if s.ProducerEpoch < 0 {
				t.Fatalf("step %d: negative epoch: %+v", step, s)
			}
			if err := Verify(s, before.ProducerID, before.ProducerEpoch-1, p0); err == nil || err == kerr.TransactionAbortable {
				t.Fatalf("step %d: a fenced producer writes: %+v", step, s)
			}
		}
	})
}
