//go:build !linux

package wal

import "os"

func osOpenFlags(flags OpenFlags) (int, error) {
	if flags&OpenDirect != 0 {
		return 0, ErrNoDirect
	}
	if flags&OpenDSync != 0 {
		return os.O_SYNC, nil
	}
	return 0, nil
}

func directError(err error, _ OpenFlags) error { return err }

// fdatasync is a full sync: on darwin os.File.Sync asks the drive to flush too (F_FULLFSYNC).
func fdatasync(f *os.File) error { return f.Sync() }

func allocate(f *os.File, sizeBytes int64) error { return f.Truncate(sizeBytes) }
