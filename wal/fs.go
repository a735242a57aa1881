package wal

import "io"

// OpenFlags qualify FS.Open.
type OpenFlags uint8

const (
	// OpenRead opens for reading only, through the page cache. Without it the file is opened for reading and writing.
	OpenRead OpenFlags = 1 << iota
	// OpenCreate makes the file, which must not exist.
	OpenCreate
	// OpenDirect bypasses the page cache: memory, offset and length of each access are multiples of 4096.
	OpenDirect
	// OpenDSync returns from each write when its data is durable.
	OpenDSync
)

// FS is the file system as the log uses it. Names are paths. All methods may be called concurrently. An error for want
// of room wraps ErrFull; Open, and the first write, with OpenDirect wrap ErrNoDirect where that is not supported; a
// missing file is fs.ErrNotExist.
type FS interface {
	// MkdirAll makes the folder and its parents, durably.
	MkdirAll(dir string) error
	Open(name string, flags OpenFlags) (File, error)
	// Remove removes a file or an empty folder.
	Remove(name string) error
	// Rename moves a file atomically, replacing none; durable after SyncDir of both folders.
	Rename(from, to string) error
	// List returns the names of the folder's files, sorted, without the folder's path.
	List(dir string) ([]string, error)
	// SyncDir makes the folder's entries durable.
	SyncDir(dir string) error
}

// File is an open file. ReadAt and WriteAt may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Allocate sets the size, reserving room for it where the file system can.
	Allocate(sizeBytes int64) error
	// Sync makes data and metadata durable.
	Sync() error
	// SyncData makes data durable, and the size if it changed.
	SyncData() error
	Size() (int64, error)
}
