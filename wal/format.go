package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The on-disk format, version 1; FORMAT.md is its page.
const (
	blockBytes         = 4096 // alignment of groups and of direct I/O; length of a segment header
	groupHeaderBytes   = 64
	entryHeaderBytes   = 16
	maxGroupBytes      = 8 << 20
	formatVersion      = 1
	segmentMagic       = "TMWALSEG"
	groupMagic         = 0x50524754 // "TGRP"
	segmentSuffix      = ".wal"
	tempSuffix         = ".tmp"  // being prepared
	deadSuffix         = ".dead" // trimmed, on its way to the pool
	freeSuffix         = ".free" // in the pool
	firstSegmentSeq    = 1
	firstGroupSequence = 1
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

func alignUp(n int) int { return (n + blockBytes - 1) &^ (blockBytes - 1) }

// segmentHeader is the first block of a segment file.
type segmentHeader struct {
	Epoch     uint64
	Nonce     uint64 // random per stream; seeds the CRC of group headers
	Sequence  uint64 // from 1
	First     Position
	SizeBytes int64    // of the file, this header included
	Owner     [16]byte // Options.Owner
}

// seed is what a stream's group header CRCs start from, so that frames of other streams in a used file are never valid,
// even where an epoch was used twice.
func (h segmentHeader) seed() uint32 {
	var b [8]byte
	le.PutUint64(b[:], h.Nonce)
	return crc32.Checksum(b[:], castagnoli)
}

// limit is the position after the last byte that the segment can hold: the first one of its successor.
func (h segmentHeader) limit() Position { return h.First + Position(h.SizeBytes) - blockBytes }

// put writes the header to dst, which must be one block; it clears the rest.
func (h segmentHeader) put(dst []byte) {
	clear(dst[:blockBytes])
	copy(dst, segmentMagic)
	le.PutUint32(dst[8:], formatVersion)
	le.PutUint64(dst[16:], h.Epoch)
	le.PutUint64(dst[24:], h.Nonce)
	le.PutUint64(dst[32:], h.Sequence)
	le.PutUint64(dst[40:], uint64(h.First))
	le.PutUint64(dst[48:], uint64(h.SizeBytes))
	copy(dst[56:], h.Owner[:])
	le.PutUint32(dst[12:], crc32.Checksum(dst[:blockBytes], castagnoli))
}

func parseSegmentHeader(b []byte) (segmentHeader, error) {
	if len(b) < blockBytes {
		return segmentHeader{}, fmt.Errorf("segment header of %d bytes, want %d", len(b), blockBytes)
	}
	b = b[:blockBytes]
	if string(b[:8]) != segmentMagic {
		return segmentHeader{}, errors.New("segment header: no magic")
	}
	if v := le.Uint32(b[8:]); v != formatVersion {
		return segmentHeader{}, fmt.Errorf("segment header: version %d is not known", v)
	}
	var zero [4]byte
	crc := crc32.Update(0, castagnoli, b[:12])
	crc = crc32.Update(crc, castagnoli, zero[:])
	crc = crc32.Update(crc, castagnoli, b[16:])
	if crc != le.Uint32(b[12:]) {
		return segmentHeader{}, errors.New("segment header: CRC mismatch")
	}
	h := segmentHeader{
		Epoch: le.Uint64(b[16:]), Nonce: le.Uint64(b[24:]), Sequence: le.Uint64(b[32:]),
		First: Position(le.Uint64(b[40:])), SizeBytes: int64(le.Uint64(b[48:])), Owner: [16]byte(b[56:]),
	}
	if h.SizeBytes < 2*blockBytes || h.SizeBytes%blockBytes != 0 || h.SizeBytes > 1<<31 || h.First%blockBytes != 0 || h.First > 1<<62 {
		return segmentHeader{}, fmt.Errorf("segment header: size %d, first position %d out of bounds", h.SizeBytes, h.First)
	}
	return h, nil
}

// groupHeader begins a group.
type groupHeader struct {
	CRC        uint32 // of this header alone, seeded per stream; parse fills it in
	Link       uint32 // CRC of the group before; the stream's seed for the first
	Epoch      uint64
	Sequence   uint64 // from 1, without gaps
	Position   Position
	Promised   Position // everything before it was durable when this group was built
	Length     uint32   // header, entries and padding; multiple of 4096
	Entries    uint32
	EntriesCRC uint32 // of all entry headers, in order
	Content    uint32 // header and entries without padding
}

func (h groupHeader) end() Position { return h.Position + Position(h.Length) }

// put writes the header to dst and returns its CRC.
func (h groupHeader) put(dst []byte, seed uint32) uint32 {
	b := dst[:groupHeaderBytes]
	le.PutUint32(b, groupMagic)
	le.PutUint32(b[4:], formatVersion)
	le.PutUint32(b[8:], 0)
	le.PutUint32(b[12:], h.Link)
	le.PutUint64(b[16:], h.Epoch)
	le.PutUint64(b[24:], h.Sequence)
	le.PutUint64(b[32:], uint64(h.Position))
	le.PutUint64(b[40:], uint64(h.Promised))
	le.PutUint32(b[48:], h.Length)
	le.PutUint32(b[52:], h.Entries)
	le.PutUint32(b[56:], h.EntriesCRC)
	le.PutUint32(b[60:], h.Content)
	crc := crc32.Update(seed, castagnoli, b)
	le.PutUint32(b[8:], crc)
	return crc
}

var errNoGroup = errors.New("no group header")

// noCRC stands where a CRC is that does not cover itself. A local one would be allocated for each header.
var noCRC [4]byte

// parseGroupHeader reads a group header that stands at position at of a stream with the given seed and epoch. The header
// is then known to be what that stream's writer built for that place; its entries may still be torn.
func parseGroupHeader(b []byte, seed uint32, epoch uint64, at Position) (groupHeader, error) {
	if len(b) < groupHeaderBytes || le.Uint32(b) != groupMagic || le.Uint32(b[4:]) != formatVersion {
		return groupHeader{}, errNoGroup
	}
	b = b[:groupHeaderBytes]
	h := groupHeader{
		CRC: le.Uint32(b[8:]), Link: le.Uint32(b[12:]), Epoch: le.Uint64(b[16:]), Sequence: le.Uint64(b[24:]),
		Position: Position(le.Uint64(b[32:])), Promised: Position(le.Uint64(b[40:])), Length: le.Uint32(b[48:]),
		Entries: le.Uint32(b[52:]), EntriesCRC: le.Uint32(b[56:]), Content: le.Uint32(b[60:]),
	}
	if h.Epoch != epoch || h.Position != at {
		return h, errStaleGroup
	}
	crc := crc32.Update(seed, castagnoli, b[:8])
	crc = crc32.Update(crc, castagnoli, noCRC[:])
	crc = crc32.Update(crc, castagnoli, b[12:])
	if crc != h.CRC {
		return h, errStaleGroup
	}
	return h, h.checkBounds()
}

// checkBounds makes sure that the lengths fit each other and the format's limits.
func (h groupHeader) checkBounds() error {
	if h.Length%blockBytes != 0 || h.Length == 0 || h.Length > maxGroupBytes || h.Content > h.Length ||
		uint64(h.Content) < groupHeaderBytes+uint64(h.Entries)*entryHeaderBytes {
		return fmt.Errorf("group header: length %d, content %d, %d entries out of bounds", h.Length, h.Content, h.Entries)
	}
	return nil
}

// errStaleGroup: a group of another stream, of another place, or with a damaged header.
var errStaleGroup = errors.New("group header: not of this stream and position, or damaged")

// putEntryHeader writes an entry's header; two words are zero.
func putEntryHeader(dst []byte, length int, crc uint32) {
	b := dst[:entryHeaderBytes]
	le.PutUint32(b, uint32(length))
	le.PutUint32(b[4:], crc)
	le.PutUint64(b[8:], 0)
}

// entriesCRC walks the entry headers of the group in b, which came from this process's own memory.
func entriesCRC(b []byte, content int) uint32 {
	crc := uint32(0)
	for off := groupHeaderBytes; off < content; {
		crc = crc32.Update(crc, castagnoli, b[off:off+entryHeaderBytes])
		off += entryHeaderBytes + int(le.Uint32(b[off:]))
	}
	return crc
}

// checkGroup verifies the entries of the group in b (whole, with its header h parsed). It trusts no length.
func checkGroup(b []byte, h groupHeader, checkData bool) error {
	if len(b) < int(h.Length) {
		return fmt.Errorf("group at %d: %d of %d bytes", h.Position, len(b), h.Length)
	}
	off, crc := groupHeaderBytes, uint32(0)
	for i := range h.Entries {
		if off+entryHeaderBytes > int(h.Content) {
			return fmt.Errorf("group at %d: entry %d of %d lies outside", h.Position, i, h.Entries)
		}
		eh := b[off : off+entryHeaderBytes]
		crc = crc32.Update(crc, castagnoli, eh)
		n := int64(le.Uint32(eh))
		if int64(off)+entryHeaderBytes+n > int64(h.Content) {
			return fmt.Errorf("group at %d: entry %d of %d bytes lies outside", h.Position, i, n)
		}
		data := b[off+entryHeaderBytes : off+entryHeaderBytes+int(n)]
		if checkData && crc32.Checksum(data, castagnoli) != le.Uint32(eh[4:]) {
			return fmt.Errorf("group at %d: CRC mismatch of entry %d", h.Position, i)
		}
		off += entryHeaderBytes + int(n)
	}
	if off != int(h.Content) || crc != h.EntriesCRC {
		return fmt.Errorf("group at %d: CRC mismatch of the entry headers", h.Position)
	}
	return nil
}

// eachEntry calls fn for the entries of a checked group whose data begins in [from, to).
func eachEntry(b []byte, h groupHeader, from, to Position, fn scanFunc) error {
	return eachEntryIn(extent{}, b, h, from, to, fn)
}

// eachEntryIn is eachEntry for a group that lies in a slab, so that its entries have refs.
func eachEntryIn(memory extent, b []byte, h groupHeader, from, to Position, fn scanFunc) error {
	off := groupHeaderBytes
	for i := range h.Entries {
		data := off + entryHeaderBytes
		next := data + int(le.Uint32(b[off:]))
		e := Entry{Pos: h.Position + Position(data), Next: h.Position + Position(next), Data: b[data:next:next]}
		if i == h.Entries-1 {
			e.Next = h.end()
		}
		if memory.slab != nil {
			e.Ref = Ref{Pos: e.Pos, Len: int32(next - data), off: memory.off + int32(data), gen: memory.gen, s: memory.slab}
		}
		if e.Pos >= to {
			return nil
		}
		if e.Pos >= from {
			if err := fn(e); err != nil {
				return err
			}
		}
		off = next
	}
	return nil
}
