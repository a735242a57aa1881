package wal

import (
	"errors"
	"syscall"
)

func isNoSpace(err error) bool {
	const handleDiskFull, diskFull = syscall.Errno(39), syscall.Errno(112)
	return errors.Is(err, handleDiskFull) || errors.Is(err, diskFull)
}

// syncDir does nothing: NTFS journals its folders and offers no handle to sync.
func syncDir(string) error { return nil }

func mapSlabs(sizeBytes int) ([]byte, error) { return alignedBytes(sizeBytes), nil }

func unmapSlabs([]byte) error { return nil }

func releasePages([]byte) {}
