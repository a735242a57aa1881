package wire

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// StepBytes is how much of a frame is read at once, so that the checksum finds the bytes still in cache.
const StepBytes = 128 << 10

// Bounds on what a request's bytes may make the decoder allocate. A part with a batch takes at least 67 bytes, so that the first rule
// strikes only those that send nothing.
const (
	maxSmallParts       = 1024 // parts that are smaller than a batch header
	maxParts            = 1 << 17
	maxTransactionalID  = 1 << 15
	batchHeaderBytes    = 61
	batchLengthAt       = 8
	batchMagicAt        = 16
	batchCRCAt          = 17
	batchChecksummedAt  = 21
	batchLengthOverhead = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pull makes the bytes of a frame available as the decoder asks for them.
type pull struct {
	src  io.Reader // nil: the whole frame is there
	buf  []byte    // the whole frame's room
	pos  int       // decoded
	have int       // read
	err  error
}

func (r *pull) fail(err error) bool {
	if r.err == nil {
		r.err = err
	}
	return false
}

// more reads at least one byte and at most a step; only when bytes are missing.
func (r *pull) more(upTo int) bool {
	if r.err != nil {
		return false
	}
	if r.src == nil || upTo > len(r.buf) {
		return r.fail(errShort)
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.have:min(len(r.buf), r.have+StepBytes)])
		r.have += n
		if n > 0 {
			return true
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return r.fail(err)
		}
	}
	return r.fail(io.ErrNoProgress)
}

// need waits until n more bytes are there.
func (r *pull) need(n int) bool {
	if r.err != nil {
		return false
	}
	if n < 0 || n > len(r.buf)-r.pos {
		return r.fail(errShort)
	}
	for r.have < r.pos+n {
		if !r.more(r.pos + n) {
			return false
		}
	}
	return true
}

func (r *pull) span(n int) []byte {
	if !r.need(n) {
		return nil
	}
	s := r.buf[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return s
}

func (r *pull) int16() int16 {
	if s := r.span(2); s != nil {
		return int16(binary.BigEndian.Uint16(s))
	}
	return 0
}

func (r *pull) int32() int32 {
	if s := r.span(4); s != nil {
		return int32(binary.BigEndian.Uint32(s))
	}
	return 0
}

func (r *pull) uvarint() uint32 {
	for {
		v, n := uvarint(r.buf[r.pos:r.have])
		if n > 0 {
			r.pos += n
			return v
		}
		if n < 0 {
			r.fail(malformed("varint too long"))
			return 0
		}
		if !r.more(r.have + 1) {
			return 0
		}
	}
}

// length reads the length of a string (wide = false), byte array or array: −1 for null.
func (r *pull) length(compact, wide bool) int {
	n := 0
	switch {
	case compact:
		n = int(r.uvarint()) - 1
	case wide:
		n = int(r.int32())
	default:
		n = int(r.int16())
	}
	if r.err == nil && n < -1 {
		r.fail(malformed("length %d", n))
	}
	return n
}

func (r *pull) skipTags() {
	n := r.uvarint()
	if n > maxHeaderTags {
		r.fail(malformed("%d tagged fields", n))
		return
	}
	for ; n > 0 && r.err == nil; n-- {
		r.uvarint()
		r.span(int(r.uvarint()))
	}
}

// records takes n bytes of record batch for p, and computes the first batch's checksum and walks its records as the bytes arrive.
func (r *pull) records(n int, p *ProducePart) {
	p.Records, p.ChecksumOK, p.Facts = nil, false, batch.Facts{}
	if n < 0 || r.err != nil {
		return
	}
	if n > len(r.buf)-r.pos {
		r.fail(errShort)
		return
	}
	start := r.pos
	if n < batchHeaderBytes || !r.need(batchHeaderBytes) {
		p.Records = r.span(n)
		return
	}
	h := r.buf[start:]
	length := int64(int32(binary.BigEndian.Uint32(h[batchLengthAt:])))
	if h[batchMagicAt] != 2 || length+batchLengthOverhead < batchHeaderBytes || length+batchLengthOverhead > int64(n) {
		p.Records = r.span(n)
		return
	}
	end := start + int(length) + batchLengthOverhead
	scan := batch.NewScan(h, end-start)
	var crc uint32
	for at := start + batchChecksummedAt; at < end; {
		if r.have <= at && !r.more(at+1) {
			return
		}
		to := min(r.have, end)
		crc = crc32.Update(crc, castagnoli, r.buf[at:to])
		scan.Advance(r.buf[start:to])
		at = to
	}
	p.ChecksumOK = crc == binary.BigEndian.Uint32(h[batchCRCAt:])
	p.Facts = scan.Facts()
	p.Records = r.span(n)
}

// ProduceDecoder decodes Produce requests while their bytes arrive. The zero value is ready; it may be reused, not shared.
type ProduceDecoder struct {
	r    pull
	last string // client id
}

// Decode reads one Produce request of v3–v13 into p, which it resets first. frame is room for exactly the request (without its length),
// of which the first have bytes are there already, at least PrefixBytes; the rest is read from src, in steps, and frame is filled
// whatever the request says, unless reading fails. Nothing is allocated by counts that the request only declares.
//
// Errors: ErrMalformed for bytes that are no such request, otherwise the reader's (io.ErrUnexpectedEOF for its end).
func (d *ProduceDecoder) Decode(src io.Reader, frame []byte, have int, p *Produce) (Header, error) {
	d.r = pull{src: src, buf: frame, have: have}
	r := &d.r
	p.Reset()
	h := ParsePrefix(r.span(PrefixBytes))
	flex := h.Version >= 9
	if n := r.length(false, false); n > 0 {
		h.ClientID = internString(r.span(n), d.last)
		d.last = h.ClientID
	}
	if flex {
		r.skipTags()
	}
	d.body(h.Version, p)
	if r.err == nil && r.pos < len(r.buf) {
		r.need(len(r.buf) - r.pos) // bytes behind the request: Kafka ignores them
	}
	err := r.err
	r.src, r.buf = nil, nil
	return h, err
}

// DecodeProduce decodes a whole Produce request, header included, that is in memory.
func DecodeProduce(frame []byte, p *Produce) (Header, error) {
	if len(frame) < PrefixBytes {
		return Header{}, errShort
	}
	var d ProduceDecoder
	return d.Decode(nil, frame, len(frame), p)
}

func (d *ProduceDecoder) body(version int16, p *Produce) {
	r := &d.r
	flex := version >= 9
	p.Version = version
	if n := r.length(flex, false); n >= 0 {
		if n > maxTransactionalID {
			r.fail(malformed("transactional id of %d bytes", n))
		}
		id := string(r.span(n))
		p.TransactionalID = &id
	}
	p.Acks = r.int16()
	p.TimeoutMillis = r.int32()
	small := 0
	for n := r.length(flex, true); n > 0 && r.err == nil; n-- {
		small = d.topic(version, p, small)
	}
	if flex && r.err == nil {
		r.skipTags()
	}
}

// topic decodes one topic entry; small counts the parts so far that are smaller than a batch header.
func (d *ProduceDecoder) topic(version int16, p *Produce, small int) int {
	r := &d.r
	flex := version >= 9
	part := ProducePart{BaseOffset: -1, LogAppendTimeMs: -1, LogStart: -1, LeaderID: -1, LeaderEpoch: -1}
	var name []byte
	if version <= 12 {
		if n := r.length(flex, false); n < 0 {
			r.fail(malformed("null topic"))
		} else {
			name = r.span(n)
		}
	} else {
		copy(part.TopicID[:], r.span(16))
	}
	first := len(p.Parts)
	for n := r.length(flex, true); n > 0 && r.err == nil; n-- {
		if len(p.Parts) == first && version <= 12 {
			part.Topic = p.keepName(name)
		}
		part.Partition = r.int32()
		r.records(r.length(flex, true), &part)
		if flex {
			r.skipTags()
		}
		if len(part.Records) < batchHeaderBytes {
			small++
		}
		if small > maxSmallParts || len(p.Parts) >= maxParts {
			r.fail(malformed("%d partitions, %d of them without a batch", len(p.Parts)+1, small))
		}
		if r.err == nil {
			p.Parts = append(p.Parts, part)
		}
	}
	if flex && r.err == nil {
		r.skipTags()
	}
	if n := len(p.Parts) - first; n > 0 {
		p.topics = append(p.topics, produceTopic{first: int32(first), count: int32(n)})
	}
	return small
}

// keepName copies a topic name so that it outlives the frame. Earlier names stay valid when names grows into a new array.
func (p *Produce) keepName(name []byte) []byte {
	if n := len(p.topics); n > 0 { // the usual repetition: the same topic again
		if last := p.Parts[p.topics[n-1].first].Topic; bytes.Equal(last, name) {
			return last
		}
	}
	at := len(p.names)
	p.names = append(p.names, name...)
	return p.names[at:len(p.names):len(p.names)]
}
