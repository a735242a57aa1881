package metadata

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func exampleTransaction() *Transaction {
	return &Transaction{Status: TxnOngoing, ProducerID: 5, PreviousProducerID: -1, NextProducerID: -1, ProducerEpoch: 3, LastProducerEpoch: 2,
		TimeoutMillis: 1000, StartMillis: 10, UpdateMillis: 11, ClientVersion: 2, Partitions: []PartitionID{{TopicID{1}, 0}, {TopicID{1}, 2}, {TopicID{2}, 0}}}
}

func TestTransactionStore(t *testing.T) {
	inBubble(t, func(h *harness) {
		shards := h.create("shards", 1)
		fence := h.shardsOf(h.s, shards, func(string) int32 { return 0 }, 0)("")
		c := h.s.Coordinator(func(string) Fence { return fence })
		want := exampleTransaction()
		rev, err := c.SaveTransaction(h.Context(), "a/b", want, 0)
		if err != nil {
			h.Fatal(err)
		}
		if _, err := c.SaveTransaction(h.Context(), "a/b", want, 0); !errors.Is(err, ErrConflict) {
			h.Errorf("made twice: %v", err)
		}
		got, at, err := h.s.LoadTransaction(h.Context(), "a/b")
		if err != nil || at != rev || !reflect.DeepEqual(got, want) {
			h.Errorf("%+v at %d, %v", got, at, err)
		}
		n := 0
		err = h.s.LoadTransactions(h.Context(), func(id string, got *Transaction, at Revision) error {
			if n++; id != "a/b" || at != rev || !reflect.DeepEqual(got, want) {
				h.Errorf("%s: %+v at %d", id, got, at)
			}
			return nil
		})
		if err != nil || n != 1 {
			h.Errorf("%d loaded, %v", n, err)
		}
		unsorted := exampleTransaction()
		unsorted.Partitions[0], unsorted.Partitions[1] = unsorted.Partitions[1], unsorted.Partitions[0]
		if _, err := c.SaveTransaction(h.Context(), "a/b", unsorted, rev); !errors.Is(err, ErrInvalid) {
			h.Errorf("unsorted: %v", err)
		}
		good := fence
		for _, lost := range []Fence{{}, {good.Partition, good.Revision + 1}} {
			fence = lost
			if _, err := c.SaveTransaction(h.Context(), "a/b", want, rev); !errors.Is(err, ErrFenced) {
				h.Errorf("saved by somebody who lost the shard: %v", err)
			}
			if err := c.DeleteTransaction(h.Context(), "a/b", rev); !errors.Is(err, ErrFenced) {
				h.Errorf("deleted by somebody who lost the shard: %v", err)
			}
		}
		fence = good
		if err := c.DeleteTransaction(h.Context(), "a/b", rev+1); !errors.Is(err, ErrConflict) {
			h.Errorf("deleted at another revision: %v", err)
		}
		if err := c.DeleteTransaction(h.Context(), "a/b", rev); err != nil {
			h.Error(err)
		}
		if _, _, err := h.s.LoadTransaction(h.Context(), "a/b"); !errors.Is(err, ErrNotFound) {
			h.Errorf("deleted, and there: %v", err)
		}
	})
}

func FuzzTransaction(f *testing.F) {
	f.Add(appendTransaction(nil, exampleTransaction()))
	f.Add([]byte{kindTransaction, codecVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeTransaction(b)
		if err != nil {
			return
		}
		if err := got.validate(); err != nil {
			t.Fatal(err)
		}
		again := appendTransaction(nil, got)
		back, err := decodeTransaction(again)
		if err != nil || !bytes.Equal(appendTransaction(nil, back), again) {
			t.Errorf("%x becomes %x, %v", b, again, err)
		}
	})
}
