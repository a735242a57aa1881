package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"
)

func syncData(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

const (
	ceilingBytes = 1 << 20  // of a write
	ceilingFile  = 64 << 20 // of a file
)

// Ceiling measures in MB/s how fast a file that has its blocks takes direct synchronous writes, as a write-ahead log makes them, and
// how fast new files take direct writes, as objects in a folder are made; each alone, one write at a time.
func Ceiling(dir string, each time.Duration) (log, object float64, err error) {
	name := filepath.Join(dir, "ceiling")
	defer func() { err = errors.Join(err, removeIfThere(name)) }()
	f, err := openDirect(name, syscall.O_DSYNC)
	if errors.Is(err, syscall.EINVAL) {
		return 0, 0, errors.ErrUnsupported
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if _, err := fill(f); err != nil { // its blocks
		return 0, 0, err
	}
	if log, err = writeFor(each, func() (int, error) { return fill(f) }); err != nil {
		return 0, 0, err
	}
	object, err = writeFor(each, func() (int, error) {
		if err := os.Remove(name); err != nil {
			return 0, err
		}
		f, err := openDirect(name, 0)
		if err != nil {
			return 0, err
		}
		n, err := fill(f)
		return n, errors.Join(err, f.Sync(), f.Close())
	})
	return log, object, err
}

func openDirect(name string, flags int) (*os.File, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_WRONLY|syscall.O_DIRECT|flags, 0o600)
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// fill writes a file from its beginning.
func fill(f *os.File) (int, error) {
	b := make([]byte, ceilingBytes+4096)
	b = b[-int(uintptr(unsafe.Pointer(&b[0])))&4095:][:ceilingBytes]
	for i := range b {
		b[i] = byte(i * 7)
	}
	for at := 0; at < ceilingFile; at += len(b) {
		if _, err := f.WriteAt(b, int64(at)); err != nil {
			return 0, fmt.Errorf("direct write: %w", err)
		}
	}
	return ceilingFile, nil
}

func writeFor(d time.Duration, write func() (int, error)) (mbPerSecond float64, err error) {
	began, sum := time.Now(), 0
	for time.Since(began) < d {
		n, err := write()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return float64(sum) / 1e6 / time.Since(began).Seconds(), nil
}
