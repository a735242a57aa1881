package handler

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestInitProducerID(t *testing.T) {
	f := newFixture(t, nil)
	seen := map[int64]bool{}
	versions(t, 22, func(t *testing.T, version int16) {
		req := kmsg.NewPtrInitProducerIDRequest()
		got := call[*kmsg.InitProducerIDResponse](f, version, req)
		if got.ErrorCode != 0 || got.ProducerID < 0 || got.ProducerEpoch != 0 || seen[got.ProducerID] {
			t.Fatalf("%+v", got)
		}
		seen[got.ProducerID] = true
		for name, tt := range map[string]struct {
			txn   *string
			id    int64
			epoch int16
			since int16
			want  *kerr.Error
		}{
			"transactional":       {txn: ptr("tx"), id: -1, epoch: -1, want: kerr.UnsupportedVersion},
			"empty transactional": {txn: ptr(""), id: -1, epoch: -1, want: kerr.InvalidRequest},
			"id without epoch":    {id: 5, epoch: -1, since: 3, want: kerr.InvalidRequest},
			"epoch without id":    {id: -1, epoch: 5, since: 3, want: kerr.InvalidRequest},
		} {
			if version < tt.since {
				continue
			}
			req := kmsg.NewPtrInitProducerIDRequest()
			req.TransactionalID, req.ProducerID, req.ProducerEpoch = tt.txn, tt.id, tt.epoch
			if got := call[*kmsg.InitProducerIDResponse](f, version, req); got.ErrorCode != tt.want.Code || got.ProducerID != -1 || got.ProducerEpoch != -1 {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
}

func TestProducerIDBlocks(t *testing.T) {
	p := producerIDs{refill: make(chan struct{}, 1)}
	var mu sync.Mutex
	blocks := int64(0)
	allocate := func(_ context.Context, n int64) (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		blocks++
		return (blocks - 1) * 2 * n, nil // another broker takes every second block
	}
	const workers, each = 8, 500
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				id, err := p.next(context.Background(), allocate)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[id] || id/producerIDBlock%2 != 0 {
					t.Errorf("id %d twice or of somebody else", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if blocks != workers*each/producerIDBlock {
		t.Errorf("%d blocks for %d ids", blocks, workers*each)
	}
	boom := errors.New("boom")
	if _, err := p.next(context.Background(), func(context.Context, int64) (int64, error) { return 0, boom }); !errors.Is(err, boom) {
		t.Error(err)
	}
	if id, err := p.next(context.Background(), allocate); err != nil || seen[id] {
		t.Error("no recovery after an error", id, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	full := producerIDs{refill: make(chan struct{})}
	if _, err := full.next(ctx, allocate); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
