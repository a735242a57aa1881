package broker

import (
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/wal"
)

// TestUtilization: each resource is told by itself, smoothed, and no figure leaves 0 to 1.
func TestUtilization(t *testing.T) {
	var usage server.Usage
	var log wal.Stats
	var cpu time.Duration
	u := utilization{
		requests: func() server.Usage { return usage }, log: func() wal.Stats { return log }, cpuTime: func() (time.Duration, bool) { return cpu, true },
		logBytes: 1000, networkBytes: 1 << 20,
	}
	now := time.Now()
	cpu, usage.MovedBytes = time.Hour, 1<<40 // before the first look: of no interest
	u.look(now)
	if got := u.now(); got != [4]float64{} {
		t.Errorf("at the start: %v", got)
	}
	advance := func(looks int, each time.Duration) {
		for range looks {
			now = now.Add(each)
			cpu += each * time.Duration(runtime.GOMAXPROCS(0)) / 4
			usage.MovedBytes += int64(each.Seconds() * (1 << 19))
			u.look(now)
		}
	}
	log.UntrimmedBytes, log.SurchargeBytes = 700, 100
	usage.Requests = 7 // nonsense stays within bounds
	advance(1, utilizationWindow)
	if got := u.now()[1]; got <= 0.4 || got >= 0.6 {
		t.Errorf("log after half a minute: %v", got)
	}
	advance(200, utilizationEvery)
	want := [4]float64{0.25, 0.8, 0.5, 1}
	for i, got := range u.now() {
		if math.Abs(got-want[i]) > 0.01 {
			t.Errorf("%s: %v, want %v", utilized[i], got, want[i])
		}
	}
	log, usage.Requests = wal.Stats{}, 0
	advance(200, utilizationEvery)
	all := u.now()
	if most := slices.Max(all[:]); math.Abs(most-0.5) > 0.01 {
		t.Errorf("most used: %v of %v", most, all)
	}
}
