// Package producers keeps what a partition knows about idempotent producers: the last batches of each, so that a retry gets
// its first offset and a gap is refused (KIP-98; Kafka's ProducerStateManager and ProducerAppendInfo). PURE: time is an
// argument, no locks; the caller serialises.
package producers

import (
	"errors"
	"fmt"
	"math"

	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// WindowBatches is how many batches per producer are remembered; clients keep at most as many in flight.
const WindowBatches = 5

// The refusals of Check. Kafka's error for each is named.
var (
	// ErrOutOfOrderSequence says that the batch does not follow the last one: OUT_OF_ORDER_SEQUENCE_NUMBER. A duplicate older
	// than the window is one too, as in Kafka.
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrInvalidEpoch says that a later epoch of the producer was seen: INVALID_PRODUCER_EPOCH.
	ErrInvalidEpoch = errors.New("producer epoch is fenced")
	// ErrTransactionState says that a plain batch came while the producer's transaction is open: INVALID_TXN_STATE.
	ErrTransactionState = errors.New("producer has an open transaction")
)

// None stands for no transaction, timestamp or epoch.
const None = -1

// Batch is one remembered batch.
type Batch struct {
	FirstSeq, LastSeq       int32
	FirstOffset, LastOffset int64
	TimestampMs             int64 // the batch's maximum timestamp
}

// slot is a Batch as it is kept: what the rest follows from.
type slot struct {
	lastOffset  int64
	timestampMs int64
	lastSeq     int32
	offsetDelta int32 // last offset - first offset
}

func (s slot) batch() Batch {
	return Batch{
		FirstSeq: int32((int64(s.lastSeq) - int64(s.offsetDelta)) & math.MaxInt32), LastSeq: s.lastSeq,
		FirstOffset: s.lastOffset - int64(s.offsetDelta), LastOffset: s.lastOffset, TimestampMs: s.timestampMs,
	}
}

// Entry is the state of one producer in one partition.
type Entry struct {
	ProducerID       int64
	LastSeenMs       int64 // broker clock of the last batch; decides expiry
	TxnFirstOffset   int64 // of the open transaction, or None
	CoordinatorEpoch int32 // of the last marker, or None
	Epoch            int16
	txnEnded         bool  // a marker was seen since this state began: a delta must say so to Merge
	count            uint8 // slots in use
	slots            [WindowBatches]slot
}

// Batches returns the remembered batches, oldest first, in a new slice.
func (e *Entry) Batches() []Batch {
	out := make([]Batch, 0, WindowBatches)
	for _, s := range e.slots[:e.count] {
		out = append(out, s.batch())
	}
	return out
}

// LastSeq is the last sequence number, or None when no batch is remembered.
func (e *Entry) LastSeq() int32 {
	if e.count == 0 {
		return None
	}
	return e.slots[e.count-1].lastSeq
}

func (e *Entry) push(s slot) {
	if e.count == WindowBatches {
		copy(e.slots[:], e.slots[1:])
		e.count--
	}
	e.slots[e.count] = s
	e.count++
}

// State holds the producers of one partition, or of a part of its log: a delta is a State that saw only that part. The
// zero value is empty and ready. It is not safe for concurrent use.
type State struct {
	entries map[int64]*Entry
}

// Len is the number of producers.
func (s *State) Len() int { return len(s.entries) }

// Entry returns the producer's state, or nil. The caller must not change it.
func (s *State) Entry(producerID int64) *Entry { return s.entries[producerID] }

// Check tells whether a client's data batch may be appended. When the same batch was appended before, it returns that one
// and true, and nothing must be appended. A producer that is not known may start with any sequence number: its records may
// have been deleted by retention. Batches without producer always pass. It allocates nothing unless it refuses.
func (s *State) Check(h *batch.Header) (Batch, bool, error) {
	if !h.HasProducer() {
		return Batch{}, false, nil
	}
	e := s.entries[h.ProducerID]
	if e == nil {
		return Batch{}, false, nil
	}
	if h.ProducerEpoch == e.Epoch {
		first, last := h.BaseSequence, h.LastSequence()
		for _, sl := range e.slots[:e.count] {
			if b := sl.batch(); b.FirstSeq == first && b.LastSeq == last {
				return b, true, nil
			}
		}
	}
	return Batch{}, false, e.checkNext(h)
}

func (e *Entry) checkNext(h *batch.Header) error {
	switch {
	case h.ProducerEpoch < e.Epoch:
		return fmt.Errorf("%w: producer %d sends epoch %d, epoch %d was seen", ErrInvalidEpoch, h.ProducerID, h.ProducerEpoch, e.Epoch)
	case h.ProducerEpoch > e.Epoch:
		if h.BaseSequence != 0 && e.Epoch != None {
			return fmt.Errorf("%w: producer %d starts epoch %d (after %d) with %d", ErrOutOfOrderSequence, h.ProducerID, h.ProducerEpoch, e.Epoch, h.BaseSequence)
		}
	default:
		// After a marker an epoch has no batch: then only 0 follows, as after None.
		last := e.LastSeq()
		if int64(h.BaseSequence) != int64(last)+1 && (h.BaseSequence != 0 || last != math.MaxInt32) {
			return fmt.Errorf("%w: producer %d sends %d after %d", ErrOutOfOrderSequence, h.ProducerID, h.BaseSequence, last)
		}
	}
	if e.TxnFirstOffset != None && !h.IsTransactional() {
		return fmt.Errorf("%w: producer %d since offset %d", ErrTransactionState, h.ProducerID, e.TxnFirstOffset)
	}
	return nil
}

// Apply records that the data batch, with its assigned base offset, is in the log. nowMs is the broker's clock. Batches
// without producer are ignored. It does not check: logs are replayed with it too. It returns how many producers were forgotten
// because there were more than MaxProducers.
func (s *State) Apply(h *batch.Header, nowMs int64) (forgotten int) {
	if !h.HasProducer() || h.IsControl() {
		return 0
	}
	e := s.entry(h.ProducerID)
	e.setEpoch(h.ProducerEpoch)
	e.push(slot{lastOffset: h.LastOffset(), timestampMs: h.MaxTimestampMs, lastSeq: h.LastSequence(), offsetDelta: h.LastOffsetDelta})
	e.LastSeenMs = nowMs
	if h.IsTransactional() && e.TxnFirstOffset == None {
		e.TxnFirstOffset = h.BaseOffset
	}
	return s.bound()
}

// EndTransaction records a marker (control batch h) written by a coordinator of the given epoch.
func (s *State) EndTransaction(h *batch.Header, coordinatorEpoch int32, nowMs int64) {
	e := s.entry(h.ProducerID)
	e.setEpoch(h.ProducerEpoch)
	e.CoordinatorEpoch, e.TxnFirstOffset, e.LastSeenMs, e.txnEnded = coordinatorEpoch, None, nowMs, true
	s.bound()
}

func (s *State) entry(producerID int64) *Entry {
	e := s.entries[producerID]
	if e == nil {
		if s.entries == nil {
			s.entries = make(map[int64]*Entry, 1)
		}
		e = &Entry{ProducerID: producerID, Epoch: None, CoordinatorEpoch: None, TxnFirstOffset: None}
		s.entries[producerID] = e
	}
	return e
}

func (e *Entry) setEpoch(epoch int16) {
	if e.Epoch != epoch {
		e.Epoch, e.count = epoch, 0
	}
}

// Merge applies delta, which saw the part of the log that follows what s saw. What s saw already is skipped, so merging a
// delta twice is harmless. Beyond MaxProducers the oldest are forgotten. delta is not changed and shares nothing with s afterwards.
func (s *State) Merge(delta *State) {
	for id, d := range delta.entries {
		e := s.entry(id)
		if d.Epoch < e.Epoch {
			continue
		}
		e.setEpoch(d.Epoch)
		seen := int64(None)
		if e.count > 0 {
			seen = e.slots[e.count-1].lastOffset
		}
		for _, sl := range d.slots[:d.count] {
			if sl.lastOffset > seen {
				e.push(sl)
			}
		}
		e.LastSeenMs = max(e.LastSeenMs, d.LastSeenMs)
		e.CoordinatorEpoch = max(e.CoordinatorEpoch, d.CoordinatorEpoch)
		if d.txnEnded || e.TxnFirstOffset == None {
			e.TxnFirstOffset = d.TxnFirstOffset
		}
		e.txnEnded = e.txnEnded || d.txnEnded
	}
	s.bound()
}

// Clone returns a copy that shares nothing with s.
func (s *State) Clone() *State {
	c := &State{}
	if len(s.entries) > 0 {
		c.entries = make(map[int64]*Entry, len(s.entries))
		for id, e := range s.entries {
			copied := *e
			c.entries[id] = &copied
		}
	}
	return c
}

// Expire forgets the producers without open transaction that were silent for afterMs, and returns how many.
func (s *State) Expire(nowMs, afterMs int64) int {
	n := 0
	for id, e := range s.entries {
		if e.TxnFirstOffset == None && nowMs-e.LastSeenMs >= afterMs {
			delete(s.entries, id)
			n++
		}
	}
	if len(s.entries) == 0 {
		s.entries = nil
	}
	return n
}
