//go:build unix

package wal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return osError(err)
}

// mapSlabs returns zeroed, page-aligned memory outside the Go heap, which costs nothing until touched.
func mapSlabs(sizeBytes int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, sizeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of slabs: %w", sizeBytes, err)
	}
	adviseHuge(mem)
	return mem, nil
}

func unmapSlabs(mem []byte) error { return unix.Munmap(mem) }

// releasePages gives the pages of mapped memory back, whose content is lost; the addresses stay usable. It saves memory and nothing
// else, so its failure means nothing.
func releasePages(mem []byte) { _ = unix.Madvise(mem, unix.MADV_DONTNEED) }
