package wal

import "time"

// depth decides how many groups may be in flight. PURE.
//
// A second write in flight hurts where a sync is fast, since it only makes groups smaller, and wins where it is slow. What
// counts is how long a write takes that is alone on the device, beyond the time that its bytes need: writes in flight
// slow each other down, and would seem to justify themselves. So now and then one write is sent alone, as a probe.
type depth struct {
	limit      int
	max        int
	excess     time.Duration // moving average over lone writes
	sinceProbe int
}

const (
	slowSync      = time.Millisecond
	probeInterval = 512 // groups
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
	d.excess += (excess - d.excess) / 8
	switch {
	case d.excess >= slowSync, d.limit > 1 && d.excess >= slowSync/2:
		d.limit = min(d.max, 1+int(2*d.excess/slowSync))
	default:
		d.limit = 1
	}
}
