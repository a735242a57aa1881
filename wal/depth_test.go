package wal

import (
	"testing"
	"time"
)

func TestDepthFollowsTheLatencyOfLoneWrites(t *testing.T) {
	feed := func(d *depth, n int, took time.Duration, sizeBytes int, alone bool) {
		for range n {
			d.observe(took, sizeBytes, alone)
		}
	}
	for _, c := range []struct {
		name      string
		took      time.Duration
		sizeBytes int
		want      int
	}{
		{"fast", 120 * time.Microsecond, 4096, 1},
		{"fast, large writes", 6500 * time.Microsecond, 8 << 20, 1},
		{"just slow", 1100 * time.Microsecond, 4096, 3},
		{"cloud volume", 2600 * time.Microsecond, 4096, 6},
		{"disk that turns", 12 * time.Millisecond, 4096, 8},
	} {
		d := newDepth(8)
		feed(&d, 100, c.took, c.sizeBytes, true)
		if d.limit != c.want {
			t.Errorf("%s: %d in flight, want %d", c.name, d.limit, c.want)
		}
	}
	d := newDepth(8)
	feed(&d, 20, 2600*time.Microsecond, 4096, true)
	feed(&d, 100, 4*time.Millisecond, 4<<20, true)
	if d.limit != 6 {
		t.Errorf("large writes at a high bandwidth hid the latency: %d in flight", d.limit)
	}
	d = newDepth(8)
	feed(&d, 100, 2600*time.Microsecond, 4096, true)
	feed(&d, probeInterval-1, 10*time.Millisecond, 4096, false)
	if d.limit != 6 || d.probeDue() {
		t.Errorf("writes in company changed the limit to %d (probe due: %v)", d.limit, d.probeDue())
	}
	feed(&d, 1, 10*time.Millisecond, 4096, false)
	if !d.probeDue() {
		t.Error("no probe is due")
	}
	feed(&d, 1, 100*time.Microsecond, 4096, true)
	if d.probeDue() || d.limit < 2 {
		t.Errorf("one fast probe: limit %d", d.limit)
	}
	feed(&d, 20, 100*time.Microsecond, 4096, true)
	if d.limit != 1 {
		t.Errorf("fast again, but %d in flight", d.limit)
	}
	for range 50 {
		feed(&d, 2, 100*time.Microsecond, 4096, true)
		feed(&d, 3, 20*time.Millisecond, 4096, true)
		if d.limit != 1 {
			t.Fatalf("a fast device with stalls: %d in flight", d.limit)
		}
	}
}
