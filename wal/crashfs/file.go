package crashfs

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"time"
	"unsafe"

	"github.com/tidemarkmq/tidemark/wal"
)

const (
	sectorBytes = 512
	blockBytes  = 4096
)

// inode is the content of a file. Guarded by FS.mu.
type inode struct {
	data   []byte       // as seen
	synced []byte       // as after a crash that loses all
	dirty  map[int]bool // sectors in which they differ
}

// persist makes the content of the sectors, and the size, durable.
func (n *inode) persist(sectors []int) {
	n.resizeSynced()
	for _, s := range sectors {
		from := s * sectorBytes
		if from < len(n.data) {
			copy(n.synced[from:min(from+sectorBytes, len(n.data))], n.data[from:])
		}
		delete(n.dirty, s)
	}
}

func (n *inode) resizeSynced() {
	if len(n.synced) > len(n.data) {
		n.synced = n.synced[:len(n.data)]
	} else if k := len(n.data) - len(n.synced); k > 0 {
		n.synced = append(n.synced, make([]byte, k)...)
	}
}

func (n *inode) touch(from, to int) []int {
	var sectors []int
	for s := from / sectorBytes; s*sectorBytes < to; s++ {
		n.dirty[s] = true
		sectors = append(sectors, s)
	}
	return sectors
}

type file struct {
	fs    *FS
	node  *inode
	name  string
	flags wal.OpenFlags
}

func (h *file) Close() error { return nil }

func (h *file) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.crashed {
		return 0, ErrCrashed
	}
	return int64(len(h.node.data)), nil
}

func (h *file) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.crashed {
		return 0, ErrCrashed
	}
	if off >= int64(len(h.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *file) Allocate(sizeBytes int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	crash, err := h.fs.begin(Allocate, h.name)
	if err != nil {
		return err
	}
	if err := h.resize(int(sizeBytes)); err != nil {
		return err
	}
	return crashedIf(crash)
}

// resize changes the size if there is room; mu is held.
func (h *file) resize(size int) error {
	grow := size - len(h.node.data)
	if c := h.fs.capacity; c > 0 && grow > 0 && h.fs.used()+int64(grow) > c {
		return fmt.Errorf("crashfs: %s: %w", h.name, wal.ErrFull)
	}
	if grow > 0 {
		h.node.data = append(h.node.data, make([]byte, grow)...)
	} else {
		h.node.data = h.node.data[:size]
	}
	return nil
}

func (h *file) WriteAt(p []byte, off int64) (int, error) {
	if h.flags&wal.OpenRead != 0 {
		return 0, fmt.Errorf("crashfs: %s is open for reading", h.name)
	}
	if h.flags&wal.OpenDirect != 0 && (off%blockBytes != 0 || len(p)%blockBytes != 0 || uintptr(unsafe.Pointer(&p[0]))%blockBytes != 0) {
		return 0, fmt.Errorf("crashfs: direct write to %s of %d bytes at %d is not aligned", h.name, len(p), off)
	}
	h.fs.mu.Lock()
	crash, err := h.fs.begin(Write, h.name)
	if err == ErrCrashed {
		h.fs.mu.Unlock()
		return 0, err
	}
	end := int(off) + len(p)
	if end > len(h.node.data) {
		if err := h.resize(end); err != nil {
			h.fs.mu.Unlock()
			return 0, err
		}
	}
	if err != nil {
		end = int(off) + len(p)/2 // half of it gets there
	}
	copy(h.node.data[off:end], p)
	sectors := h.node.touch(int(off), end)
	if err == nil {
		err = crashedIf(crash)
	}
	sync := h.flags&wal.OpenDSync != 0
	latency := h.fs.latency
	h.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if !sync {
		return len(p), nil
	}
	return len(p), h.settle(latency, sectors)
}

// settle makes the sectors durable after the latency, unless the crash comes first.
func (h *file) settle(latency time.Duration, sectors []int) error {
	if latency > 0 {
		time.Sleep(latency)
	}
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.crashed {
		return ErrCrashed
	}
	h.node.persist(sectors)
	return nil
}

// Sync and SyncData are the same here: both make data and size durable.
func (h *file) Sync() error { return h.SyncData() }

func (h *file) SyncData() error {
	h.fs.mu.Lock()
	crash, err := h.fs.begin(Sync, h.name)
	var sectors []int
	if err != ErrCrashed && !crash {
		for s := range h.node.dirty {
			sectors = append(sectors, s)
		}
		if err != nil {
			clear(h.node.dirty) // taken for clean, never written
		}
	}
	if err == nil {
		err = crashedIf(crash)
	}
	latency := h.fs.latency
	h.fs.mu.Unlock()
	if err != nil {
		return err
	}
	return h.settle(latency, sectors)
}

// After returns the disk as it may be found after the crash, which must have taken place: of the unsynced changes
// lossPercent get lost, by seed. Of directory changes a random number of the latest get lost; of data, random sectors of
// 512 or blocks of 4096 bytes. FS itself stays as it is, so that several outcomes of one crash can be looked at.
func (f *FS) After(lossPercent int, seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.crashed {
		panic("crashfs: After without a crash")
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	kept := len(f.pending)
	switch lossPercent {
	case 0:
	case 100:
		kept = 0
	default:
		kept = rng.IntN(kept + 1)
	}
	names := map[string]*inode{}
	for n, node := range f.durable {
		names[n] = node
	}
	for _, op := range f.pending[:kept] {
		op.apply(names)
	}
	after := New()
	for d := range f.dirs {
		after.dirs[d] = true
	}
	var sorted []string
	for n := range names {
		sorted = append(sorted, n)
	}
	sort.Strings(sorted)
	for _, n := range sorted {
		node := names[n].after(lossPercent, rng)
		after.names[n], after.durable[n] = node, node
	}
	after.noDirect = f.noDirect
	return after
}

// Fork returns a copy of the disk as it is seen now, with everything durable: what another machine has that got hold of it while the
// first one is still running.
func (f *FS) Fork() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	fork := New()
	for d := range f.dirs {
		fork.dirs[d] = true
	}
	for name, old := range f.names {
		node := &inode{data: append([]byte(nil), old.data...), synced: append([]byte(nil), old.data...), dirty: map[int]bool{}}
		fork.names[name], fork.durable[name] = node, node
	}
	fork.noDirect = f.noDirect
	return fork
}

func (n *inode) after(lossPercent int, rng *rand.Rand) *inode {
	lost := func() bool { return rng.IntN(100) < lossPercent }
	unit := 1
	if rng.IntN(2) == 0 {
		unit = blockBytes / sectorBytes
	}
	data := append([]byte(nil), n.synced...)
	if len(n.data) != len(n.synced) && !lost() {
		data = append(data, make([]byte, max(0, len(n.data)-len(data)))...)[:len(n.data)]
	}
	decided := map[int]bool{}
	var dirty []int
	for s := range n.dirty {
		dirty = append(dirty, s)
	}
	sort.Ints(dirty)
	for _, s := range dirty {
		u := s / unit
		if _, ok := decided[u]; !ok {
			decided[u] = lost()
		}
		from := s * sectorBytes
		to := min(from+sectorBytes, len(n.data), len(data))
		if !decided[u] && from < to {
			copy(data[from:to], n.data[from:to])
		}
	}
	return &inode{data: data, synced: append([]byte(nil), data...), dirty: map[int]bool{}}
}

// ReadFile returns a copy of the file's content, or nil.
func (f *FS) ReadFile(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	node := f.names[filepath.Clean(name)]
	if node == nil {
		return nil
	}
	return append([]byte(nil), node.data...)
}

// WriteFile replaces the file's content, durably and under the hands of whoever has it open; nil removes it.
func (f *FS) WriteFile(name string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if data == nil {
		delete(f.names, name)
		delete(f.durable, name)
		return
	}
	node := f.names[name]
	if node == nil {
		node = &inode{}
		f.names[name], f.durable[name] = node, node
	}
	node.data, node.synced, node.dirty = append([]byte(nil), data...), append([]byte(nil), data...), map[int]bool{}
}
