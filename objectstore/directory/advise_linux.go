package directory

import (
	"os"

	"golang.org/x/sys/unix"
)

// adviseBytes is the length from which a read is announced to the kernel, which then reads it in few large requests instead of
// growing its read-ahead anew in each file.
const adviseBytes = 256 << 10

func advise(f *os.File, offset, length int64) {
	if length >= adviseBytes {
		_ = unix.Fadvise(int(f.Fd()), offset, length, unix.FADV_WILLNEED) // a hint: reading works without it
	}
}
