package wal

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Dump prints what a segment file, or all segment files of a stream's folder, hold: one line per segment, group and
// entry, and one per run of blocks without a group. Damage is printed, not an error; errors are those of reading and of w.
func Dump(w io.Writer, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("wal dump: %w", err)
	}
	paths := []string{path}
	if st.IsDir() {
		names, err := OSFS().List(path)
		if err != nil {
			return fmt.Errorf("wal dump: %w", err)
		}
		paths = paths[:0]
		for _, n := range names {
			if strings.HasSuffix(n, segmentSuffix) {
				paths = append(paths, filepath.Join(path, n))
			}
		}
	}
	out := bufio.NewWriter(w)
	for _, p := range paths {
		if err := dumpFile(out, p); err != nil {
			return fmt.Errorf("wal dump %s: %w", p, err)
		}
	}
	return out.Flush()
}

func dumpFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return dumpSegment(w, filepath.Base(path), f, st.Size())
}

// dumper prints one segment. Where the segment header is damaged, group headers are taken at their word.
type dumper struct {
	w      io.Writer
	r      io.ReaderAt
	h      segmentHeader
	headed bool
	buf    []byte

	gapFrom, gapTo int64 // file offsets of blocks without a group, not printed yet
	stale          int   // of them, with a group header that is not this stream's
	err            error
}

func (d *dumper) printf(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format, args...)
	}
}

func dumpSegment(w io.Writer, name string, r io.ReaderAt, size int64) error {
	d := &dumper{w: w, r: r, buf: make([]byte, min(size, maxGroupBytes))}
	if err := d.read(0, min(size, blockBytes)); err != nil {
		return err
	}
	h, err := parseSegmentHeader(d.buf[:min(size, blockBytes)])
	if err != nil {
		d.printf("segment %s bytes=%d damaged: %v\n", name, size, err)
	} else {
		d.h, d.headed = h, true
		d.printf("segment %s bytes=%d version=%d epoch=%d sequence=%d first=%d size=%d nonce=%016x owner=%x crc=ok\n",
			name, size, formatVersion, h.Epoch, h.Sequence, h.First, h.SizeBytes, h.Nonce, h.Owner)
	}
	for off := int64(blockBytes); off+groupHeaderBytes <= size && d.err == nil; {
		n, err := d.group(off, size)
		if err != nil {
			return err
		}
		off += n
	}
	d.flushGap()
	return d.err
}

func (d *dumper) read(off, n int64) error {
	if _, err := d.r.ReadAt(d.buf[:n], off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// group prints the group at off, if there is one, and returns how far to go on.
func (d *dumper) group(off, size int64) (int64, error) {
	if err := d.read(off, groupHeaderBytes); err != nil {
		return 0, err
	}
	b := d.buf[:groupHeaderBytes]
	at, epoch, seed := d.h.First+Position(off-blockBytes), d.h.Epoch, d.h.seed()
	if !d.headed {
		at, epoch = Position(le.Uint64(b[32:])), le.Uint64(b[16:])
	}
	h, err := parseGroupHeader(b, seed, epoch, at)
	crc := "ok"
	if !d.headed && errors.Is(err, errStaleGroup) && h.checkBounds() == nil {
		crc, err = "unchecked", nil
	}
	if err != nil || off+int64(h.Length) > size {
		d.gap(off, errors.Is(err, errStaleGroup))
		return blockBytes, nil
	}
	d.flushGap()
	if err := d.read(off, int64(h.Length)); err != nil {
		return 0, err
	}
	b = d.buf[:h.Length]
	d.printf("group pos=%d sequence=%d bytes=%d content=%d entries=%d promised=%d link=%08x crc=%08x/%s",
		h.Position, h.Sequence, h.Length, h.Content, h.Entries, h.Promised, h.Link, h.CRC, crc)
	if err := checkGroup(b, h, false); err != nil {
		d.printf(" damaged: %v\n", err)
		return int64(h.Length), nil
	}
	d.printf(" entries-crc=ok\n")
	if err := eachEntry(b, h, 0, h.end(), d.entry(b, h)); err != nil {
		return 0, err
	}
	return int64(h.Length), nil
}

func (d *dumper) entry(b []byte, h groupHeader) scanFunc {
	return func(e Entry) error {
		crc := le.Uint32(b[e.Pos-h.Position-entryHeaderBytes+4:])
		state := "ok"
		if crc32.Checksum(e.Data, castagnoli) != crc {
			state = "MISMATCH"
		}
		d.printf("entry pos=%d len=%d crc=%08x/%s\n", e.Pos, len(e.Data), crc, state)
		return d.err
	}
}

func (d *dumper) gap(off int64, stale bool) {
	if d.gapTo == 0 {
		d.gapFrom = off
	}
	d.gapTo = off + blockBytes
	if stale {
		d.stale++
	}
}

func (d *dumper) flushGap() {
	if d.gapTo > 0 {
		d.printf("unused offset=%d bytes=%d stale-groups=%d\n", d.gapFrom, d.gapTo-d.gapFrom, d.stale)
	}
	d.gapFrom, d.gapTo, d.stale = 0, 0, 0
}
