//go:build !linux

package disk

import (
	"errors"
	"os"
	"time"
)

func syncData(f *os.File) error { return f.Sync() }

// Ceiling needs direct writes.
func Ceiling(string, time.Duration) (log, object float64, err error) {
	return 0, 0, errors.ErrUnsupported
}
