//go:build unix

package directory

import (
	"io/fs"
	"syscall"
)

// linkCount returns how many names the file has.
func linkCount(file fs.FileInfo) (uint64, bool) {
	stat, ok := file.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(stat.Nlink), true //nolint:unconvert // it has another type on other systems
}
