package txn

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
)

// TestRouter: partitions go to their owners, those that are left are named, and a broker that does not answer holds up only its own.
func TestRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(i int32) metadata.PartitionID {
			return metadata.PartitionID{Topic: metadata.TopicID{1}, Partition: i}
		}
		owners := func(p metadata.PartitionID) (metadata.BrokerID, bool) {
			switch p.Partition {
			case 0, 1:
				return 1, true
			case 2:
				return 2, true
			case 3:
				return metadata.NoBroker, true
			case 4:
				return 3, true // which does not answer
			}
			return metadata.NoBroker, false
		}
		began := time.Now()
		var mu sync.Mutex
		took := map[metadata.BrokerID]time.Duration{}
		r := NewRouter(owners, func(ctx context.Context, on metadata.BrokerID, _ Marker, ps []metadata.PartitionID) []metadata.PartitionID {
			if on == 3 {
				<-ctx.Done()
			}
			mu.Lock()
			took[on] = time.Since(began)
			mu.Unlock()
			if on == 2 || on == 3 {
				return ps
			}
			return nil
		})
		left := r.Write(t.Context(), Marker{}, []metadata.PartitionID{at(4), at(3), at(2), at(1), at(0), at(5)})
		if want := []metadata.PartitionID{at(2), at(3), at(4)}; !reflect.DeepEqual(left, want) {
			t.Errorf("left %v, want %v", left, want)
		}
		if want := map[metadata.BrokerID]time.Duration{1: 0, 2: 0, 3: attemptTime}; !reflect.DeepEqual(took, want) {
			t.Errorf("took %v, want %v", took, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if left := r.Write(ctx, Marker{}, []metadata.PartitionID{at(4)}); len(left) != 1 {
			t.Errorf("after the end: left %v", left)
		}
	})
}
