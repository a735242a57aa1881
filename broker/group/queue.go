package group

import (
	"sync"

	"github.com/tidemarkmq/tidemark/metadata"
)

// kind is what an offset operation does.
type kind uint8

const (
	commitOp  kind = iota // write offsets
	deleteOp              // remove offsets
	rereadOp              // read a group's offsets from the store, after an unknown outcome
	barrierOp             // nothing; ends when all before it have ended
	dropOp                // remove a group's state and offsets
)

// op is one operation on the offsets of a group. Operations take effect in the order in which they were queued.
type op struct {
	kind    kind
	e       *entry
	commits []metadata.GroupOffsets    // commitOp: one per topic
	deletes []metadata.GroupPartitions // deleteOp: one per topic
	bytes   int64

	errs []error // one per topic, or nil if all went well; or one for an op without topics
	done chan struct{}
}

// err is the first error of the operation.
func (o *op) err() error {
	for _, err := range o.errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// queue holds the operations that wait for the writer. Its bound is on bytes: what a client may put into a commit.
type queue struct {
	maxBytes int64

	mu      sync.Mutex
	ops     []*op
	bytes   int64 // queued or being written
	closed  bool
	arrived chan struct{} // holds a token while ops is not empty or the queue is closed
}

func newQueue(maxBytes int64) *queue {
	return &queue{maxBytes: maxBytes, arrived: make(chan struct{}, 1)}
}

// put queues an operation; false when the queue is full or closed. It never blocks.
func (q *queue) put(o *op) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.bytes+o.bytes > q.maxBytes && q.bytes > 0 {
		return false
	}
	q.bytes += o.bytes
	q.ops = append(q.ops, o)
	q.signal()
	return true
}

func (q *queue) signal() {
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

// take waits for operations and returns the first run of one kind, at most maxOps of them and about maxBytes; nil when the
// queue is closed and empty.
func (q *queue) take(maxOps int, maxBytes int64) []*op {
	for {
		q.mu.Lock()
		n, bytes := 0, int64(0)
		for n < len(q.ops) && n < maxOps && bytes < maxBytes && q.ops[n].kind == q.ops[0].kind {
			bytes += q.ops[n].bytes
			n++
		}
		if n > 0 {
			batch := q.ops[:n:n]
			if q.ops = q.ops[n:]; len(q.ops) > 0 {
				q.signal()
			} else {
				q.ops = nil
			}
			q.mu.Unlock()
			return batch
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		<-q.arrived
	}
}

// end gives back the bytes of operations that have ended.
func (q *queue) end(batch []*op) {
	q.mu.Lock()
	for _, o := range batch {
		q.bytes -= o.bytes
	}
	q.mu.Unlock()
}

func (q *queue) pendingBytes() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// close lets take end once the queue is empty.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.signal()
	q.mu.Unlock()
}
