package broker

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemarkmq/tidemark/wal"
)

const (
	lockFile     = "lock"
	identityFile = "identity"
	walFolder    = "wal"
	freeFolder   = "free" // in walFolder: used segment files
	etcdFolder   = "etcd"
	tokenBytes   = 16
)

// dataDir is the broker's folder. While it is open no other process can open it: the lock is the kernel's and ends with the
// process, however that ends.
type dataDir struct {
	path string
	// token identifies the folder for ever. A broker that registers with the token of a registration still in etcd is the same
	// one, started again: the lock proves that its former process is gone.
	token string
	lock  io.Closer
	// files is the file system that the folder is in, and walFolders lists the folders of WAL streams there by their names.
	files      wal.FS
	walFolders func() ([]string, error)
}

// errLocked says that another process has the folder.
var errLocked = errors.New("in use by another process")

func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(filepath.Join(path, walFolder), 0o750); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := lockExclusively(lock); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s: %w", path, err), lock.Close())
	}
	token, err := readOrMakeToken(filepath.Join(path, identityFile))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data folder: %w", err), lock.Close())
	}
	d := &dataDir{path: path, token: token, lock: lock, files: wal.OSFS()}
	d.walFolders = func() ([]string, error) { return subfolders(d.wal()) }
	return d, nil
}

// subfolders lists the folders of WAL streams.
func subfolders(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d *dataDir) close() error { return d.lock.Close() }

func (d *dataDir) wal() string { return filepath.Join(d.path, walFolder) }

// removeWAL removes the folder of a WAL stream with all its files. A folder that is not there is no error.
func (d *dataDir) removeWAL(name string) error {
	path := filepath.Join(d.wal(), name)
	files, err := d.files.List(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := d.files.Remove(filepath.Join(path, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.files.Remove(path)
}

func readOrMakeToken(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err == nil {
		token := strings.TrimSpace(string(text))
		if raw, err := hex.DecodeString(token); err != nil || len(raw) != tokenBytes {
			return "", fmt.Errorf("%s does not hold the identity of a data folder", name)
		}
		return token, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, tokenBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	token := hex.EncodeToString(raw)
	return token, writeDurably(name, []byte(token+"\n"))
}

// writeDurably makes a small file that is there as a whole or not at all.
func writeDurably(name string, content []byte) error {
	temp := name + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
