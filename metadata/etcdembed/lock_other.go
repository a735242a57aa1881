//go:build !unix

package etcdembed

import (
	"os"
	"path/filepath"
)

// lockDir opens the lock file; without flock only etcd's own locks protect the folder.
func lockDir(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
}
