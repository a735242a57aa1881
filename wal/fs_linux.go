package wal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func osOpenFlags(flags OpenFlags) (int, error) {
	extra := 0
	if flags&OpenDirect != 0 {
		extra |= unix.O_DIRECT
	}
	if flags&OpenDSync != 0 {
		extra |= unix.O_DSYNC
	}
	return extra, nil
}

// directError marks the answers by which a file system refuses O_DIRECT, at open (tmpfs) or at the first write.
func directError(err error, flags OpenFlags) error {
	if flags&OpenDirect != 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)) {
		return fmt.Errorf("%w: %w", ErrNoDirect, err)
	}
	return err
}

func fdatasync(f *os.File) error {
	for {
		// An interrupted call has not failed; any other error is final.
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func allocate(f *os.File, sizeBytes int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, sizeBytes)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS):
			return f.Truncate(sizeBytes)
		default:
			return err
		}
	}
}
