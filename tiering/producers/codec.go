package producers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// Version is the version of the encoding; FORMAT.md describes it.
const Version = 1

// minEntryBytes is the least that an entry takes: it bounds the count before anything is allocated.
const minEntryBytes = 7

const flagTxnEnded = 1

// ErrCorrupt is wrapped by every error of Decode.
var ErrCorrupt = errors.New("corrupt producer state")

// Encode appends the state to dst: the same state always gives the same bytes. Snapshots and deltas look alike.
func (s *State) Encode(dst []byte) []byte {
	dst = append(dst, Version)
	dst = binary.AppendUvarint(dst, uint64(len(s.entries)))
	for _, e := range s.sorted() {
		dst = binary.AppendUvarint(dst, uint64(e.ProducerID))
		dst = binary.AppendVarint(dst, int64(e.Epoch))
		dst = binary.AppendVarint(dst, int64(e.CoordinatorEpoch))
		dst = binary.AppendVarint(dst, e.LastSeenMs)
		dst = binary.AppendVarint(dst, e.TxnFirstOffset)
		var flags byte
		if e.txnEnded {
			flags |= flagTxnEnded
		}
		dst = append(dst, flags, e.count)
		for _, sl := range e.slots[:e.count] {
			dst = binary.AppendUvarint(dst, uint64(sl.lastSeq))
			dst = binary.AppendUvarint(dst, uint64(sl.offsetDelta))
			dst = binary.AppendUvarint(dst, uint64(sl.lastOffset))
			dst = binary.AppendVarint(dst, sl.timestampMs)
		}
	}
	return dst
}

func (s *State) sorted() []*Entry {
	out := make([]*Entry, 0, len(s.entries))
	for _, e := range s.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *Entry) int {
		if a.ProducerID < b.ProducerID {
			return -1
		}
		return 1
	})
	return out
}

// Decode reads a state that fills b. Its errors wrap ErrCorrupt. Nothing aliases b.
func Decode(b []byte) (*State, error) {
	if len(b) == 0 || b[0] != Version {
		return nil, fmt.Errorf("%w: unknown version", ErrCorrupt)
	}
	r := reader{b: b[1:]}
	n := r.uvarint(uint64(len(b) / minEntryBytes))
	s := &State{}
	if n > 0 && r.err == nil {
		s.entries = make(map[int64]*Entry, n)
	}
	last := int64(None)
	for i := uint64(0); i < n && r.err == nil; i++ {
		e := r.entry()
		if r.err == nil && e.ProducerID <= last {
			r.err = fmt.Errorf("%w: producer %d after %d", ErrCorrupt, e.ProducerID, last)
			break
		}
		last = e.ProducerID
		s.entries[e.ProducerID] = e
	}
	if r.err == nil && len(r.b) != 0 {
		r.err = fmt.Errorf("%w: %d bytes too many", ErrCorrupt, len(r.b))
	}
	if r.err != nil {
		return nil, r.err
	}
	return s, nil
}

// reader decodes fields; after the first error it returns zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) entry() *Entry {
	e := &Entry{
		ProducerID:       int64(r.uvarint(1<<63 - 1)),
		Epoch:            int16(r.varint(None, 1<<15-1)),
		CoordinatorEpoch: int32(r.varint(None, 1<<31-1)),
		LastSeenMs:       r.varint(-1<<63, 1<<63-1),
		TxnFirstOffset:   r.varint(None, 1<<63-1),
	}
	e.txnEnded = r.uvarint(flagTxnEnded) == flagTxnEnded
	e.count = uint8(r.uvarint(WindowBatches))
	for i := range e.slots[:e.count] {
		e.slots[i] = slot{
			lastSeq:     int32(r.uvarint(1<<31 - 1)),
			offsetDelta: int32(r.uvarint(1<<31 - 1)),
			lastOffset:  int64(r.uvarint(1<<63 - 1)),
			timestampMs: r.varint(-1<<63, 1<<63-1),
		}
		if int64(e.slots[i].offsetDelta) > e.slots[i].lastOffset && r.err == nil {
			r.err = fmt.Errorf("%w: batch of producer %d starts before offset 0", ErrCorrupt, e.ProducerID)
		}
	}
	return e
}

func (r *reader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	return r.took(n, v, v <= most)
}

func (r *reader) varint(least, most int64) int64 {
	v, n := binary.Varint(r.b)
	return int64(r.took(n, uint64(v), v >= least && v <= most))
}

func (r *reader) took(n int, v uint64, inRange bool) uint64 {
	if r.err != nil {
		return 0
	}
	if n <= 0 || !inRange {
		r.err = fmt.Errorf("%w: field cut off or out of range", ErrCorrupt)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Dump writes the state as text, one producer a line.
func (s *State) Dump(w io.Writer) error {
	for _, e := range s.sorted() {
		if _, err := fmt.Fprintf(w, "producer %d epoch %d coordinator %d seen %d txn %d ended %t", e.ProducerID, e.Epoch, e.CoordinatorEpoch, e.LastSeenMs, e.TxnFirstOffset, e.txnEnded); err != nil {
			return err
		}
		for _, b := range e.Batches() {
			if _, err := fmt.Fprintf(w, " [seq %d-%d offsets %d-%d ts %d]", b.FirstSeq, b.LastSeq, b.FirstOffset, b.LastOffset, b.TimestampMs); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

// ApplyBatch is Apply for an encoded batch as it stands in the log.
func (s *State) ApplyBatch(b []byte, nowMs int64) error {
	h, err := batch.Parse(b)
	if err != nil {
		return err
	}
	s.Apply(&h, nowMs)
	return nil
}
