package wal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// readWindow is how much of a file is read at once, unless a group is longer.
const readWindow = 256 << 10

// fileReader reads groups of a stream from its files, one after the other. Not safe for concurrent use.
type fileReader struct {
	segs *segments
	seg  *segment // held, or nil
	file File
	buf  []byte
	base Position // of buf[0]
	n    int      // valid bytes in buf
	next Position // end of the group returned last: a group start
}

func (r *fileReader) close() error {
	seg := r.seg
	r.seg, r.file, r.n = nil, nil, 0
	if seg == nil {
		return nil
	}
	return r.segs.release(seg)
}

// enter moves to the segment that holds pos; false: there is none.
func (r *fileReader) enter(pos Position) (bool, error) {
	if r.seg != nil && pos >= r.seg.First && pos < r.seg.limit() {
		return true, nil
	}
	if err := r.close(); err != nil {
		return false, err
	}
	seg, err := r.segs.acquire(pos)
	if err != nil || seg == nil {
		return false, err
	}
	r.seg = seg
	r.file, err = seg.reader(r.segs.fs)
	return err == nil, err
}

// view returns the n bytes at pos of the current segment, reading ahead up to end.
func (r *fileReader) view(pos Position, n int, end Position) ([]byte, error) {
	if pos >= r.base && pos+Position(n) <= r.base+Position(r.n) {
		return r.buf[pos-r.base:][:n], nil
	}
	want := int(min(Position(max(n, readWindow)), end-pos))
	if want < n {
		return nil, fmt.Errorf("%d bytes at position %d end beyond %d", n, pos, end)
	}
	if cap(r.buf) < want {
		r.buf = make([]byte, max(want, min(2*cap(r.buf), maxGroupBytes)))
	}
	r.n = 0
	k, err := r.file.ReadAt(r.buf[:want], r.seg.offset(pos))
	if k < n {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("the file ends %d bytes after position %d", k, pos)
		}
		return nil, &readError{path: r.seg.path, err: err}
	}
	r.base, r.n = pos, k
	return r.buf[:n], nil
}

// header reads and checks the header of the group at start, which must end at end or before.
func (r *fileReader) header(start, end Position) (groupHeader, error) {
	if end-start < blockBytes {
		return groupHeader{}, errNoGroup
	}
	b, err := r.view(start, groupHeaderBytes, end)
	if err != nil {
		return groupHeader{}, err
	}
	h, err := parseGroupHeader(b, r.segs.seed, r.segs.epoch, start)
	if err == nil && h.end() > end {
		err = fmt.Errorf("group header at %d: ends at %d, beyond %d", start, h.end(), end)
	}
	return h, err
}

// group reads and checks the whole group at start.
func (r *fileReader) group(start, end Position) (groupHeader, []byte, error) {
	h, err := r.header(start, end)
	if err != nil {
		return h, nil, err
	}
	b, err := r.view(start, int(h.Length), end)
	if err != nil {
		return h, nil, err
	}
	return h, b, checkGroup(b, h, true)
}

// groupAfter returns the first durable group that ends after pos; a nil slice: there is none.
func (r *fileReader) groupAfter(pos Position) (groupHeader, []byte, error) {
	for {
		ok, err := r.enter(pos)
		if err != nil || !ok {
			return groupHeader{}, nil, err
		}
		end := Position(r.seg.end.Load())
		start := r.seg.floor(pos)
		if r.next > start && r.next <= pos {
			start = r.next
		}
		for start < end {
			h, err := r.header(start, end)
			if err == nil && h.end() > pos {
				var b []byte
				if h, b, err = r.group(start, end); err == nil {
					r.next = h.end()
					return h, b, nil
				}
			}
			if err != nil {
				return h, nil, unreadable(r.seg, start, end, err)
			}
			start = h.end()
		}
		pos = r.seg.limit()
	}
}

// readError is a failure of the file system, as opposed to content that is not what was written.
type readError struct {
	path string
	err  error
}

func (e *readError) Error() string { return "wal read " + e.path + ": " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// unreadable turns the failure to read what was durable into a CorruptionError, unless it was the reading that failed.
func unreadable(seg *segment, pos, durable Position, err error) error {
	var failed *readError
	if errors.As(err, &failed) {
		return err
	}
	return &CorruptionError{Path: seg.path, Position: pos, Promised: durable, Reason: err.Error()}
}

var entryHeaders = sync.Pool{New: func() any { return new([entryHeaderBytes]byte) }}

// readEntry reads the data of the entry at pos, whose length is len(p).
func (s *segments) readEntry(ctx context.Context, pos Position, p []byte) (err error) {
	if err := stopIfDone(ctx); err != nil {
		return err
	}
	seg, err := s.acquire(pos)
	if err != nil {
		return err
	}
	if seg == nil {
		return fmt.Errorf("wal read: position %d is beyond the end", pos)
	}
	defer func() {
		if rerr := s.release(seg); err == nil {
			err = rerr
		}
	}()
	end := Position(seg.end.Load())
	if pos < seg.First+groupHeaderBytes+entryHeaderBytes || pos > end || Position(len(p)) > end-pos {
		return fmt.Errorf("wal read: no durable entry of %d bytes at position %d", len(p), pos)
	}
	f, err := seg.reader(s.fs)
	if err != nil {
		return err
	}
	eh := entryHeaders.Get().(*[entryHeaderBytes]byte)
	defer entryHeaders.Put(eh)
	if _, err := f.ReadAt(eh[:], seg.offset(pos)-entryHeaderBytes); err != nil {
		return fmt.Errorf("wal read %s: %w", seg.path, err)
	}
	if n := le.Uint32(eh[:]); int64(n) != int64(len(p)) {
		return fmt.Errorf("wal read: the entry at position %d has %d bytes, not %d (or there is none)", pos, n, len(p))
	}
	if _, err := f.ReadAt(p, seg.offset(pos)); err != nil {
		return fmt.Errorf("wal read %s: %w", seg.path, err)
	}
	if crc32.Checksum(p, castagnoli) != le.Uint32(eh[4:]) {
		return &CorruptionError{Path: seg.path, Position: pos, Promised: end, Reason: "CRC mismatch of an entry"}
	}
	return nil
}

// ReadEntry fills p with the data of the durable entry at pos, as Ref and Entry name it; len(p) must be the entry's
// length. It reads from the files, and checks the CRC: *CorruptionError says that it does not fit. ErrTrimmed says that
// the file is gone.
func (l *Log) ReadEntry(ctx context.Context, pos Position, p []byte) error {
	return l.segs.readEntry(ctx, pos, p)
}

// Scan calls fn for the written entries whose data begins in [from, to), in order, from memory where they are still
// there and from the files otherwise. to must not be beyond Written; from need not be the position of an entry. An error
// of fn ends the scan and is returned as it is. Memory is pinned only while fn runs.
func (l *Log) Scan(ctx context.Context, from, to Position, fn func(Entry) error) error {
	if written := l.Written(); to > written {
		return fmt.Errorf("wal scan to %d: only durable up to %d", to, written)
	}
	return l.segs.scan(ctx, from, to, fn, func(pos Position) (Position, error) {
		l.mu.Lock()
		x, ok := l.extents.find(pos)
		l.mu.Unlock()
		if !ok || !x.slab.pin(x.gen) {
			return pos, nil
		}
		defer x.slab.unpin()
		return x.end(), scanMemory(x, from, to, fn)
	})
}

// scan walks the stream by group: first fromMemory gets a chance at the group after pos and returns its end, or pos; else
// it is read from its file.
func (s *segments) scan(ctx context.Context, from, to Position, fn scanFunc, fromMemory func(Position) (Position, error)) (err error) {
	r := fileReader{segs: s}
	defer func() {
		if cerr := r.close(); err == nil {
			err = cerr
		}
	}()
	for pos := from; pos < to; {
		if err := stopIfDone(ctx); err != nil {
			return err
		}
		if fromMemory != nil {
			end, err := fromMemory(pos)
			if err != nil {
				return err
			}
			if end > pos {
				pos = end
				continue
			}
		}
		h, b, err := r.groupAfter(pos)
		if err != nil || b == nil {
			return err
		}
		if err := eachEntry(b, h, from, to, fn); err != nil {
			return err
		}
		pos = h.end()
	}
	return nil
}

// scanMemory walks a pinned group. Its header is what the committer wrote, so it needs no checks.
func scanMemory(x extent, from, to Position, fn scanFunc) error {
	b := x.slab.buf[x.off : x.off+x.length]
	h := groupHeader{Position: x.pos, Length: uint32(x.length), Entries: le.Uint32(b[52:])}
	return eachEntryIn(x, b, h, from, to, fn)
}
