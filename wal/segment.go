package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

// indexStep is the distance, in bytes, of the group starts that are remembered per segment.
const indexStep = 1 << 20

// segment is one file of a stream.
type segment struct {
	segmentHeader
	path string
	// end is the position after the last durable group in the file, or First while there is none.
	end atomic.Uint64
	w   File // for writing; the committer's. nil when recovered

	mu    sync.Mutex
	index []Position // entry i: start of the first group that begins at or after First + i·indexStep
	r     File       // for reading, opened when first needed

	// Guarded by segments.mu.
	refs int
}

func newSegment(h segmentHeader, path string) *segment {
	s := &segment{segmentHeader: h, path: path}
	s.end.Store(uint64(h.First))
	return s
}

func (s *segment) offset(pos Position) int64 { return int64(pos-s.First) + blockBytes }

// committed notes a durable group.
func (s *segment) committed(start, end Position) {
	s.mu.Lock()
	for uint64(len(s.index)) <= uint64(start-s.First)/indexStep {
		s.index = append(s.index, start)
	}
	s.mu.Unlock()
	s.end.Store(uint64(end))
}

// floor is a group start at or before pos.
func (s *segment) floor(pos Position) Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := min(int((pos-s.First)/indexStep), len(s.index)-1); i >= 0; i-- {
		if s.index[i] <= pos {
			return s.index[i]
		}
	}
	return s.First
}

// reader returns the read handle. Opening happens outside the lock; of two at once the second is closed.
func (s *segment) reader(fsys FS) (File, error) {
	s.mu.Lock()
	r := s.r
	s.mu.Unlock()
	if r != nil {
		return r, nil
	}
	f, err := fsys.Open(s.path, OpenRead)
	if err != nil {
		return nil, fmt.Errorf("wal read: %w", err)
	}
	s.mu.Lock()
	r, extra := s.r, f
	if r == nil {
		s.r, r, extra = f, f, nil
	}
	s.mu.Unlock()
	if extra != nil {
		_ = extra.Close() // read only: nothing can be lost
	}
	return r, nil
}

func (s *segment) closeReader() {
	s.mu.Lock()
	r := s.r
	s.r = nil
	s.mu.Unlock()
	if r != nil {
		_ = r.Close() // read only: nothing can be lost
	}
}

// segments are the files of one stream, in order.
type segments struct {
	fs           FS
	dir, freeDir string
	segmentBytes int64
	epoch        uint64
	seed         uint32
	nonce        uint64
	owner        [16]byte // recovery; zero: any

	mu       sync.Mutex
	list     []*segment
	dead     []*segment // trimmed, waiting for their turn and for readers
	retiring bool
}

// acquire returns the segment whose range [First, limit) holds pos, and keeps its file. nil: pos lies beyond the last.
func (s *segments) acquire(pos Position) (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.list) - 1; i >= 0; i-- {
		seg := s.list[i]
		if pos >= seg.limit() {
			return nil, nil
		}
		if pos >= seg.First {
			seg.refs++
			return seg, nil
		}
	}
	return nil, fmt.Errorf("%w: %d", ErrTrimmed, pos)
}

// refAt names the segment that holds pos.
func (s *segments) refAt(pos Position) (SegmentRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.list) - 1; i >= 0; i-- {
		if seg := s.list[i]; pos >= seg.First {
			return seg.ref(), nil
		}
	}
	return SegmentRef{}, fmt.Errorf("%w: %d", ErrTrimmed, pos)
}

// release undoes acquire. The last reader of a trimmed segment retires it.
func (s *segments) release(seg *segment) error {
	s.mu.Lock()
	seg.refs--
	due := seg.refs == 0 && len(s.dead) > 0
	s.mu.Unlock()
	if due {
		return s.retireDead()
	}
	return nil
}

func (s *segments) add(seg *segment) {
	s.mu.Lock()
	s.list = append(s.list, seg)
	s.mu.Unlock()
}

func (s *segments) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list)
}

// trim drops the segments that lie wholly below to and are not written to any more: a group beyond them is durable.
func (s *segments) trim(to, durable Position) error {
	s.mu.Lock()
	n := 0
	for n < len(s.list)-1 && s.list[n].limit() <= to && s.list[n].limit() < durable {
		n++
	}
	if n > 0 {
		s.dead = append(s.dead, s.list[:n]...)
		s.list = append([]*segment(nil), s.list[n:]...)
	}
	s.mu.Unlock()
	return s.retireDead()
}

// retireDead hands dead files to the pool, strictly oldest first, so that a crash leaves no hole; it stops at one that is
// being read. One goroutine at a time does it.
func (s *segments) retireDead() error {
	for {
		s.mu.Lock()
		if s.retiring || len(s.dead) == 0 || s.dead[0].refs > 0 {
			s.mu.Unlock()
			return nil
		}
		s.retiring = true
		seg := s.dead[0]
		s.mu.Unlock()
		err := s.retire(seg)
		s.mu.Lock()
		s.retiring = false
		if err == nil {
			s.dead = s.dead[1:]
		}
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("wal trim %s: %w", seg.path, err)
		}
	}
}

// retire takes the file out of the stream. Only when that is durable may the pool have it: the pool's next owner writes a
// new header, which must never appear under the old name. It may be called again after an error.
func (s *segments) retire(seg *segment) error {
	seg.closeReader()
	dead := strings.TrimSuffix(seg.path, segmentSuffix) + deadSuffix
	if err := s.fs.Rename(seg.path, dead); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	if err := s.pool(dead, seg.SizeBytes); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *segments) path(seq uint64, suffix string) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016x%s", seq, suffix))
}

// removeAll hands all files of the stream to the pool and removes its folder.
func (s *segments) removeAll() error {
	s.mu.Lock()
	all := append(s.dead, s.list...)
	s.dead, s.list = nil, nil
	s.mu.Unlock()
	for _, seg := range all {
		if err := s.retire(seg); err != nil {
			return fmt.Errorf("wal remove: %w", err)
		}
	}
	names, err := s.fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("wal remove: %w", err)
	}
	for _, n := range names {
		if err := s.fs.Remove(filepath.Join(s.dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("wal remove: %w", err)
		}
	}
	if err := s.fs.Remove(s.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("wal remove: %w", err)
	}
	if err := s.fs.SyncDir(filepath.Dir(s.dir)); err != nil {
		return fmt.Errorf("wal remove: %w", err)
	}
	return nil
}

func (s *segments) closeReaders() {
	s.mu.Lock()
	all := append(append([]*segment(nil), s.dead...), s.list...)
	s.mu.Unlock()
	for _, seg := range all {
		seg.closeReader()
	}
}
