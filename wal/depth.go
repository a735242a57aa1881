package wal

import (
	"slices"
	"time"
)

// depth decides how many groups may be in flight. PURE.
//
// A second write in flight hurts where a sync is fast, since it only makes groups smaller, and wins where it is slow. What
// counts is how long a write takes that is alone on the device, beyond the time that its bytes need: writes in flight
// slow each other down, and would seem to justify themselves. So now and then one write is sent alone, as a probe. And of
// the latest lone writes the lower quartile counts: a device that is fast but for some stalls is a fast one.
type depth struct {
	limit      int
	max        int
	lone       [16]time.Duration // excess of the latest lone writes
	seen       int               // of them
	sinceProbe int
}

const (
	slowSync      = time.Millisecond
	probeInterval = 512 // groups
	// Beyond this size a write says more about the device's bandwidth than about its latency.
	smallWriteBytes = 256 << 10
)

func newDepth(maximum int) depth { return depth{limit: 1, max: maximum} }

// probeDue says that the next group should be alone in flight.
func (d *depth) probeDue() bool { return d.limit > 1 && d.sinceProbe >= probeInterval }

// observe learns from a completed write.
func (d *depth) observe(took time.Duration, sizeBytes int, alone bool) {
	d.sinceProbe++
	if !alone {
		return
	}
	d.sinceProbe = 0
	excess := max(0, took-time.Duration(sizeBytes)*time.Nanosecond) // 1 GB/s
	if sizeBytes > smallWriteBytes && excess < slowSync {
		return // on a slow device with a high bandwidth it would look just so
	}
	d.lone[d.seen%len(d.lone)] = excess
	d.seen++
	sorted := d.lone
	recent := sorted[:min(d.seen, len(sorted))]
	slices.Sort(recent)
	excess = recent[len(recent)/4]
	switch {
	case excess >= slowSync, d.limit > 1 && excess >= slowSync/2:
		d.limit = min(d.max, 1+int(2*excess/slowSync))
	default:
		d.limit = 1
	}
}
