package peer

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemarkmq/tidemark/wal"
)

// keptReadBytes is what a place for Reads keeps for the next one.
const keptReadBytes = 1 << 20

// answer is what a request is answered with.
type answer struct {
	kind kind
	fill func([]byte) []byte
	bulk []byte
	app  *wal.Appender // of an open
	done func()        // called when the bulk was sent
}

func failed(err error) answer {
	e := remote(err)
	return answer{kind: kindFailed, fill: func(b []byte) []byte { return putError(b, e) }}
}

func finished(err error) answer {
	if err != nil {
		return failed(err)
	}
	return answer{kind: kindDone}
}

func tailed(t wal.Tail, err error) answer {
	if err != nil {
		return failed(err)
	}
	return answer{kind: kindTail, fill: func(b []byte) []byte { return putTail(b, t) }}
}

// answer carries out a request. What it is given are the request's own.
func (s *Server) answer(ctx context.Context, from Identity, k kind, head, payload []byte) answer {
	rs := s.o.Replicas
	switch k {
	case kindOpen:
		return s.open(ctx, head)
	case kindFence:
		stream, epoch := getTwo(head)
		if own := s.ownStream(stream); own != nil {
			return tailed(own.Fence(epoch))
		}
		return tailed(rs.Fence(ctx, stream, epoch))
	case kindRead:
		return s.read(ctx, head)
	case kindTrim:
		stream, to := getTwo(head)
		return finished(rs.Trim(ctx, stream, wal.Position(to)))
	case kindRemove:
		stream, epoch := getTwo(head)
		return finished(rs.Remove(ctx, stream, epoch))
	case kindStreams:
		a := answer{kind: kindList}
		for _, stream := range rs.Streams() {
			a.bulk = le.AppendUint64(a.bulk, stream)
		}
		if len(a.bulk) > maxListBytes {
			return failed(fmt.Errorf("peer: %d streams are more than one answer holds", len(a.bulk)/8))
		}
		return a
	case kindCall:
		return s.call(ctx, from, le.Uint16(head), payload)
	}
	return failed(fmt.Errorf("%w: a request of kind %d", ErrProtocol, k))
}

func (s *Server) open(ctx context.Context, head []byte) answer {
	m, err := getOpen(head)
	if err != nil {
		return failed(err)
	}
	if s.ownStream(m.Stream) != nil {
		return failed(fmt.Errorf("%w: stream %016x is written here", wal.ErrForeign, m.Stream))
	}
	app, tail, err := s.o.Replicas.Open(ctx, m.Stream, m.Header, m.Oldest, m.Create)
	a := tailed(tail, err)
	a.app = app
	return a
}

func (s *Server) read(ctx context.Context, head []byte) answer {
	stream, from := getTwo(head)
	most := int(min(le.Uint32(head[16:]), maxReadBytes))
	var buf []byte
	select {
	case buf = <-s.reads:
	case <-ctx.Done():
		return failed(context.Cause(ctx))
	}
	var k wal.Chunk
	var err error
	if own := s.ownStream(stream); own != nil {
		k, err = own.ReadGroups(ctx, wal.Position(from), most, buf)
	} else {
		k, err = s.o.Replicas.Read(ctx, stream, wal.Position(from), most, buf)
	}
	a := answer{kind: kindChunk, fill: func(b []byte) []byte { return putPlace(b, k) }, bulk: k.Bytes}
	if err != nil {
		a = failed(err)
	}
	if n := cap(k.Bytes); n > cap(buf) && n <= keptReadBytes {
		buf = k.Bytes[:0]
	}
	a.done = func() { s.reads <- buf }
	return a
}

func (s *Server) call(ctx context.Context, from Identity, of uint16, payload []byte) answer {
	handle := s.o.Handlers[of]
	if handle == nil {
		return failed(fmt.Errorf("%w: %d", ErrUnknownKind, of))
	}
	b, err := handle(ctx, from, payload)
	if err == nil && len(b) > MaxPayloadBytes {
		err = errors.New("peer: the answer is too long")
	}
	if err != nil {
		return failed(err)
	}
	return answer{kind: kindAnswer, bulk: b}
}
