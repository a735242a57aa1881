package history

import "fmt"

// txn is one transaction of a producer.
type txn struct {
	producer Producer
	state    txnState
	read     bool  // a read_committed reader got a record of it
	acked    int64 // records
	final    int64 // records of those that final readers got
}

type txnState uint8

const (
	txnOpen txnState = iota
	txnCommitting
	txnCommitted
	txnAborted
	txnUnknown
)

func (c *Checker) transaction(op *Op) error {
	p := c.producers[op.Producer]
	if p == nil {
		return fmt.Errorf("a transaction of producer %d, which is not declared", op.Producer)
	}
	if op.Kind == TxnBegin {
		p.txn = int32(len(c.txns))
		c.txns = append(c.txns, txn{producer: op.Producer})
		return nil
	}
	if p.txn < 0 {
		return fmt.Errorf("kind %d of producer %d, which has no open transaction", op.Kind, op.Producer)
	}
	t := &c.txns[p.txn]
	switch op.Kind {
	case TxnCommitInvoke:
		t.state = txnCommitting
		return nil
	case TxnCommitted:
		t.state = txnCommitted
	case TxnAborted:
		t.state = txnAborted
	default:
		t.state = txnUnknown
	}
	p.txn = -1
	return nil
}

// readCommitted checks that a record that must be of a committed transaction can be: an outcome that comes later is checked later.
func (c *Checker) readCommitted(t *track, rec *Record, r *reader, p *partition) {
	n := t.txnOf(rec.Sequence)
	if n < 0 {
		return
	}
	x := &c.txns[n]
	if x.state == txnOpen || x.state == txnAborted {
		c.found(AbortedRead, "%s offset %d: %s got record %d of %s, whose transaction is open or aborted", p.name, rec.Offset, r.name, rec.Sequence, c.producerName(t.producer))
		return
	}
	x.read = true
}

// transactions finishes what is known of each transaction: one with an unknown outcome may be there whole or not at all.
func (c *Checker) transactions() {
	for _, t := range c.tracks[firstTrack:] {
		if len(t.txns) == 0 {
			continue
		}
		for s := range t.state {
			if n := t.txnOf(uint64(s)); n >= 0 && t.state[s]&outcomeMask == outcomeAcked {
				c.txns[n].acked++
				if t.state[s]&finallyRead != 0 {
					c.txns[n].final++
				}
			}
		}
	}
	for i := range c.txns {
		x := &c.txns[i]
		switch {
		case x.state == txnAborted && x.read:
			c.found(AbortedRead, "transaction %d of %s was read as committed and is aborted", i, c.producerName(x.producer))
		case x.state != txnAborted && c.finalCommitted() && x.final > 0 && x.final < x.acked:
			c.found(Fractured, "transaction %d of %s: %d of its %d records are there", i, c.producerName(x.producer), x.final, x.acked)
		}
	}
}

// finalCommitted tells whether final readers see committed transactions only.
func (c *Checker) finalCommitted() bool {
	for _, r := range c.readers {
		if r.flags&Final != 0 {
			return r.flags&ReadCommitted != 0
		}
	}
	return false
}

// mayBeHidden tells whether a read_committed reader may miss a record although it was acknowledged.
func (c *Checker) mayBeHidden(t *track, sequence uint64) bool {
	n := t.txnOf(sequence)
	return n >= 0 && c.txns[n].state != txnCommitted
}
