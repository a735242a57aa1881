package history

import "fmt"

// Outcomes of a record, with a bit for being read by a final reader.
const (
	outcomeOpen uint8 = iota
	outcomeAcked
	outcomeFailed
	outcomeUnknown
	outcomeMask uint8 = 3
	finallyRead uint8 = 4
)

// track is what is known of one producer's records in one partition, by their sequence: 17 bytes each.
type track struct {
	producer  Producer
	partition Partition
	flags     uint8
	state     []uint8
	acked     []int64 // offset, or -1
	seen      []int64 // first offset at which a reader got it, or -1
	lastFinal int64   // highest sequence in a final reader's order, or -1
	txns      []txnFrom
}

// txnFrom says that records belong to a transaction from a sequence on; -1: to none.
type txnFrom struct {
	from uint64
	txn  int32
}

// invoke adds records, which must follow those before them.
func (t *track) invoke(first uint64, count uint32, txn int32) error {
	if first != uint64(len(t.state)) {
		return fmt.Errorf("producer %d sends %d to partition %d where %d comes next", t.producer, first, t.partition, len(t.state))
	}
	if last := len(t.txns) - 1; txn >= 0 && last < 0 || last >= 0 && t.txns[last].txn != txn {
		t.txns = append(t.txns, txnFrom{first, txn})
	}
	for range count {
		t.state, t.acked, t.seen = append(t.state, outcomeOpen), append(t.acked, -1), append(t.seen, -1)
	}
	return nil
}

// settle gives records an outcome. offset is that of the first, or -1.
func (t *track) settle(op *Op, outcome uint8) error {
	if end := op.Sequence + uint64(op.Count); end > uint64(len(t.state)) || end < op.Sequence {
		return fmt.Errorf("producer %d: an outcome of %d records from %d on in partition %d, of which it sent %d", t.producer, op.Count, op.Sequence, t.partition, len(t.state))
	}
	for i := range uint64(op.Count) {
		s := op.Sequence + i
		if was := t.state[s] & outcomeMask; was != outcomeOpen {
			return fmt.Errorf("producer %d: record %d of partition %d has two outcomes", t.producer, s, t.partition)
		}
		t.state[s] |= outcome
		if outcome == outcomeAcked && op.Offset >= 0 {
			t.acked[s] = op.Offset + int64(i)
		}
	}
	return nil
}

// txnOf is the transaction of a record; -1: none.
func (t *track) txnOf(sequence uint64) int32 {
	lo, hi := 0, len(t.txns)
	for lo < hi {
		if mid := (lo + hi) / 2; t.txns[mid].from <= sequence {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return -1
	}
	return t.txns[lo-1].txn
}

// What is at an offset: a record as its track and sequence, or one of these.
const (
	entryNone    uint64 = 0
	entryMarker  uint64 = 1
	entryPhantom uint64 = 2
	firstTrack          = 1 // tracks count from 1, so that no record looks like the above
	sequenceBits        = 40
)

func entry(track uint32, sequence uint64) uint64 { return uint64(track)<<sequenceBits | sequence }

func (c *Checker) describe(e uint64) string {
	switch {
	case e == entryNone:
		return "nothing"
	case e == entryMarker:
		return "a marker"
	case e == entryPhantom:
		return "a phantom"
	}
	t := c.tracks[e>>sequenceBits]
	return fmt.Sprintf("record %d of %s", e&(1<<sequenceBits-1), c.producerName(t.producer))
}

const pageEntries = 1 << 12

// contents is what readers found at the offsets of one partition. Pages keep a wild offset from costing memory.
type contents struct {
	pages map[int64]*[pageEntries]uint64
	last  *[pageEntries]uint64
	at    int64
}

func (c *contents) slot(offset int64) *uint64 {
	n := offset >> 12
	if c.last == nil || c.at != n {
		page := c.pages[n]
		if page == nil {
			page = new([pageEntries]uint64)
			c.pages[n] = page
		}
		c.last, c.at = page, n
	}
	return &c.last[offset&(pageEntries-1)]
}
