package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
)

// Recovered is a stream whose writer is gone, to be read only. All methods may be called concurrently.
type Recovered struct {
	segs       *segments
	start, end Position
}

// Recover finds what a stream in Options.Dir holds; it writes nothing. It reads all files once and checks every CRC. A
// torn tail, which only unacknowledged entries can be in, is left out and logged. Bytes that must have been durable and
// are not what was written, or a missing file, are a *CorruptionError. A folder that is not there is fs.ErrNotExist; one
// without segments holds the empty stream. Of the options FS, Dir, FreeDir, Epoch (0: any),
// Owner (zero: any), SegmentBytes and Logger count.
func Recover(o Options) (*Recovered, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	r := &Recovered{segs: &segments{fs: o.FS, dir: o.Dir, freeDir: o.FreeDir, segmentBytes: o.SegmentBytes, epoch: o.Epoch, owner: o.Owner}}
	v := &recovery{segs: r.segs, logger: o.Logger}
	err := v.load()
	if err == nil {
		err = v.walk()
	}
	if err != nil {
		r.segs.closeReaders()
		return nil, err
	}
	if len(r.segs.list) > 0 {
		r.start, r.end = r.segs.list[0].First, v.end
	}
	return r, nil
}

// recovery is the walk from the first retained segment on.
type recovery struct {
	segs   *segments
	logger *slog.Logger
	reader fileReader

	known    bool   // sequence and link are to be expected
	sequence uint64 // of the next group
	link     uint32
	end      Position
}

// load reads the segment headers and checks that the files follow each other.
func (v *recovery) load() error {
	s := v.segs
	names, err := s.fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("wal recover: %w", err)
	}
	for _, n := range names {
		seq, err := strconv.ParseUint(strings.TrimSuffix(n, segmentSuffix), 16, 64)
		if err != nil || !strings.HasSuffix(n, segmentSuffix) {
			continue // being prepared, or trimmed
		}
		path := filepath.Join(s.dir, n)
		var last *segment
		if len(s.list) > 0 {
			last = s.list[len(s.list)-1]
			if seq != last.Sequence+1 {
				return &CorruptionError{Path: s.path(last.Sequence+1, segmentSuffix), Position: last.limit(), Reason: "segment missing"}
			}
		}
		h, err := v.loadHeader(path, seq, last)
		if err != nil {
			return err
		}
		s.list = append(s.list, newSegment(*h, path))
	}
	return nil
}

// loadHeader returns the header of the segment after last. A header is durable before the file has its name, so that a
// crash cannot tear it: damage here is rot, even if the file should have been prepared only and not used yet.
func (v *recovery) loadHeader(path string, seq uint64, last *segment) (*segmentHeader, error) {
	s := v.segs
	f, err := s.fs.Open(path, OpenRead)
	if err != nil {
		return nil, fmt.Errorf("wal recover: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("wal recover %s: %w", path, err)
	}
	b := make([]byte, min(size, blockBytes))
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		return nil, fmt.Errorf("wal recover %s: %w", path, err)
	}
	first := Position(0)
	if last != nil {
		first = last.limit()
	}
	h, err := parseSegmentHeader(b)
	switch {
	case err != nil:
	case s.owner != [16]byte{} && h.Owner != s.owner:
		return nil, fmt.Errorf("wal recover %s: %w", path, ErrForeign)
	case h.Sequence != seq:
		err = fmt.Errorf("segment header: sequence %d in file %d", h.Sequence, seq)
	case s.epoch != 0 && h.Epoch != s.epoch:
		err = fmt.Errorf("segment header: epoch %d, want %d", h.Epoch, s.epoch)
	case last != nil && (h.Nonce != last.Nonce || h.First != first):
		err = fmt.Errorf("segment header: first position %d, want %d, or another stream's nonce", h.First, first)
	case size < h.SizeBytes:
		err = fmt.Errorf("segment of %d bytes, want %d", size, h.SizeBytes)
	default:
		s.epoch, s.seed, s.nonce = h.Epoch, h.seed(), h.Nonce
		return &h, nil
	}
	return nil, &CorruptionError{Path: path, Position: first, Reason: err.Error()}
}

// walk follows the chain of groups through the files to its first break, and then makes sure that the break is a torn tail.
func (v *recovery) walk() error {
	list := v.segs.list
	if len(list) == 0 {
		return nil
	}
	rest, err := v.chain()
	if err != nil {
		return err
	}
	v.reader = fileReader{segs: v.segs}
	defer func() { _ = v.reader.close() }() // nothing is trimmed here, so nothing can fail
	return v.checkTail(rest, v.end)
}

// chain follows the groups through the files and returns those from the break on.
func (v *recovery) chain() (rest []*segment, err error) {
	list := v.segs.list
	v.reader = fileReader{segs: v.segs}
	defer func() { _ = v.reader.close() }() // nothing is trimmed here, so nothing can fail
	if list[0].Sequence == firstSegmentSeq {
		v.known, v.sequence, v.link = true, firstGroupSequence, v.segs.seed
	}
	v.end = list[0].First
	broken := 0
	for i, seg := range list {
		stop, err := v.walkSegment(seg)
		if err != nil {
			return nil, err
		}
		if stop > seg.First {
			v.end, broken = stop, i
		} else if i > 0 || seg.Sequence != firstSegmentSeq {
			break // the rest is unused, or the chain is broken; only the first segment of all can be too small for any group
		}
	}
	return list[broken:], nil
}

// walkSegment returns where the chain ends in this segment.
func (v *recovery) walkSegment(seg *segment) (Position, error) {
	pos := seg.First
	if _, err := v.reader.enter(pos); err != nil {
		return 0, err
	}
	for pos < seg.limit() {
		h, _, err := v.reader.group(pos, seg.limit())
		var failed *readError
		if errors.As(err, &failed) {
			return 0, err
		}
		if err != nil || v.known && (h.Sequence != v.sequence || h.Link != v.link) {
			break
		}
		v.known, v.sequence, v.link = true, h.Sequence+1, h.CRC
		seg.committed(pos, h.end())
		pos = h.end()
	}
	return pos, nil
}

// checkTail looks behind the break for a group of this stream that says that something behind the break was durable.
// Then the break is rot. Otherwise everything behind it was never acknowledged.
func (v *recovery) checkTail(list []*segment, broken Position) error {
	torn := int64(0)
	for _, seg := range list {
		pos := max(broken, seg.First)
		if _, err := v.reader.enter(pos); err != nil {
			return err
		}
		for pos < seg.limit() {
			h, err := v.reader.header(pos, seg.limit())
			var failed *readError
			switch {
			case errors.As(err, &failed):
				return err
			case err != nil:
				pos += blockBytes
				continue
			case h.Promised > broken:
				return &CorruptionError{
					Path: list[0].path, Position: broken, Promised: h.Promised,
					Reason: fmt.Sprintf("group %d at %d is there, what comes before it is not", h.Sequence, h.Position),
				}
			}
			torn += int64(h.Length)
			pos = h.end()
		}
	}
	if torn > 0 {
		v.logger.Info("wal: torn tail left out", "dir", v.segs.dir, "end", broken, "bytes", torn)
	}
	return nil
}

// Start is the first position of the first file that is still there.
func (r *Recovered) Start() Position { return r.start }

// End is the position after the last whole group: everything that was acknowledged lies before it.
func (r *Recovered) End() Position { return r.end }

// Epoch is the stream's; 0 if it has no segment and Options said nothing.
func (r *Recovered) Epoch() uint64 { return r.segs.epoch }

// Scan is Log.Scan, from the files; to must not be beyond End.
func (r *Recovered) Scan(ctx context.Context, from, to Position, fn func(Entry) error) error {
	if to > r.end {
		return fmt.Errorf("wal scan to %d: the stream ends at %d", to, r.end)
	}
	return r.segs.scan(ctx, from, to, fn, nil)
}

// ReadEntry is Log.ReadEntry.
func (r *Recovered) ReadEntry(ctx context.Context, pos Position, p []byte) error {
	return r.segs.readEntry(ctx, pos, p)
}

// Close closes the files.
func (r *Recovered) Close() error {
	r.segs.closeReaders()
	return nil
}

// Remove hands the segment files to FreeDir and deletes the folder, when everything in the stream is safe elsewhere.
func (r *Recovered) Remove() error { return r.segs.removeAll() }
