package peer

import (
	"fmt"
	"sync"

	"github.com/tidemarkmq/tidemark/wal"
)

// intake is the memory that a stream's groups arrive in: a ring from which they are made durable without a copy. One goroutine reserves and
// commits, another takes and releases. What is in it is at most a window, or one longer piece alone; so with twice the window, or the longest piece,
// of memory there is always a place in one stretch.
type intake struct {
	window int
	wake   chan struct{}

	mu     sync.Mutex
	mem    []byte // aligned
	pieces []piece
	first  int // of pieces
	head   int // where the next piece goes
	held   int // bytes not released
	over   bool
}

// piece is what one append brought.
type piece struct {
	k   wal.Chunk
	at  int
	end int
}

func newIntake(window int) *intake {
	return &intake{window: window, wake: make(chan struct{}, 1), mem: wal.AlignedBytes(max(2*window, wal.MaxChunkBytes))}
}

// reserve returns memory for n bytes. A client that sends more than it may gets an ErrProtocol.
func (q *intake) reserve(n int) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held > 0 && q.held+n > q.window || n > len(q.mem) {
		return nil, fmt.Errorf("%w: an append of %d bytes, with %d not acked and a window of %d", ErrProtocol, n, q.held, q.window)
	}
	if q.held == 0 { // the memory used last is in the processor's cache
		q.head = 0
	}
	if q.head+n > len(q.mem) {
		q.head = 0
	}
	return q.mem[q.head : q.head+n : q.head+n], nil
}

// commit adds the chunk, whose bytes are those reserved last.
func (q *intake) commit(k wal.Chunk) {
	q.mu.Lock()
	if q.first > 0 && len(q.pieces) == cap(q.pieces) {
		q.pieces, q.first = append(q.pieces[:0], q.pieces[q.first:]...), 0
	}
	q.pieces = append(q.pieces, piece{k: k, at: q.head, end: q.head + len(k.Bytes)})
	q.head += len(k.Bytes)
	q.held += len(k.Bytes)
	q.mu.Unlock()
	q.signal()
}

func (q *intake) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// finish says that nothing more comes.
func (q *intake) finish() {
	q.mu.Lock()
	q.over = true
	q.mu.Unlock()
	q.signal()
}

// take waits for groups and returns all that follow each other, as one chunk; false: it is over.
func (q *intake) take() (wal.Chunk, bool) {
	for {
		q.mu.Lock()
		if q.over {
			q.mu.Unlock()
			return wal.Chunk{}, false
		}
		if q.first < len(q.pieces) {
			k := q.join()
			q.mu.Unlock()
			return k, true
		}
		q.mu.Unlock()
		<-q.wake
	}
}

func (q *intake) join() wal.Chunk {
	p := q.pieces[q.first]
	k, end := p.k, p.end
	for q.first++; q.first < len(q.pieces); q.first++ {
		n := q.pieces[q.first]
		if n.at != end || n.k.Segment != k.Segment || n.k.Position != k.End() || len(k.Bytes)+len(n.k.Bytes) > wal.MaxChunkBytes {
			break
		}
		end = n.end
		k.Bytes = q.mem[p.at:end:end]
	}
	if q.first == len(q.pieces) {
		q.pieces, q.first = q.pieces[:0], 0
	}
	return k
}

// release gives back the memory of the chunk taken last. It must come before the ack.
func (q *intake) release(n int) {
	q.mu.Lock()
	q.held -= n
	q.mu.Unlock()
}
