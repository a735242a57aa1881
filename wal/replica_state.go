package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The file that a replica keeps beside its segments; FORMAT.md is its page.
const (
	stateMagic   = "TMREPLIC"
	stateVersion = 1
	stateSuffix  = ".state"
	stateSlots   = 2
)

// StreamHeader is what all segments of a stream have in common.
type StreamHeader struct {
	Epoch        uint64 // the writer's
	Nonce        uint64
	Owner        [16]byte // Options.Owner
	SegmentBytes int64    // file size of every segment but the first, which may be smaller
}

func (h StreamHeader) check() error {
	if h.Epoch == 0 || h.SegmentBytes%blockBytes != 0 || h.SegmentBytes < 4*blockBytes || h.SegmentBytes > 1<<31 {
		return fmt.Errorf("%w: epoch %d, segments of %d bytes", ErrMalformed, h.Epoch, h.SegmentBytes)
	}
	return nil
}

func (h StreamHeader) segment(s SegmentRef) segmentHeader {
	return segmentHeader{Epoch: h.Epoch, Nonce: h.Nonce, Sequence: s.Sequence, First: s.First, SizeBytes: s.SizeBytes, Owner: h.Owner}
}

// replicaState is what a replica must know before it looks at segments. It stands in two slots of a block each, of which the
// older one is overwritten; the valid one with the higher counter holds.
type replicaState struct {
	Counter uint64
	Stream  uint64
	Header  StreamHeader
	Promise uint64 // appends of a lower epoch are refused, and fences of a lower one
	// Oldest and Newest are the sequences of the segments that must be there; Newest 0: nothing in the folder counts.
	Oldest, Newest uint64
	// Synced: everything before it was durable when this was written.
	Synced Position
	// BatchTo is above Synced while groups before it may stand on the disk in any order, although one promises another: they were written at
	// once.
	BatchTo Position
}

func (s replicaState) put(dst []byte) {
	b := dst[:blockBytes]
	clear(b)
	copy(b, stateMagic)
	le.PutUint32(b[8:], stateVersion)
	le.PutUint64(b[16:], s.Counter)
	le.PutUint64(b[24:], s.Stream)
	le.PutUint64(b[32:], s.Header.Epoch)
	le.PutUint64(b[40:], s.Header.Nonce)
	le.PutUint64(b[48:], uint64(s.Header.SegmentBytes))
	le.PutUint64(b[56:], s.Promise)
	le.PutUint64(b[64:], s.Oldest)
	le.PutUint64(b[72:], s.Newest)
	le.PutUint64(b[80:], uint64(s.Synced))
	le.PutUint64(b[88:], uint64(s.BatchTo))
	copy(b[96:], s.Header.Owner[:])
	le.PutUint32(b[12:], crc32.Checksum(b, castagnoli))
}

func parseReplicaState(b []byte) (replicaState, error) {
	if len(b) < blockBytes || string(b[:8]) != stateMagic {
		return replicaState{}, errors.New("replica state: no magic")
	}
	b = b[:blockBytes]
	if v := le.Uint32(b[8:]); v != stateVersion {
		return replicaState{}, fmt.Errorf("replica state: version %d is not known", v)
	}
	crc := crc32.Update(0, castagnoli, b[:12])
	crc = crc32.Update(crc, castagnoli, noCRC[:])
	if crc = crc32.Update(crc, castagnoli, b[16:]); crc != le.Uint32(b[12:]) {
		return replicaState{}, errors.New("replica state: CRC mismatch")
	}
	s := replicaState{
		Counter: le.Uint64(b[16:]), Stream: le.Uint64(b[24:]), Promise: le.Uint64(b[56:]), Oldest: le.Uint64(b[64:]), Newest: le.Uint64(b[72:]),
		Synced: Position(le.Uint64(b[80:])), BatchTo: Position(le.Uint64(b[88:])),
		Header: StreamHeader{Epoch: le.Uint64(b[32:]), Nonce: le.Uint64(b[40:]), SegmentBytes: int64(le.Uint64(b[48:])), Owner: [16]byte(b[96:])},
	}
	if err := s.Header.check(); err != nil {
		return replicaState{}, fmt.Errorf("replica state: %w", err)
	}
	if s.Oldest > s.Newest || s.Newest > 1<<40 || s.Synced > 1<<62 || s.BatchTo > 1<<62 {
		return replicaState{}, fmt.Errorf("replica state: segments %d to %d, positions %d and %d out of bounds", s.Oldest, s.Newest, s.Synced, s.BatchTo)
	}
	return s, nil
}

// sizeBytes is what the segments take on the disk at most.
func (s replicaState) sizeBytes() int64 {
	if s.Newest == 0 {
		return 0
	}
	return int64(s.Newest-s.Oldest+1) * s.Header.SegmentBytes
}

// readReplicaState returns the state that holds. The slots' number of valid ones tells nothing: one may have been torn.
func readReplicaState(f io.ReaderAt, stream uint64) (replicaState, error) {
	var best replicaState
	var first error
	b := make([]byte, blockBytes)
	for slot := range stateSlots {
		n, err := f.ReadAt(b, int64(slot)*blockBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return replicaState{}, &readError{path: "replica state", err: err}
		}
		s, err := parseReplicaState(b[:n])
		if err == nil && s.Stream != stream {
			err = fmt.Errorf("replica state of stream %x, want %x", s.Stream, stream)
		}
		if err != nil {
			first = err
		} else if s.Counter > best.Counter {
			best = s
		}
	}
	if best.Counter == 0 {
		return best, fmt.Errorf("no valid slot: %w", first)
	}
	return best, nil
}

// write makes the state durable in the older slot; with twice in both, so that a rotten slot cannot bring back an older promise.
func (s *replicaState) write(f File, sync, twice bool) error {
	times := 1
	if twice {
		times = stateSlots
	}
	b := alignedBytes(blockBytes)
	for range times {
		s.Counter++
		s.put(b)
		if _, err := f.WriteAt(b, int64(s.Counter%stateSlots)*blockBytes); err != nil {
			return err
		}
		if sync {
			if err := f.SyncData(); err != nil {
				return err
			}
		}
	}
	return nil
}

// DumpReplicaState prints what a replica's state file holds, one line per slot. Damage is printed, not an error.
func DumpReplicaState(w io.Writer, r io.ReaderAt) error {
	b := make([]byte, blockBytes)
	for slot := range stateSlots {
		n, err := r.ReadAt(b, int64(slot)*blockBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("replica state: %w", err)
		}
		s, err := parseReplicaState(b[:n])
		if err != nil {
			_, err = fmt.Fprintf(w, "slot %d damaged: %v\n", slot, err)
		} else {
			_, err = fmt.Fprintf(w, "slot %d counter=%d stream=%016x epoch=%d nonce=%016x owner=%x segment-bytes=%d promise=%d segments=%d-%d synced=%d batch-to=%d\n",
				slot, s.Counter, s.Stream, s.Header.Epoch, s.Header.Nonce, s.Header.Owner, s.Header.SegmentBytes, s.Promise, s.Oldest, s.Newest, s.Synced, s.BatchTo)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
