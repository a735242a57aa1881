package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// withPayload makes a batch of count records with a right CRC whose bytes after the header are payload.
func withPayload(t testing.TB, codec Codec, count int32, payload []byte) []byte {
	t.Helper()
	b := append(build(t, CodecNone, 1, nil)[:HeaderBytes:HeaderBytes], payload...)
	binary.BigEndian.PutUint16(b[attributesAt:], uint16(codec))
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-frameOverheadBytes))
	binary.BigEndian.PutUint32(b[countAt:], uint32(count))
	binary.BigEndian.PutUint32(b[lastOffsetDeltaAt:], uint32(count-1))
	return reseal(b)
}

// encode makes a record of fields: an int is a varint, a string is itself. The length and the attributes come by themselves.
func encode(fields ...any) []byte {
	r := []byte{0}
	for _, f := range fields {
		switch v := f.(type) {
		case int:
			r = appendVarint(r, int64(v))
		case string:
			r = append(r, v...)
		}
	}
	return append(appendVarint(nil, int64(len(r))), r...)
}

// many is n good records before the section's, so that the bad one is not in the first piece.
func many(n int) []byte {
	var section []byte
	for i := range n {
		section = append(section, encode(0, i, 3, "key", 1000, strings.Repeat("v", 1000), 1, 1, "h", 2, "hv")...)
	}
	return section
}

func TestBadRecordsOfEveryCodec(t *testing.T) {
	long := "\x82\x80\x80\x80\x80\x00" // 1 in six bytes
	tests := []struct {
		name string
		make func(i int) []byte // what stands at record i, the last one
		more int32              // added to the count
		ok   bool
	}{
		{name: "good", ok: true, make: func(i int) []byte { return encode(0, i, -1, -1, 0) }},
		{name: "null value and header value", ok: true, make: func(i int) []byte { return encode(-7, i, 1, "k", -1, 2, 1, "h", -1, 0, 0) }},
		{name: "value of 300 KiB", ok: true, make: func(i int) []byte { return encode(0, i, 1, "k", 300<<10, strings.Repeat("x", 300<<10), 0) }},
		{name: "fewer records than counted", more: 1, make: func(i int) []byte { return encode(0, i, -1, -1, 0) }},
		{name: "more records than counted", more: -1, make: func(i int) []byte { return encode(0, i, -1, -1, 0) }},
		{name: "a byte after the last record", make: func(i int) []byte { return append(encode(0, i, -1, -1, 0), 0) }},
		{name: "offset delta repeated", make: func(i int) []byte { return encode(0, i-1, -1, -1, 0) }},
		{name: "offset delta skipped", make: func(i int) []byte { return encode(0, i+1, -1, -1, 0) }},
		{name: "offset delta negative", make: func(int) []byte { return encode(0, -1, -1, -1, 0) }},
		{name: "offset delta of 40 bits", make: func(i int) []byte { return encode(0, i+1<<40, -1, -1, 0) }},
		{name: "length 0", make: func(int) []byte { return []byte{0} }},
		{name: "length negative", make: func(int) []byte { return []byte{1} }},
		{name: "length beyond the section", make: func(int) []byte { return []byte{100, 0} }},
		{name: "length of 2 GiB", make: func(int) []byte { return append(appendVarint(nil, 1<<31-1), 0, 0, 0) }},
		{name: "length of 8 EiB", make: func(int) []byte { return append(appendVarint(nil, 1<<62), 0, 0, 0) }},
		{name: "length cut off", make: func(int) []byte { return []byte{0x80} }},
		{name: "length too long by one", make: func(i int) []byte { return encode(0, i, -1, -1, 0, "x") }},
		{name: "length too short by one", make: func(i int) []byte {
			b := encode(0, i, -1, 4, "abcd", 0)
			b[0] -= 2
			return b
		}},
		{name: "attributes only", make: func(int) []byte { return encode() }},
		{name: "timestamp cut off", make: func(int) []byte { return encode("\x80") }},
		{name: "timestamp of 11 bytes", make: func(int) []byte { return encode(strings.Repeat("\xff", 11)) }},
		{name: "key beyond the record", make: func(i int) []byte { return encode(0, i, 100, "k", -1, 0) }},
		{name: "key of 2 GiB", make: func(i int) []byte { return encode(0, i, 1<<31-1, "k", -1, 0) }},
		{name: "key length of six bytes", make: func(i int) []byte { return encode(0, i, long, "k", -1, 0) }},
		{name: "no value", make: func(i int) []byte { return encode(0, i, -1) }},
		{name: "value beyond the record", make: func(i int) []byte { return encode(0, i, -1, 9, "v", 0) }},
		{name: "no header count", make: func(i int) []byte { return encode(0, i, -1, -1) }},
		{name: "header count negative", make: func(i int) []byte { return encode(0, i, -1, -1, -1) }},
		{name: "header count too high", make: func(i int) []byte { return encode(0, i, -1, -1, 1000, 0, 0) }},
		{name: "header count beyond the headers", make: func(i int) []byte { return encode(0, i, -1, -1, 2, 1, "h", -1) }},
		{name: "header key null", make: func(i int) []byte { return encode(0, i, -1, -1, 1, -1, -1) }},
		{name: "header key beyond the record", make: func(i int) []byte { return encode(0, i, -1, -1, 1, 50, "h", -1) }},
		{name: "header value beyond the record", make: func(i int) []byte { return encode(0, i, -1, -1, 1, 1, "h", 50, "v") }},
		{name: "a byte after the headers", make: func(i int) []byte { return encode(0, i, -1, -1, 1, 1, "h", -1, "x") }},
	}
	for _, tt := range tests {
		for _, before := range []int{0, 300} {
			for _, codec := range allCodecs {
				payload, err := deflate(codec, append(many(before), tt.make(before)...), nil)
				if err != nil {
					t.Fatal(err)
				}
				b := withPayload(t, codec, int32(before)+1+tt.more, payload)
				name := fmt.Sprintf("%s at %d, %s", tt.name, before, codec)
				_, err = prepare(b, rules())
				if tt.ok && err != nil || !tt.ok && !errors.Is(err, ErrInvalid) {
					t.Errorf("%s: %v", name, err)
				}
				r := rules() // re-encoded batches are looked at another way
				r.Target = CodecLZ4
				if _, again := prepare(b, r); (again == nil) != (err == nil) {
					t.Errorf("%s, re-encoded: %v", name, again)
				}
				r = rules()
				r.TrustCompressed = true
				if _, trusted := prepare(b, r); codec != CodecNone && before+1+int(tt.more) > 0 && trusted != nil {
					t.Errorf("%s, trusted: %v", name, trusted)
				}
			}
		}
	}
}

// TestGarbageInsteadOfRecords: the CRC is right, the payload is not what the attributes say.
func TestGarbageInsteadOfRecords(t *testing.T) {
	plain := append(many(300), encode(0, 300, -1, -1, 0)...)
	for _, codec := range allCodecs[1:] {
		good, err := deflate(codec, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		flip := func(at int) []byte {
			b := bytes.Clone(good)
			b[at] ^= 0xff
			return b
		}
		for name, payload := range map[string][]byte{
			"text":              []byte("this was never compressed by anything, it only has the bit set"),
			"zeros":             make([]byte, 100),
			"ones":              bytes.Repeat([]byte{0xff}, 100),
			"one byte":          {0}, // an empty block of snappy
			"not compressed":    plain,
			"first byte":        flip(0),
			"cut off by a byte": good[:len(good)-1],
			"cut in half":       good[:len(good)/2],
			"a byte too many":   append(bytes.Clone(good), 'x'),
			"followed by text":  append(bytes.Clone(good), "trailing garbage"...),
		} {
			if _, err := prepare(withPayload(t, codec, 301, payload), rules()); !errors.Is(err, ErrInvalid) || (errors.Is(err, ErrCorrupt) != (codec != CodecSnappy || name != "one byte")) {
				t.Errorf("%s, %s: %v", codec, name, err)
			}
		}
		// Nothing at all: no records rather than bad ones, where the codec allows it.
		if _, err := prepare(withPayload(t, codec, 301, nil), rules()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: empty section: %v", codec, err)
		}
		if h, err := prepare(withPayload(t, codec, 301, good), rules()); err != nil || h.Count != 301 {
			t.Errorf("%s: the good one: %v", codec, err)
		}
	}
}

func TestBombs(t *testing.T) {
	zeros := make([]byte, 100<<10)
	for _, codec := range allCodecs[1:] {
		section := encode(0, 0, -1, len(zeros), string(zeros), 0)
		payload, err := deflate(codec, section, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := rules()
		for _, target := range []Codec{CodecProducer, CodecNone} {
			r.Target, r.MaxInflatedBytes = target, len(section)
			if _, err := prepare(withPayload(t, codec, 1, payload), r); err != nil && codec != target {
				t.Errorf("%s to %s: as much as allowed: %v", codec, target, err)
			}
			r.MaxInflatedBytes--
			if _, err := prepare(withPayload(t, codec, 1, payload), r); !errors.Is(err, ErrTooLarge) || !errors.Is(err, ErrInflated) {
				t.Errorf("%s to %s: a byte more: %v", codec, target, err)
			}
		}
	}
}

// TestOpenersMemory: what declares a large window or block is refused before it is allocated, and passes with a larger Opener.
func TestOpenersMemory(t *testing.T) {
	big := encode(0, 0, -1, 9<<20, strings.Repeat("0123456789abcdef", 9<<16), 0)
	var window bytes.Buffer
	w, err := zstd.NewWriter(&window, zstd.WithWindowSize(16<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(many(1)[:10]) // a stream, whose length is not known when the window is declared
	_ = w.Flush()
	_, _ = w.Write(many(1)[10:])
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	one, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	single := one.EncodeAll(big, nil)
	for name, b := range map[string][]byte{
		"zstd window":         withPayload(t, CodecZstd, 1, window.Bytes()),
		"zstd single segment": withPayload(t, CodecZstd, 1, single),
		"snappy block":        withPayload(t, CodecSnappy, 1, s2.EncodeSnappyBest(nil, big)),
	} {
		r := rules()
		r.MaxBytes = 8 << 20
		small := NewOpener(SmallOpenerBytes)
		if _, _, err := Prepare(b, r, nil); !errors.Is(err, ErrMemory) {
			t.Errorf("%s: without opener: %v", name, err)
		}
		if _, _, err := Prepare(b, r, small); !errors.Is(err, ErrMemory) {
			t.Errorf("%s: small: %v", name, err)
		}
		if _, _, err := Prepare(b, r, NewOpener(LargeOpenerBytes)); err != nil {
			t.Errorf("%s: large: %v", name, err)
		}
		if _, _, err := Prepare(build(t, CodecSnappy, 10, nil), r, small); err != nil { // it is not spoilt
			t.Errorf("%s: after it: %v", name, err)
		}
	}
	r := rules()
	r.Target = CodecGzip // needs all of the section at once
	lz, err := deflate(CodecLZ4, big, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Prepare(withPayload(t, CodecLZ4, 1, lz), r, NewOpener(SmallOpenerBytes)); !errors.Is(err, ErrMemory) {
		t.Errorf("re-encoding: %v", err)
	}
	if _, _, err := Prepare(withPayload(t, CodecLZ4, 1, lz), r, NewOpener(LargeOpenerBytes)); err != nil {
		t.Errorf("re-encoding: %v", err)
	}
	// A window of 512 MiB in a few bytes: magic, descriptor, window byte, then a last raw block.
	huge := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x09, 0x00, 0x00, 0}
	if _, _, err := Prepare(withPayload(t, CodecZstd, 1, huge), rules(), NewOpener(LargeOpenerBytes)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("window of 512 MiB: %v", err)
	}
}

// TestLZ4Frames: frames of another implementation with every option, and what Kafka's readers do not take.
func TestLZ4Frames(t *testing.T) {
	section := many(200)
	frame := func(options ...lz4.Option) []byte {
		var buf bytes.Buffer
		w := lz4.NewWriter(&buf)
		if err := w.Apply(options...); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(section); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	options := [][]lz4.Option{
		nil,
		{lz4.ChecksumOption(true)},
		{lz4.ChecksumOption(false)},
		{lz4.BlockChecksumOption(true)},
		{lz4.SizeOption(uint64(len(section)))},
		{lz4.BlockChecksumOption(true), lz4.SizeOption(uint64(len(section))), lz4.CompressionLevelOption(lz4.Level9)},
		{lz4.BlockSizeOption(lz4.Block64Kb)},
		{lz4.BlockSizeOption(lz4.Block4Mb)},
	}
	for i, o := range options {
		raw := frame(o...)
		if _, err := prepare(withPayload(t, CodecLZ4, 200, raw), rules()); err != nil {
			t.Errorf("options %d: %v", i, err)
		}
		for at := 4; at < 7; at++ { // flags, block descriptor, checksum of both
			bad := bytes.Clone(raw)
			bad[at] ^= 0x40
			if _, err := prepare(withPayload(t, CodecLZ4, 200, bad), rules()); !errors.Is(err, ErrCorrupt) {
				t.Errorf("options %d, byte %d changed: %v", i, at, err)
			}
		}
	}
	sums := frame(lz4.ChecksumOption(true))
	sums[len(sums)-1] ^= 1
	blockSums := frame(lz4.ChecksumOption(false), lz4.BlockChecksumOption(true))
	blockSums[len(blockSums)-5] ^= 1
	sized := frame(lz4.SizeOption(uint64(len(section))))
	sized[6]++
	sized[14] = byte(xxSum(sized[4:14]) >> 8)
	dependent := frame()
	dependent[4] &^= lz4Independent
	dependent[6] = byte(xxSum(dependent[4:6]) >> 8)
	for name, raw := range map[string][]byte{
		"content checksum": sums, "block checksum": blockSums, "content size": sized, "dependent blocks": dependent,
		"two frames": append(frame(), frame()...),
	} {
		if _, err := prepare(withPayload(t, CodecLZ4, 200, raw), rules()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSnappyBlocks: raw blocks and framed ones, and what readers of snappy do not take.
func TestSnappyBlocks(t *testing.T) {
	section := many(100)
	if _, err := prepare(withPayload(t, CodecSnappy, 100, s2.EncodeSnappy(nil, section)), rules()); err != nil {
		t.Errorf("raw: %v", err)
	}
	framed := deflateXerial(section[:1500], nil)
	framed = deflateXerial(section[1500:], framed)
	if _, err := prepare(withPayload(t, CodecSnappy, 100, framed), rules()); err != nil {
		t.Errorf("concatenated: %v", err)
	}
	var extended []byte
	for n := 1; ; n++ { // S2 finds something to repeat sooner or later
		text := many(n)
		extended = s2.EncodeBest(nil, text)
		section = text
		if out, err := s2.Decode(nil, extended); err != nil || !bytes.Equal(out, text) {
			t.Fatal(err)
		}
		if _, err := prepare(withPayload(t, CodecSnappy, int32(n), extended), rules()); errors.Is(err, ErrInvalid) {
			return
		}
		if n == 300 {
			t.Fatal("S2 blocks pass as snappy")
		}
	}
}

func TestXXH32(t *testing.T) {
	text := bytes.Repeat([]byte("tidemark"), 100)
	for want, in := range map[uint32][]byte{ // of the reference implementation
		0x02cc5d05: nil, 0x550d7456: []byte("a"), 0x32d153ff: []byte("abc"),
	} {
		if got := xxSum(in); got != want {
			t.Errorf("%q: %08x", in, got)
		}
	}
	for n := range len(text) {
		var x xxh32
		x.reset()
		for rest := text[:n]; len(rest) > 0; {
			step := min(len(rest), 1+n%37)
			x.write(rest[:step])
			rest = rest[step:]
		}
		if x.sum() != xxSum(text[:n]) {
			t.Fatalf("%d bytes in pieces differ", n)
		}
	}
}

// slices gives a section in pieces of n bytes.
type slices struct {
	rest []byte
	n    int
}

func (s *slices) next() ([]byte, error) {
	if len(s.rest) == 0 {
		return nil, io.EOF
	}
	n := min(s.n, len(s.rest))
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b, nil
}
