package stamp

import (
	"fmt"
	"sync"
)

// Rules of a ledger.
type Rules struct {
	Gaps     bool // offsets may have gaps: transactions have markers among the records
	Rereads  bool // records may come again from an earlier offset, as after a rebalance; those are not counted
	MidWay   bool // the first record of a producer may have any sequence: reading does not begin with its first
	Unmarked bool // records without a stamp are all right
}

// Tally is what a ledger found.
type Tally struct {
	Records  int64 `json:"records"`
	Bytes    int64 `json:"bytes"`    // of values
	Lost     int64 `json:"lost"`     // sequences that never came
	Late     int64 `json:"late"`     // sequences that came behind a later one
	Repeated int64 `json:"repeated"` // sequences that came again
	Skipped  int64 `json:"skipped"`  // offsets that were not there
	Backward int64 `json:"backward"` // offsets that came behind a later one
	Unmarked int64 `json:"unmarked"` // records without a stamp
	Rereads  int64 `json:"rereads"`  // records read again after a rebalance, not counted otherwise
}

// Bad says what is wrong, or nothing. Repetitions are no fault of producers that are not idempotent.
func (t Tally) Bad(idempotent bool) error {
	if t.Lost == 0 && t.Late == 0 && t.Skipped == 0 && t.Backward == 0 && t.Unmarked == 0 && (t.Repeated == 0 || !idempotent) {
		return nil
	}
	return fmt.Errorf("%d records lost, %d out of order, %d repeated, %d unknown; %d offsets skipped, %d backward", t.Lost, t.Late, t.Repeated, t.Unmarked, t.Skipped, t.Backward)
}

// Add sums two tallies.
func (t Tally) Add(o Tally) Tally {
	return Tally{t.Records + o.Records, t.Bytes + o.Bytes, t.Lost + o.Lost, t.Late + o.Late, t.Repeated + o.Repeated,
		t.Skipped + o.Skipped, t.Backward + o.Backward, t.Unmarked + o.Unmarked, t.Rereads + o.Rereads}
}

// Ledger follows one reading of a topic. Readers of different partitions do not disturb each other.
type Ledger struct {
	rules      Rules
	partitions []Partition
}

// Partition of a ledger. Lock it around Check.
type Partition struct {
	sync.Mutex
	rules     *Rules
	next      int64 // offset; -1: any
	producers map[uint32]*sequence
	last      uint32 // producer of the last record
	lastSeq   *sequence
	tally     Tally
	_         [32]byte // apart from its neighbour's lock
}

type sequence struct {
	next, first uint64
	missing     int64
}

// NewLedger expects the first record of each partition at the offset start says; nil or -1: anywhere.
func NewLedger(partitions int, rules Rules, start []int64) *Ledger {
	l := &Ledger{rules: rules, partitions: make([]Partition, partitions)}
	for i := range l.partitions {
		p := &l.partitions[i]
		p.rules, p.next = &l.rules, -1
		if start != nil {
			p.next = start[i]
		}
	}
	return l
}

// Partition returns the state of one partition.
func (l *Ledger) Partition(i int32) *Partition { return &l.partitions[i] }

// Restart forgets positions, so that the same records may be read again from the offset given. The tally stays.
func (p *Partition) Restart(offset int64) {
	p.next, p.producers, p.lastSeq = offset, nil, nil
}

// Next is the offset that is expected next; -1: any. Hold the lock.
func (p *Partition) Next() int64 { return p.next }

// Passed notes that everything before the offset is gone by without records: markers. Hold the lock.
func (p *Partition) Passed(offset int64) {
	if p.rules.Gaps {
		p.next = max(p.next, offset)
	}
}

// Check takes the next record; it returns when that was due, and false when there is no such time. Hold the lock.
func (p *Partition) Check(offset int64, value []byte) (due int64, ok bool) {
	switch {
	case p.next < 0 || offset == p.next:
	case offset > p.next:
		if !p.rules.Gaps {
			p.tally.Skipped += offset - p.next
		}
	case p.rules.Rereads:
		p.tally.Rereads++
		return 0, false
	default:
		p.tally.Backward++
	}
	p.next = max(p.next, offset+1)
	p.tally.Records++
	p.tally.Bytes += int64(len(value))
	s, marked := Get(value)
	if !marked {
		if !p.rules.Unmarked {
			p.tally.Unmarked++
		}
		return 0, false
	}
	p.sequence(s)
	return s.Due, true
}

func (p *Partition) sequence(s Stamp) {
	q := p.lastSeq
	if q == nil || p.last != s.Producer {
		if q = p.producers[s.Producer]; q == nil {
			q = &sequence{}
			if p.rules.MidWay {
				q.next, q.first = s.Sequence, s.Sequence
			}
			if p.producers == nil {
				p.producers = make(map[uint32]*sequence)
			}
			p.producers[s.Producer] = q
		}
		p.last, p.lastSeq = s.Producer, q
	}
	switch {
	case s.Sequence == q.next:
		q.next++
	case s.Sequence > q.next:
		n := int64(s.Sequence - q.next)
		p.tally.Lost += n
		q.missing += n
		q.next = s.Sequence + 1
	case q.missing > 0:
		q.missing--
		p.tally.Lost--
		p.tally.Late++
	default:
		p.tally.Repeated++
	}
}

// Close counts what a producer had acknowledged in a partition and what never came as lost.
func (l *Ledger) Close(partition int32, producer uint32, sent uint64) {
	p := &l.partitions[partition]
	p.Lock()
	defer p.Unlock()
	next := uint64(0)
	if q := p.producers[producer]; q != nil {
		next = q.next
	}
	if sent > next {
		p.tally.Lost += int64(sent - next)
	}
}

// Tally sums over the partitions.
func (l *Ledger) Tally() Tally {
	var t Tally
	for i := range l.partitions {
		p := &l.partitions[i]
		p.Lock()
		t = t.Add(p.tally)
		p.Unlock()
	}
	return t
}
