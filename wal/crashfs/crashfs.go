// Package crashfs is a file system in memory for tests of what must survive a crash. It knows what is synced, per sector
// and per directory entry, can be stopped at any operation, and then yields the disk as it may look after a restart, with
// none, some or all of the unsynced changes. It can fail operations, run out of space and take its time.
package crashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/wal"
)

// ErrCrashed is what every operation returns after the crash.
var ErrCrashed = errors.New("crashfs: crashed")

// Kind is a kind of operation that changes something.
type Kind string

// The kinds. Opening and reading are not among them.
const (
	Create   Kind = "create"
	Allocate Kind = "allocate"
	Write    Kind = "write"
	Sync     Kind = "sync"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	SyncDir  Kind = "syncdir"
)

// Op is an operation about to take place.
type Op struct {
	N    int // counted from 1
	Kind Kind
	Name string
}

// FS is the file system; use New. It implements wal.FS. All methods may be called concurrently.
type FS struct {
	mu       sync.Mutex
	dirs     map[string]bool
	names    map[string]*inode // as seen
	durable  map[string]*inode // as after a crash that loses all
	pending  []dirOp           // the difference, in order
	ops      int
	crashAt  int
	crashed  bool
	gone     chan struct{} // closed at the crash
	noDirect bool
	fault    func(Op) error
	capacity int64
	latency  time.Duration
}

// dirOp changes the names of one file.
type dirOp struct {
	from, to string // one may be empty
	node     *inode
}

func (o dirOp) apply(names map[string]*inode) {
	if o.from != "" && names[o.from] == o.node {
		delete(names, o.from)
	}
	if o.to != "" {
		names[o.to] = o.node
	}
}

func (o dirOp) touches(dir string) bool {
	return o.from != "" && filepath.Dir(o.from) == dir || o.to != "" && filepath.Dir(o.to) == dir
}

// New returns an empty file system of unbounded capacity.
func New() *FS {
	return &FS{
		dirs: map[string]bool{"/": true, ".": true}, names: map[string]*inode{}, durable: map[string]*inode{}, gone: make(chan struct{}),
	}
}

// SetDirect says whether OpenDirect is supported, as it is at first.
func (f *FS) SetDirect(ok bool) { f.set(func() { f.noDirect = !ok }) }

// SetLatency makes each sync, and each write with OpenDSync, take this long.
func (f *FS) SetLatency(d time.Duration) { f.set(func() { f.latency = d }) }

// SetCapacity bounds the sum of all file sizes; 0 means no bound.
func (f *FS) SetCapacity(sizeBytes int64) { f.set(func() { f.capacity = sizeBytes }) }

// SetFault makes an operation fail when fn returns an error for it. fn is called with a lock held. A failed write has
// changed some of its sectors; a failed sync has lost what it should have synced, though it still reads back.
func (f *FS) SetFault(fn func(Op) error) { f.set(func() { f.fault = fn }) }

// CrashAt crashes in the middle of the nth operation: it has happened, but is not synced, and nobody hears of it.
func (f *FS) CrashAt(n int) { f.set(func() { f.crashAt = n }) }

// Crash crashes now.
func (f *FS) Crash() { f.set(f.crash) }

// Crashed is closed at the crash, so that a test can end the rest of the machine too.
func (f *FS) Crashed() <-chan struct{} { return f.gone }

// crash is called with mu held.
func (f *FS) crash() {
	if !f.crashed {
		f.crashed = true
		close(f.gone)
	}
}

func (f *FS) set(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

// Ops is how many operations took place.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Used is the sum of all file sizes.
func (f *FS) Used() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used()
}

func (f *FS) used() int64 {
	n := int64(0)
	for _, node := range f.names {
		n += int64(len(node.data))
	}
	return n
}

// begin counts an operation; mu is held. crash says that it shall take place and then report ErrCrashed.
func (f *FS) begin(kind Kind, name string) (crash bool, err error) {
	if f.crashed {
		return false, ErrCrashed
	}
	f.ops++
	if f.ops == f.crashAt {
		f.crash()
		return true, nil
	}
	if f.fault != nil {
		if err := f.fault(Op{N: f.ops, Kind: kind, Name: name}); err != nil {
			return false, fmt.Errorf("crashfs: %s %s: %w", kind, name, err)
		}
	}
	return false, nil
}

func crashedIf(crash bool) error {
	if crash {
		return ErrCrashed
	}
	return nil
}

func (f *FS) change(op dirOp) {
	op.apply(f.names)
	f.pending = append(f.pending, op)
}

// MkdirAll implements wal.FS. Folders are durable at once.
func (f *FS) MkdirAll(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	for dir = filepath.Clean(dir); !f.dirs[dir]; dir = filepath.Dir(dir) {
		f.dirs[dir] = true
	}
	return nil
}

// Open implements wal.FS.
func (f *FS) Open(name string, flags wal.OpenFlags) (wal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if f.crashed {
		return nil, ErrCrashed
	}
	if f.noDirect && flags&wal.OpenDirect != 0 {
		return nil, fmt.Errorf("crashfs: open %s: %w", name, wal.ErrNoDirect)
	}
	node := f.names[name]
	if flags&wal.OpenCreate == 0 {
		if node == nil {
			return nil, fmt.Errorf("crashfs: open %s: %w", name, fs.ErrNotExist)
		}
		return &file{fs: f, node: node, name: name, flags: flags}, nil
	}
	if node != nil {
		return nil, fmt.Errorf("crashfs: create %s: %w", name, fs.ErrExist)
	}
	if !f.dirs[filepath.Dir(name)] {
		return nil, fmt.Errorf("crashfs: create %s: %w", name, fs.ErrNotExist)
	}
	crash, err := f.begin(Create, name)
	if err != nil {
		return nil, err
	}
	node = &inode{dirty: map[int]bool{}}
	f.change(dirOp{to: name, node: node})
	if crash {
		return nil, ErrCrashed
	}
	return &file{fs: f, node: node, name: name, flags: flags}, nil
}

// Remove implements wal.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if f.crashed {
		return ErrCrashed
	}
	if f.dirs[name] {
		for n := range f.names {
			if filepath.Dir(n) == name {
				return fmt.Errorf("crashfs: remove %s: not empty", name)
			}
		}
		delete(f.dirs, name)
		return nil
	}
	node := f.names[name]
	if node == nil {
		return fmt.Errorf("crashfs: remove %s: %w", name, fs.ErrNotExist)
	}
	crash, err := f.begin(Remove, name)
	if err != nil {
		return err
	}
	f.change(dirOp{from: name, node: node})
	return crashedIf(crash)
}

// Rename implements wal.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	if f.crashed {
		return ErrCrashed
	}
	node := f.names[from]
	if node == nil {
		return fmt.Errorf("crashfs: rename %s: %w", from, fs.ErrNotExist)
	}
	if f.names[to] != nil {
		return fmt.Errorf("crashfs: rename to %s: %w", to, fs.ErrExist)
	}
	crash, err := f.begin(Rename, from)
	if err != nil {
		return err
	}
	f.change(dirOp{from: from, to: to, node: node})
	return crashedIf(crash)
}

// List implements wal.FS.
func (f *FS) List(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir = filepath.Clean(dir)
	if f.crashed {
		return nil, ErrCrashed
	}
	if !f.dirs[dir] {
		return nil, fmt.Errorf("crashfs: list %s: %w", dir, fs.ErrNotExist)
	}
	var names []string
	for n := range f.names {
		if filepath.Dir(n) == dir {
			names = append(names, filepath.Base(n))
		}
	}
	sort.Strings(names)
	return names, nil
}

// Folders returns the names of the folders in dir, sorted, without its path.
func (f *FS) Folders(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir = filepath.Clean(dir)
	if f.crashed {
		return nil, ErrCrashed
	}
	if !f.dirs[dir] {
		return nil, fmt.Errorf("crashfs: list %s: %w", dir, fs.ErrNotExist)
	}
	var names []string
	for d := range f.dirs {
		if d != dir && filepath.Dir(d) == dir {
			names = append(names, filepath.Base(d))
		}
	}
	sort.Strings(names)
	return names, nil
}

// SyncDir implements wal.FS. It makes the changes in this folder durable, with what these files went through before, and
// no others.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	dir = filepath.Clean(dir)
	crash, err := f.begin(SyncDir, dir)
	if err == nil {
		err = crashedIf(crash)
	}
	latency := f.latency
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if latency > 0 {
		time.Sleep(latency)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	last := map[*inode]int{} // of its operations that touch dir
	for i, op := range f.pending {
		if op.touches(dir) {
			last[op.node] = i
		}
	}
	var rest []dirOp
	for i, op := range f.pending {
		if n, ok := last[op.node]; ok && i <= n {
			op.apply(f.durable)
		} else {
			rest = append(rest, op)
		}
	}
	f.pending = rest
	return nil
}
