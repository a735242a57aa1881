package peer

import (
	"fmt"
	"unicode/utf8"

	"github.com/tidemarkmq/tidemark/wal"
)

const (
	headerBytes = 40 // of a wal.StreamHeader
	refBytes    = 24 // of a wal.SegmentRef
)

func putStreamHeader(b []byte, h wal.StreamHeader) []byte {
	b = le.AppendUint64(b, h.Epoch)
	b = le.AppendUint64(b, h.Nonce)
	b = append(b, h.Owner[:]...)
	return le.AppendUint64(b, uint64(h.SegmentBytes))
}

func getStreamHeader(b []byte) wal.StreamHeader {
	return wal.StreamHeader{Epoch: le.Uint64(b), Nonce: le.Uint64(b[8:]), Owner: [16]byte(b[16:]), SegmentBytes: int64(le.Uint64(b[32:]))}
}

func putRef(b []byte, s wal.SegmentRef) []byte {
	b = le.AppendUint64(b, s.Sequence)
	b = le.AppendUint64(b, uint64(s.First))
	return le.AppendUint64(b, uint64(s.SizeBytes))
}

func getRef(b []byte) wal.SegmentRef {
	return wal.SegmentRef{Sequence: le.Uint64(b), First: wal.Position(le.Uint64(b[8:])), SizeBytes: int64(le.Uint64(b[16:]))}
}

// openMessage is what a writer says of its stream.
type openMessage struct {
	Stream uint64
	Header wal.StreamHeader
	Oldest wal.SegmentRef
	Create bool
}

func (m openMessage) put(b []byte) []byte {
	b = putRef(putStreamHeader(le.AppendUint64(b, m.Stream), m.Header), m.Oldest)
	if m.Create {
		return append(b, 1)
	}
	return append(b, 0)
}

func getOpen(b []byte) (openMessage, error) {
	m := openMessage{Stream: le.Uint64(b), Header: getStreamHeader(b[8:]), Oldest: getRef(b[8+headerBytes:]), Create: b[8+headerBytes+refBytes] == 1}
	if b[8+headerBytes+refBytes] > 1 {
		return m, fmt.Errorf("%w: open with create %d", ErrProtocol, b[8+headerBytes+refBytes])
	}
	return m, nil
}

// putPlace and getPlace: where the groups of an append or a chunk stand.
func putPlace(b []byte, k wal.Chunk) []byte {
	return le.AppendUint64(putRef(b, k.Segment), uint64(k.Position))
}

func getPlace(b []byte) (wal.SegmentRef, wal.Position) {
	return getRef(b), wal.Position(le.Uint64(b[refBytes:]))
}

func putTwo(b []byte, x, y uint64) []byte { return le.AppendUint64(le.AppendUint64(b, x), y) }

func getTwo(b []byte) (x, y uint64) { return le.Uint64(b), le.Uint64(b[8:]) }

func putRead(b []byte, stream uint64, from wal.Position, maxBytes int) []byte {
	return le.AppendUint32(putTwo(b, stream, uint64(from)), uint32(maxBytes))
}

func putTail(b []byte, t wal.Tail) []byte {
	return le.AppendUint64(putTwo(putStreamHeader(b, t.Header), uint64(t.Start), uint64(t.End)), t.Promise)
}

func getTail(b []byte) (wal.Tail, error) {
	t := wal.Tail{Header: getStreamHeader(b), Start: wal.Position(le.Uint64(b[headerBytes:])), End: wal.Position(le.Uint64(b[headerBytes+8:])), Promise: le.Uint64(b[headerBytes+16:])}
	if t.Start > t.End || t.End > 1<<62 {
		return t, fmt.Errorf("%w: a tail of [%d, %d)", ErrProtocol, t.Start, t.End)
	}
	return t, nil
}

func putError(b []byte, e *RemoteError) []byte {
	return append(le.AppendUint16(b, e.Code), e.Text...)
}

func getError(b []byte) (*RemoteError, error) {
	if !utf8.Valid(b[2:]) {
		return nil, fmt.Errorf("%w: an error's text is not UTF-8", ErrProtocol)
	}
	return &RemoteError{Code: le.Uint16(b), Text: string(b[2:])}, nil
}
