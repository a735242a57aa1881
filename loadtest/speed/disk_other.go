//go:build !linux

package main

import (
	"errors"
	"os"
	"time"
)

func syncData(f *os.File) error { return f.Sync() }

// diskCeiling needs direct writes.
func diskCeiling(string, time.Duration) (log, object float64, err error) {
	return 0, 0, errors.ErrUnsupported
}
