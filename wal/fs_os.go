package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
)

// OSFS returns the operating system's file system. On Linux it takes OpenDirect where the file system below does;
// elsewhere OpenDirect fails with ErrNoDirect and logs fall back to SyncData.
func OSFS() FS { return osFS{} }

type osFS struct{}

func (osFS) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := (osFS{}).MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return osError(err)
	}
	return syncDir(parent)
}

func (osFS) Open(name string, flags OpenFlags) (File, error) {
	mode := os.O_RDWR
	if flags&OpenRead != 0 {
		mode = os.O_RDONLY
	}
	if flags&OpenCreate != 0 {
		mode |= os.O_CREATE | os.O_EXCL
	}
	extra, err := osOpenFlags(flags)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	f, err := os.OpenFile(name, mode|extra, 0o644)
	if err != nil {
		return nil, directError(osError(err), flags)
	}
	return &osFile{f: f, flags: flags}, nil
}

func (osFS) Remove(name string) error     { return osError(os.Remove(name)) }
func (osFS) Rename(from, to string) error { return osError(os.Rename(from, to)) }
func (osFS) SyncDir(dir string) error     { return syncDir(dir) }

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, osError(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

type osFile struct {
	f     *os.File
	flags OpenFlags
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }
func (f *osFile) Close() error                            { return f.f.Close() }
func (f *osFile) Sync() error                             { return osError(f.f.Sync()) }
func (f *osFile) SyncData() error                         { return osError(fdatasync(f.f)) }
func (f *osFile) Allocate(sizeBytes int64) error          { return osError(allocate(f.f, sizeBytes)) }

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	if err != nil {
		return n, directError(osError(err), f.flags)
	}
	return n, nil
}

func (f *osFile) Size() (int64, error) {
	st, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// osError marks errors for want of room.
func osError(err error) error {
	if err != nil && isNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
