package peer

import (
	"bufio"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bufferBytes = 64 << 10
	copiedBytes = 16 << 10  // a shorter bulk is written together with its header
	pieceBytes  = 256 << 10 // what the other side must take within the timeout
)

// link frames a connection, for either side. One goroutine reads; any may write.
type link struct {
	raw    net.Conn
	conn   net.Conn // raw, or TLS over it
	timing Timing

	in     *bufio.Reader
	header [frameHeaderBytes]byte
	head   [maxHeadBytes]byte

	turn    chan struct{} // holds a token while nobody writes; a channel, because whoever writes may block
	out     []byte        // not written yet
	written atomic.Bool   // something was, since the last look

	sent, received atomic.Int64 // bytes

	done chan struct{}
	mu   sync.Mutex
	err  error
}

func newLink(raw, conn net.Conn, t Timing) *link {
	l := &link{raw: raw, conn: conn, timing: t, turn: make(chan struct{}, 1), out: make([]byte, 0, bufferBytes), done: make(chan struct{})}
	l.in = bufio.NewReaderSize(progress{l}, bufferBytes)
	l.turn <- struct{}{}
	return l
}

// progress gives each read the whole timeout: a long frame may take as long as it moves.
type progress struct{ l *link }

func (p progress) Read(b []byte) (int, error) {
	if err := p.l.conn.SetReadDeadline(time.Now().Add(p.l.timing.Timeout)); err != nil {
		return 0, err
	}
	n, err := p.l.conn.Read(b)
	p.l.received.Add(int64(n))
	return n, err
}

// fail ends the connection; the first cause counts.
func (l *link) fail(cause error) {
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = cause
	}
	l.mu.Unlock()
	if first {
		close(l.done)
		l.raw.Close() // not the TLS one's, which may wait for the other side
	}
}

// failure is why the connection is at its end; nil while it is not.
func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// next reads a frame's header and head, which is valid until the next call. The bulk is still to be read.
func (l *link) next() (frameHeader, []byte, error) {
	if _, err := io.ReadFull(l.in, l.header[:]); err != nil {
		return frameHeader{}, nil, fmt.Errorf("read: %w", err)
	}
	h, err := parseFrameHeader(l.header[:])
	if err != nil {
		return h, nil, err
	}
	head := l.head[:h.Head]
	if _, err := io.ReadFull(l.in, head); err != nil {
		return h, nil, fmt.Errorf("read: %w", err)
	}
	return h, head, checkHead(l.header[:], head)
}

// bulk reads the frame's bulk into dst, whose length is that of the bulk, and checks its CRC.
func (l *link) bulk(h frameHeader, dst []byte) error {
	if _, err := io.ReadFull(l.in, dst); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return h.checkBulk(dst)
}

func (l *link) skip(n int) error {
	if _, err := l.in.Discard(n); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

// send writes a frame whose head fill appends. With more it may stay in the buffer, until something else is sent or a heartbeat is due.
// The bulk is the caller's again on return. An error is the connection's end.
func (l *link) send(k kind, id uint64, fill func([]byte) []byte, bulk []byte, more bool) error {
	select {
	case <-l.turn:
	case <-l.done:
		return l.failure()
	}
	defer func() { l.turn <- struct{}{} }()
	return l.write(k, id, fill, bulk, more)
}

func (l *link) write(k kind, id uint64, fill func([]byte) []byte, bulk []byte, more bool) error {
	if cap(l.out)-len(l.out) < frameHeaderBytes+maxHeadBytes {
		if err := l.flush(); err != nil {
			return err
		}
	}
	at := len(l.out)
	l.out = l.out[:at+frameHeaderBytes]
	if fill != nil {
		l.out = fill(l.out)
	}
	h := frameHeader{Kind: k, Bulk: len(bulk), ID: id}
	if lay, _ := k.layout(); !lay.groups {
		h.BulkCRC = crc32.Checksum(bulk, castagnoli)
	}
	h.put(l.out[at:], l.out[at+frameHeaderBytes:])
	if len(bulk) <= copiedBytes && len(bulk) <= cap(l.out)-len(l.out) {
		l.out = append(l.out, bulk...)
		bulk = nil
	}
	if len(bulk) == 0 && more {
		return nil
	}
	if err := l.flush(); err != nil {
		return err
	}
	return l.push(bulk)
}

func (l *link) flush() error {
	err := l.push(l.out)
	l.out = l.out[:0]
	return err
}

// push writes in pieces that each have the whole timeout.
func (l *link) push(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), pieceBytes)
		err := l.conn.SetWriteDeadline(time.Now().Add(l.timing.Timeout))
		if err == nil {
			_, err = l.conn.Write(b[:n])
		}
		if err != nil {
			l.fail(fmt.Errorf("write: %w", err))
			return l.failure()
		}
		b = b[n:]
		l.sent.Add(int64(n))
		l.written.Store(true)
	}
	return nil
}

// beat sees to it that the other side hears something, until the connection or ctx ends.
func (l *link) beat(ctx context.Context) {
	tick := time.NewTicker(max(l.timing.Heartbeat/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.done:
			return
		case <-tick.C:
		}
		select {
		case <-l.turn: // else somebody writes
		default:
			continue
		}
		if !l.written.Swap(false) {
			_ = l.write(kindHeartbeat, 0, nil, nil, false) // it has failed the link
		} else if len(l.out) > 0 {
			_ = l.flush()
		}
		l.turn <- struct{}{}
	}
}

// flushNow sends what is buffered.
func (l *link) flushNow() {
	select {
	case <-l.turn:
		_ = l.flush() // it has failed the link
		l.turn <- struct{}{}
	case <-l.done:
	}
}
