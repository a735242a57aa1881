// Package disk measures what the disk of a folder allows, so that load tests can say how near to it a broker comes.
package disk

import (
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	diskBytes  = 4 << 10
	diskWrites = 400
	diskFile   = 4 << 20
)

// SyncLatency is the median time of writing 4 KiB in a file that has its blocks and syncing it.
func SyncLatency(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "disk"))
	if err != nil {
		return 0, err
	}
	defer func() {
		f.Close()
		_ = os.Remove(f.Name()) // its folder goes soon after
	}()
	if _, err := f.Write(make([]byte, diskFile)); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	block := make([]byte, diskBytes)
	took := make([]time.Duration, 0, diskWrites)
	for i := range diskWrites {
		block[0] = byte(i)
		began := time.Now()
		if _, err := f.WriteAt(block, int64(i)*diskBytes%diskFile); err != nil {
			return 0, err
		}
		if err := syncData(f); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}
