package pace

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Sleep waits to within some 60 µs. time.Sleep oversleeps by up to a millisecond where nothing else runs, which would count as the
// broker's latency. The goroutine should own its thread.
func Sleep(d time.Duration) {
	rest := unix.NsecToTimespec(int64(d))
	for errors.Is(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &rest, &rest), unix.EINTR) {
	}
}
