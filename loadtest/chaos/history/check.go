package history

import (
	"errors"
	"fmt"
	"io"
)

// Checker takes operations in their order and says at the end what is wrong. It needs some 25 bytes for each record that was sent, and a
// time that grows with the records sent and read. Its methods must not be called concurrently.
type Checker struct {
	result     Result
	producers  map[Producer]*producer
	readers    map[Reader]*reader
	partitions map[Partition]*partition
	tracks     []*track // from firstTrack on
	byKey      map[trackKey]uint32
	cursors    map[cursorKey]*cursor
	groups     map[groupKey]*groupOffsets
	txns       []txn
	gaps       []skipped
}

type (
	trackKey struct {
		producer  Producer
		partition Partition
	}
	cursorKey struct {
		reader    Reader
		partition Partition
	}
	producer struct {
		name  string
		flags uint8
		txn   int32 // open, or -1
	}
	reader struct {
		name, group string
		flags       uint8
	}
	partition struct {
		name     string
		contents contents
		bounds   bool // a final reader said what it will read
	}
	// cursor is how far a reader is; next is -1 where that is not known yet, end is -1 if it is no final reader's.
	cursor struct{ next, end int64 }
	// skipped is a gap to be explained at the end.
	skipped struct {
		key      cursorKey
		from, to int64
	}
)

// NewChecker returns a checker that has seen nothing.
func NewChecker() *Checker {
	return &Checker{
		result:    Result{Counts: map[Anomaly]int64{}},
		producers: map[Producer]*producer{}, readers: map[Reader]*reader{}, partitions: map[Partition]*partition{},
		tracks: make([]*track, firstTrack), byKey: map[trackKey]uint32{},
		cursors: map[cursorKey]*cursor{}, groups: map[groupKey]*groupOffsets{},
	}
}

// Check reads a whole history. A torn end is no error: the recorder was killed, and what it recorded is checked.
func Check(r io.Reader) (*Result, error) {
	c, d := NewChecker(), NewDecoder(r)
	var op Op
	for {
		switch err := d.Next(&op); {
		case errors.Is(err, io.EOF), errors.Is(err, ErrTorn):
			return c.Finish(), nil
		case err != nil:
			return nil, err
		}
		if err := c.Add(&op); err != nil {
			return nil, fmt.Errorf("operation %d: %w", c.result.Operations, err)
		}
	}
}

// Add takes the next operation and keeps nothing of it. An error says that the history itself makes no sense, whatever the broker did.
func (c *Checker) Add(op *Op) error {
	c.result.Operations++
	switch op.Kind {
	case DeclarePartition:
		c.partitions[op.Partition] = &partition{name: op.Name, contents: contents{pages: map[int64]*[pageEntries]uint64{}}}
		return nil
	case DeclareProducer:
		c.producers[op.Producer] = &producer{name: op.Name, flags: op.Flags, txn: -1}
		return nil
	case DeclareReader:
		c.readers[op.Reader] = &reader{name: op.Name, group: op.Group, flags: op.Flags}
		return nil
	case Fault:
		return nil
	case Invoke, Acked, Failed, Unknown:
		return c.send(op)
	case TxnBegin, TxnCommitInvoke, TxnCommitted, TxnAborted, TxnUnknown:
		return c.transaction(op)
	}
	r, p := c.readers[op.Reader], c.partitions[op.Partition]
	if r == nil || p == nil {
		return fmt.Errorf("kind %d of reader %d and partition %d, which are not both declared", op.Kind, op.Reader, op.Partition)
	}
	switch op.Kind {
	case Poll:
		return c.poll(op, r, p)
	case Position:
		c.position(op, r, p)
	case Bounds:
		p.bounds = true
		*c.cursor(op) = cursor{op.Offset, op.End}
	case Corrupt:
		c.found(Damaged, "%s offset %d: %s got other bytes than were sent", p.name, op.Offset, r.name)
		c.advance(op, r, p, op.Offset)
		*p.contents.slot(op.Offset) = entryPhantom
	case Marker:
		if op.Offset >= 0 {
			*p.contents.slot(op.Offset) = entryMarker
		}
	case CommitInvoke, CommitAcked:
		c.commit(op, r)
	default:
		return fmt.Errorf("kind %d", op.Kind)
	}
	return nil
}

func (c *Checker) send(op *Op) error {
	p := c.producers[op.Producer]
	if p == nil || c.partitions[op.Partition] == nil {
		return fmt.Errorf("kind %d of producer %d and partition %d, which are not both declared", op.Kind, op.Producer, op.Partition)
	}
	key := trackKey{op.Producer, op.Partition}
	n, ok := c.byKey[key]
	if !ok {
		n = uint32(len(c.tracks))
		if n >= 1<<(64-sequenceBits) {
			return errors.New("too many producers and partitions")
		}
		c.byKey[key] = n
		c.tracks = append(c.tracks, &track{producer: op.Producer, partition: op.Partition, flags: p.flags, lastFinal: -1})
	}
	t := c.tracks[n]
	switch op.Kind {
	case Invoke:
		c.result.Sent += int64(op.Count)
		return t.invoke(op.Sequence, op.Count, p.txn)
	case Acked:
		c.result.Acked += int64(op.Count)
		return t.settle(op, outcomeAcked)
	case Failed:
		c.result.Failed += int64(op.Count)
		return t.settle(op, outcomeFailed)
	}
	return t.settle(op, outcomeUnknown)
}

func (c *Checker) producerName(p Producer) string {
	if d := c.producers[p]; d != nil && d.name != "" {
		return d.name
	}
	return fmt.Sprintf("producer %d", p)
}
