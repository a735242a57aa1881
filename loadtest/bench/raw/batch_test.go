package raw

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/loadtest/bench/stamp"
)

func testProducer(records, size int) (*Producer, *slot) {
	fill := func(v []byte) {
		for i := range v {
			v[i] = byte(i)
		}
	}
	p := &Producer{o: ProducerOptions{Producer: 9, Idempotent: true}, sequence: make([]uint64, 3), id: 77, epoch: 2, perBatch: records}
	return p, &slot{t: newTemplate("topic", -1, records, size, fill), partition: 2, due: 5}
}

// A patched request must be what kmsg reads as such, twice in a row.
func TestPatchedRequest(t *testing.T) {
	const records, size = 200, 300
	p, s := testProducer(records, size)
	p.sequence[2] = 1<<31 - 100 // the batch's own sequence wraps, the stamps' does not
	for round := range 2 {
		first := p.sequence[2]
		p.patch(s)
		var req kmsg.ProduceRequest
		req.Version = produceVersion
		head := 4 + 8 + 2 + len(clientID) + 1 // length, key to correlation, client id, no tags
		if err := req.ReadFrom(s.t.frame[head:]); err != nil {
			t.Fatal(err)
		}
		part := req.Topics[0].Partitions[0]
		if req.Topics[0].Topic != "topic" || part.Partition != 2 || req.Acks != -1 {
			t.Fatalf("%+v", req)
		}
		b := part.Records
		if batchSize(b) != len(b) || AfterBatch(b) != records {
			t.Fatalf("a batch of %d in %d bytes, up to offset %d", batchSize(b), len(b), AfterBatch(b))
		}
		var rb kmsg.RecordBatch
		if err := rb.ReadFrom(b); err != nil {
			t.Fatal(err)
		}
		if rb.ProducerID != 77 || rb.ProducerEpoch != 2 || rb.FirstSequence != int32(first&(1<<31-1)) || rb.FirstTimestamp == 0 {
			t.Errorf("round %d: %+v", round, rb)
		}
		n := 0
		if err := NewReader().Each(b, func(offset int64, value []byte) {
			got, ok := stamp.Get(value)
			want := stamp.Stamp{Producer: 9, Sequence: first + uint64(n), Due: 5}
			if !ok || got != want || offset != int64(n) || len(value) != size || value[30] != 30 {
				t.Fatalf("record %d at %d: %+v, %d bytes", n, offset, got, len(value))
			}
			n++
		}); err != nil {
			t.Fatal(err)
		}
		if n != records {
			t.Errorf("%d records", n)
		}
	}
}

func TestPatchingAllocatesNothing(t *testing.T) {
	p, s := testProducer(100, 100)
	if n := testing.AllocsPerRun(100, func() { p.patch(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDamageIsFound(t *testing.T) {
	p, s := testProducer(3, 100)
	p.patch(s)
	good := s.t.frame[s.t.batchAt : len(s.t.frame)-3]
	b := append([]byte(nil), good...)
	b[len(b)-20] ^= 1
	if err := NewReader().Each(b, func(int64, []byte) {}); err == nil {
		t.Error("a flipped bit was not found")
	}
	b = append([]byte(nil), good...)
	b[magicAt] = 1
	if err := NewReader().Each(b, func(int64, []byte) {}); !errors.Is(err, errBatch) {
		t.Errorf("magic 1: %v", err)
	}
	for n := range good {
		if batchSize(good[:n]) != 0 {
			t.Fatalf("a batch cut to %d bytes counts as whole", n)
		}
	}
}

func TestAnswer(t *testing.T) {
	p, s := testProducer(3, 100)
	var offset int64
	p.o.Acked = func(_ int32, at, _ int64, _ int) { offset = at }
	answer := func(partition int32, code int16) []byte {
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = produceVersion
		rt, rp := kmsg.NewProduceResponseTopic(), kmsg.NewProduceResponseTopicPartition()
		rp.Partition, rp.ErrorCode, rp.BaseOffset = partition, code, 42
		rt.Topic, rt.Partitions = "topic", append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp.AppendTo([]byte{0, 0, 0, 0, 0})
	}
	if err := p.answer(s, answer(2, 0)); err != nil || offset != 42 {
		t.Errorf("offset %d, %v", offset, err)
	}
	if err := p.answer(s, answer(2, 6)); err == nil {
		t.Error("an error code was accepted")
	}
	if err := p.answer(s, answer(1, 0)); err == nil {
		t.Error("another partition's answer was accepted")
	}
	whole := answer(2, 0)
	for n := 5; n < 20; n++ {
		if err := p.answer(s, whole[:n]); err == nil {
			t.Errorf("an answer of %d bytes was accepted", n)
		}
	}
}

func FuzzReader(f *testing.F) {
	p, s := testProducer(3, 100)
	p.patch(s)
	f.Add(s.t.frame[s.t.batchAt : len(s.t.frame)-3])
	f.Fuzz(func(_ *testing.T, b []byte) {
		if n := batchSize(b); n > 0 {
			_ = NewReader().Each(b[:n], func(int64, []byte) {}) // must not panic
		}
		for rest := b; ; {
			_, _, next, ok := nextRecord(rest)
			if !ok || len(next) >= len(rest) {
				return
			}
			rest = next
		}
	})
}
