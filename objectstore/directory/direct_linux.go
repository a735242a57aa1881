package directory

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tidemarkmq/tidemark/objectstore"
)

const (
	// directBytes is the size from which an object bypasses the page cache. Large objects are written once and read, if at all, by
	// readers with caches of their own; through the page cache the same write costs ten times the CPU time.
	directBytes = 1 << 20
	alignBytes  = 4096
	// directWrites is how many writes of an object may be under way.
	directWrites = 2
	// directReadBytes is the length from which a range is read past the page cache.
	directReadBytes = 256 << 10
	// readBytes is how much is asked of the kernel at a time.
	readBytes = 4 << 20
)

// piece is memory for one direct write, half of a huge page: the kernel pins one page for it and not hundreds.
type piece struct {
	mem  []byte // copyBytes
	page *hugePage
}

// hugePage is memory outside the Go heap; it goes when neither of its pieces is reachable any more.
type hugePage struct{ mapped []byte }

const hugeBytes = 2 * copyBytes

var pieces sync.Pool // of *piece

func takePiece() *piece {
	if p, ok := pieces.Get().(*piece); ok {
		return p
	}
	mapped, err := unix.Mmap(-1, 0, 2*hugeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil { // no address space: then from the heap
		b := make([]byte, copyBytes+alignBytes)
		skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (alignBytes - 1)
		return &piece{mem: b[skip : skip+copyBytes : skip+copyBytes]}
	}
	page := &hugePage{mapped}
	runtime.SetFinalizer(page, func(p *hugePage) { _ = unix.Munmap(p.mapped) })
	skip := -int(uintptr(unsafe.Pointer(&mapped[0]))) & (hugeBytes - 1)
	mem := mapped[skip : skip+hugeBytes]
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // advice only
	pieces.Put(&piece{mem[copyBytes:], page})
	return &piece{mem[:copyBytes:copyBytes], page}
}

// calls are the system calls of direct transfers.
type calls struct {
	pread, pwrite func(fd int, p []byte, offset int64) (int, error)
}

var systemCalls = calls{pread: unix.Pread, pwrite: unix.Pwrite}

// setDirect makes f bypass the page cache, and returns what makes it an ordinary file again. ok is false where the file system has no
// such thing.
func setDirect(f *os.File) (undo func() error, ok bool) {
	fd := f.Fd()
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil {
		return nil, false
	}
	if _, err := unix.FcntlInt(fd, unix.F_SETFL, flags|unix.O_DIRECT); err != nil {
		return nil, false
	}
	return func() error {
		_, err := unix.FcntlInt(fd, unix.F_SETFL, flags)
		return err
	}, true
}

// writeDirect writes body to the new file without the page cache and syncs it. done is false when the file system takes no direct
// writes, or none of these: the file is then empty and to be written in the ordinary way.
func (s *Store) writeDirect(ctx context.Context, f *os.File, body objectstore.Body) (done bool, err error) {
	size := body.Size()
	if size < directBytes {
		return false, nil
	}
	undo, ok := setDirect(f)
	if !ok {
		return false, nil
	}
	w := directWriter{ctx: ctx, pwrite: s.calls.pwrite, fd: int(f.Fd()), body: body, size: size, turn: make(chan struct{}, 1)}
	var others sync.WaitGroup
	for range min(directWrites, int(size/directBytes)) - 1 {
		others.Go(w.run)
	}
	w.run()
	others.Wait()
	if w.refused {
		return false, errors.Join(undo(), f.Truncate(0))
	}
	if w.err != nil {
		return true, w.err
	}
	return true, errors.Join(f.Truncate(size), f.Sync())
}

// directWriter writes a body with several writes under way, since a disk is slow with one at a time. The body is read in order, by one
// at a time, so that it is read while other parts of it are written.
type directWriter struct {
	ctx    context.Context
	pwrite func(fd int, p []byte, offset int64) (int, error)
	fd     int
	body   objectstore.Body
	size   int64

	turn    chan struct{} // held while the body is read; a channel, since that may be I/O
	next    int64         // of the body
	stopped bool
	refused bool // the file system does not take such writes
	err     error
}

// run writes one piece after the other until there are none left or it is stopped.
func (w *directWriter) run() {
	buf := takePiece()
	defer pieces.Put(buf)
	for {
		p, offset := w.piece(buf.mem)
		if len(p) == 0 {
			return
		}
		for len(p) > 0 {
			n, err := w.pwrite(w.fd, p, offset)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.EINVAL) || err == nil && (n <= 0 || n&(alignBytes-1) != 0):
				// Blocks may be larger than alignBytes: then only the last write, which ends between two, is refused.
				w.stop(nil)
				return
			case err != nil:
				w.stop(err)
				return
			}
			p, offset = p[n:], offset+int64(n)
		}
	}
}

// piece returns what is to be written next and where; nothing: there is no more.
func (w *directWriter) piece(buf []byte) (p []byte, offset int64) {
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	if w.stopped || w.next >= w.size {
		return nil, 0
	}
	err := w.ctx.Err()
	if err == nil {
		p, err = alignedAt(w.body, w.next, buf)
	}
	if err != nil {
		w.stopped, w.err = true, err
		return nil, 0
	}
	offset = w.next
	w.next += int64(len(p))
	return p, offset
}

// stop ends the writing; a nil error says that the file system refuses it.
func (w *directWriter) stop(err error) {
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	w.stopped = true
	if err == nil {
		w.refused = true
	} else if w.err == nil {
		w.err = err
	}
}

// alignedAt returns what a direct write of the body at offset, which is aligned, takes: whole multiples of alignBytes in aligned memory,
// zeros after the body's end. It is the body's own memory where that is so, else a copy in buf.
func alignedAt(body objectstore.Body, offset int64, buf []byte) ([]byte, error) {
	if m, ok := body.(objectstore.Stretches); ok {
		p := m.Stretch(offset)
		p = p[:min(len(p), copyBytes)&^(alignBytes-1)]
		if len(p) > 0 && uintptr(unsafe.Pointer(&p[0]))&(alignBytes-1) == 0 {
			return p, nil
		}
	}
	p := buf[:min(body.Size()-offset, copyBytes)]
	if err := readBody(body, p, offset); err != nil {
		return nil, err
	}
	whole := (len(p) + alignBytes - 1) &^ (alignBytes - 1)
	clear(buf[len(p):whole])
	return buf[:whole], nil
}

// readDirect fills p from the file, which has size bytes, without the page cache: where memory, offset and length are aligned and the
// range is long. Large objects are written without the page cache, and their readers have caches of their own; through it the same read
// costs four times the CPU time and is no faster. done is false when p is to be read in the ordinary way.
func (s *Store) readDirect(ctx context.Context, f *os.File, p []byte, offset, size int64) (n int, done bool, err error) {
	if len(p) < directReadBytes || (uintptr(unsafe.Pointer(&p[0]))|uintptr(offset)|uintptr(len(p)))&(alignBytes-1) != 0 {
		return 0, false, nil
	}
	undo, ok := setDirect(f)
	if !ok {
		return 0, false, nil
	}
	for want := int(max(0, min(int64(len(p)), size-offset))); n < want; {
		if err := ctx.Err(); err != nil {
			return 0, true, err
		}
		// The last read may end at the file's end, anywhere in a block; all others begin and end at blocks.
		m, err := s.calls.pread(int(f.Fd()), p[n:min(n+readBytes, len(p))], offset+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL) || err == nil && (m <= 0 || n+m < want && (n+m)&(alignBytes-1) != 0):
			// Blocks may be larger than alignBytes, and some file systems return less than they were asked for.
			err = undo()
			return 0, err != nil, err
		case err != nil:
			return 0, true, err
		}
		n += m
	}
	if n < len(p) {
		return n, true, io.EOF
	}
	return n, true, nil
}
