package peer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tidemarkmq/tidemark/wal"
)

// The protocol, version 1; FORMAT.md is its page.
const (
	protocolVersion  = 1
	frameHeaderBytes = 24
	maxHeadBytes     = 1024
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// kind says what a frame is.
type kind uint8

const (
	kindHeartbeat kind = 1
	kindOpen      kind = 2
	kindAppend    kind = 3
	kindLeave     kind = 4
	kindFence     kind = 5
	kindRead      kind = 6
	kindTrim      kind = 7
	kindRemove    kind = 8
	kindStreams   kind = 9
	kindCall      kind = 10
	kindCancel    kind = 11

	kindDone   kind = 65
	kindTail   kind = 66
	kindChunk  kind = 67
	kindList   kind = 68
	kindAnswer kind = 69
	kindAcked  kind = 70
	kindEnded  kind = 71
	kindFailed kind = 72
)

// layout bounds a kind of frame.
type layout struct {
	name    string
	head    int  // length; of kinds with text, the least
	text    bool // up to maxMessageBytes more
	maxBulk int
	groups  bool // the bulk is groups, whose CRCs are their own
}

var layouts = [...]layout{
	kindHeartbeat: {name: "heartbeat"},
	kindOpen:      {name: "open", head: 8 + headerBytes + refBytes + 1},
	kindAppend:    {name: "append", head: refBytes + 8, maxBulk: wal.MaxChunkBytes, groups: true},
	kindLeave:     {name: "leave"},
	kindFence:     {name: "fence", head: 16},
	kindRead:      {name: "read", head: 20},
	kindTrim:      {name: "trim", head: 16},
	kindRemove:    {name: "remove", head: 16},
	kindStreams:   {name: "streams"},
	kindCall:      {name: "call", head: 2, maxBulk: MaxPayloadBytes},
	kindCancel:    {name: "cancel"},
	kindDone:      {name: "done"},
	kindTail:      {name: "tail", head: headerBytes + 24},
	kindChunk:     {name: "chunk", head: refBytes + 8, maxBulk: maxReadBytes, groups: true},
	kindList:      {name: "list", maxBulk: maxListBytes},
	kindAnswer:    {name: "answer", maxBulk: MaxPayloadBytes},
	kindAcked:     {name: "acked", head: 16},
	kindEnded:     {name: "ended", head: 2, text: true},
	kindFailed:    {name: "failed", head: 2, text: true},
}

func (k kind) layout() (layout, bool) {
	if int(k) >= len(layouts) || layouts[k].name == "" {
		return layout{}, false
	}
	return layouts[k], true
}

// fromServer says which side sends the kind; heartbeats come from both.
func (k kind) fromServer() bool { return k >= kindDone }

// frameHeader begins a frame: header, head, bulk.
type frameHeader struct {
	Kind    kind
	Head    int    // bytes
	Bulk    int    // bytes
	BulkCRC uint32 // 0 for groups
	ID      uint64 // of the request, or of the open that a stream began with
}

// put writes the header to dst, with the CRC of itself and of the head.
func (h frameHeader) put(dst, head []byte) {
	b := dst[:frameHeaderBytes]
	b[4], b[5] = byte(h.Kind), 0
	le.PutUint16(b[6:], uint16(len(head)))
	le.PutUint32(b[8:], uint32(h.Bulk))
	le.PutUint32(b[12:], h.BulkCRC)
	le.PutUint64(b[16:], h.ID)
	le.PutUint32(b, crc32.Update(crc32.Checksum(b[4:], castagnoli), castagnoli, head))
}

// parseFrameHeader trusts no length; the CRC is checked when the head is there. The errors wrap ErrProtocol.
func parseFrameHeader(b []byte) (frameHeader, error) {
	h := frameHeader{Kind: kind(b[4]), Head: int(le.Uint16(b[6:])), Bulk: int(le.Uint32(b[8:])), BulkCRC: le.Uint32(b[12:]), ID: le.Uint64(b[16:])}
	l, ok := h.Kind.layout()
	most := l.head
	if l.text {
		most += maxMessageBytes
	}
	switch {
	case !ok || b[5] != 0:
		return h, fmt.Errorf("%w: a frame of kind %d", ErrProtocol, h.Kind)
	case h.Head < l.head || h.Head > most || le.Uint32(b[8:]) > uint32(l.maxBulk):
		return h, fmt.Errorf("%w: %s with %d and %d bytes", ErrProtocol, l.name, h.Head, le.Uint32(b[8:]))
	case l.groups && (h.Bulk%blockBytes != 0 || h.BulkCRC != 0) || h.Kind == kindAppend && h.Bulk == 0 || h.Kind == kindList && h.Bulk%8 != 0:
		return h, fmt.Errorf("%w: %s with %d bytes", ErrProtocol, l.name, h.Bulk)
	}
	return h, nil
}

// checkHead compares the CRC of the header and the head.
func checkHead(header, head []byte) error {
	if crc32.Update(crc32.Checksum(header[4:frameHeaderBytes], castagnoli), castagnoli, head) != le.Uint32(header) {
		return fmt.Errorf("%w: CRC mismatch of a %d", ErrProtocol, header[4])
	}
	return nil
}

// checkBulk compares the CRC of a bulk that is not groups.
func (h frameHeader) checkBulk(bulk []byte) error {
	if l, _ := h.Kind.layout(); !l.groups && crc32.Checksum(bulk, castagnoli) != h.BulkCRC {
		return fmt.Errorf("%w: CRC mismatch of the bytes of a %s", ErrProtocol, l.name)
	}
	return nil
}
