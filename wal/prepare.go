package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxFree is how many used files the pool keeps.
const maxFree = 4

// pool moves a file to FreeDir, or removes it when it would be of no use there.
func (s *segments) pool(path string, sizeBytes int64) error {
	if s.freeDir == "" || sizeBytes != s.segmentBytes {
		return s.fs.Remove(path)
	}
	names, err := s.fs.List(s.freeDir)
	if errors.Is(err, fs.ErrNotExist) {
		return s.fs.Remove(path)
	}
	if err != nil {
		return err
	}
	kept := 0
	for _, n := range names {
		if strings.HasSuffix(n, freeSuffix) {
			kept++
		}
	}
	if kept >= maxFree {
		return s.fs.Remove(path)
	}
	// Epochs may repeat, nonces do not. Within a stream a file that was given back unused may have the name already.
	base := fmt.Sprintf("%016x-%s", s.nonce, strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)))
	name := base + freeSuffix
	for i := 1; slices.Contains(names, name); i++ {
		name = fmt.Sprintf("%s-%d%s", base, i, freeSuffix)
	}
	return s.fs.Rename(path, filepath.Join(s.freeDir, name))
}

// takeFree moves a file of the right size from the pool to path, if there is one.
func (s *segments) takeFree(path string, sizeBytes int64) (bool, error) {
	if s.freeDir == "" {
		return false, nil
	}
	names, err := s.fs.List(s.freeDir)
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if !strings.HasSuffix(n, freeSuffix) {
			continue
		}
		if err := s.fs.Rename(filepath.Join(s.freeDir, n), path); errors.Is(err, fs.ErrNotExist) {
			continue // taken by another stream of this process
		} else if err != nil {
			return false, err
		}
		size, err := s.fileSize(path)
		if err != nil {
			return false, err
		}
		if size == sizeBytes {
			return true, nil
		}
		if err := s.fs.Remove(path); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (s *segments) fileSize(path string) (int64, error) {
	f, err := s.fs.Open(path, OpenRead)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return size, err
}

// prepare makes a segment file ready to be written to: zeroed or used before, with a durable header, under its final
// name. It gives up between steps when ctx is done.
//
// After each piece of zeros it calls pace, if not nil, with the time that took: a flush of the log has to wait for what
// the device holds of them.
func (s *segments) prepare(ctx context.Context, h segmentHeader, mode SyncMode, pace func(time.Duration)) (*segment, error) {
	seg := newSegment(h, s.path(h.Sequence, segmentSuffix))
	tmp := s.path(h.Sequence, tempSuffix)
	if err := s.build(ctx, tmp, h, mode, pace); err != nil {
		return nil, fmt.Errorf("wal segment %s: %w", seg.path, err)
	}
	if err := s.fs.Rename(tmp, seg.path); err != nil {
		return nil, fmt.Errorf("wal segment: %w", err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return nil, fmt.Errorf("wal segment: %w", err)
	}
	w, err := s.fs.Open(seg.path, writeFlags(mode))
	if err != nil {
		return nil, fmt.Errorf("wal segment: %w", err)
	}
	seg.w = w
	return seg, nil
}

func writeFlags(mode SyncMode) OpenFlags {
	if mode == SyncDirect {
		return OpenDirect | OpenDSync
	}
	return 0
}

func (s *segments) build(ctx context.Context, tmp string, h segmentHeader, mode SyncMode, pace func(time.Duration)) error {
	if err := s.fs.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	used, err := s.takeFree(tmp, h.SizeBytes)
	if err != nil {
		return err
	}
	flags := writeFlags(mode) &^ OpenDSync // one sync at the end is cheaper
	if !used {
		flags |= OpenCreate
	}
	err = s.buildFile(ctx, tmp, h, flags, pace)
	switch {
	case err == nil:
		return nil
	case used && errors.Is(err, ErrNoDirect):
		return errors.Join(err, s.pool(tmp, h.SizeBytes)) // nothing wrong with the file: it is wanted again in a moment
	default:
		_ = s.fs.Remove(tmp) // the first error counts; what is left here goes when the stream is removed
		return err
	}
}

func (s *segments) buildFile(ctx context.Context, tmp string, h segmentHeader, flags OpenFlags, pace func(time.Duration)) error {
	f, err := s.fs.Open(tmp, flags)
	if err != nil {
		return err
	}
	err = writeNew(ctx, f, h, flags&OpenCreate != 0, pace)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// writeNew writes the header of a new file, after filling it with zeros, so that later writes change no metadata.
func writeNew(ctx context.Context, f File, h segmentHeader, zero bool, pace func(time.Duration)) error {
	if zero {
		if err := writeZeros(ctx, f, h.SizeBytes, pace); err != nil {
			return err
		}
	}
	header := alignedBytes(blockBytes)
	h.put(header)
	if _, err := f.WriteAt(header, 0); err != nil {
		return err
	}
	if zero {
		return f.Sync()
	}
	return f.SyncData() // a used file changes in nothing else, and spares the file system a journal commit
}

func writeZeros(ctx context.Context, f File, sizeBytes int64, pace func(time.Duration)) error {
	if err := f.Allocate(sizeBytes); err != nil {
		return err
	}
	piece := int64(1 << 20)
	if pace != nil {
		piece = 256 << 10
	}
	zeros := alignedBytes(int(min(piece, sizeBytes)))
	for off := int64(0); off < sizeBytes; off += piece {
		if err := ctx.Err(); err != nil {
			return err
		}
		began := time.Now()
		if _, err := f.WriteAt(zeros[:min(piece, sizeBytes-off)], off); err != nil {
			return err
		}
		if pace != nil {
			pace(time.Since(began))
		}
	}
	return nil
}
