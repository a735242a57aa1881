//go:build !linux

package pace

import "time"

// Sleep is as precise as the system's timer.
func Sleep(d time.Duration) { time.Sleep(d) }
