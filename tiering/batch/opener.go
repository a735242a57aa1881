package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Memory that an Opener may use for the window or the largest block of a codec.
const (
	// SmallOpenerBytes is enough for what the codecs' usual levels write.
	SmallOpenerBytes = 8 << 20
	// LargeOpenerBytes is enough for everything that Kafka's clients read: zstd's level 22 declares windows of 128 MiB.
	LargeOpenerBytes = 128 << 20
)

// pieceBytes is how much gzip and zstd decompress at once.
const pieceBytes = 64 << 10

// Opener looks into compressed batches, one at a time, piece by piece. It keeps its decoders and buffers, so that in steady
// state it allocates nothing; what it may take is bounded: about three times its window in all. It is not safe for
// concurrent use.
type Opener struct {
	maxBytes int
	src      bytes.Reader
	stream   stream

	lz4    lz4Frame
	snappy snappyBlocks
	gzip   gzipPieces
	zstd   zstdPieces

	section []byte // of a batch that is re-encoded
}

// NewOpener returns an Opener whose windows and blocks are of at most maxBytes. It takes its memory when it is needed.
func NewOpener(maxBytes int) *Opener {
	o := &Opener{maxBytes: maxBytes}
	o.snappy.maxBlockBytes = maxBytes
	return o
}

// chunks is an uncompressed record section in pieces.
type chunks interface {
	// next returns the next piece, which is not empty and valid until the next call, or io.EOF after the last one.
	next() ([]byte, error)
}

// open begins to read a section. close ends it.
func (o *Opener) open(c Codec, section []byte, maxInflatedBytes int) (*stream, error) {
	if maxInflatedBytes <= 0 {
		maxInflatedBytes = DefaultMaxInflatedBytes
	}
	o.src.Reset(section)
	s := &o.stream
	*s = stream{codec: c, left: maxInflatedBytes, maxBytes: maxInflatedBytes, final: o.maxBytes >= LargeOpenerBytes}
	var err error
	switch c {
	case CodecGzip:
		s.src, err = &o.gzip, o.gzip.open(&o.src)
	case CodecSnappy:
		s.src, err = &o.snappy, o.snappy.open(section)
	case CodecLZ4:
		s.src, err = &o.lz4, o.lz4.open(section)
	case CodecZstd:
		s.src, err = &o.zstd, o.zstd.open(&o.src, o.maxBytes)
	default:
		return nil, fmt.Errorf("%w: %s", ErrCodec, c)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // not even a header is no end
	}
	if err != nil {
		return nil, s.wrap(err)
	}
	return s, nil
}

// close lets go of the section.
func (o *Opener) close() {
	o.src.Reset(nil)
	o.stream = stream{}
	o.lz4.release()
	o.snappy.release()
	o.zstd.release()
}

// inflate returns the whole section, in memory that the Opener keeps.
func (o *Opener) inflate(b []byte, h *Header, maxInflatedBytes int) ([]byte, error) {
	s, err := o.open(h.Codec(), b[HeaderBytes:h.SizeBytes], maxInflatedBytes)
	if err != nil {
		return nil, err
	}
	if !s.final {
		s.maxWhole = o.maxBytes
	}
	out, err := s.appendAll(o.section[:0])
	if err != nil {
		return nil, err
	}
	o.section = out
	return out, nil
}

// gzipPieces reads the members of a gzip section.
type gzipPieces struct {
	r     gzip.Reader
	piece []byte
	err   error
}

func (g *gzipPieces) open(src *bytes.Reader) error {
	g.err = nil
	if g.piece == nil {
		g.piece = make([]byte, pieceBytes)
	}
	return g.r.Reset(src)
}

// next implements chunks.
func (g *gzipPieces) next() ([]byte, error) { return readPiece(&g.r, g.piece, &g.err) }

// zstdPieces reads the frames of a zstd section.
type zstdPieces struct {
	d     *zstd.Decoder
	piece []byte
	err   error
}

func (z *zstdPieces) open(src *bytes.Reader, maxWindowBytes int) error {
	z.err = nil
	if z.d == nil {
		// Concurrency 1 decodes on the caller's goroutine.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(maxWindowBytes)))
		if err != nil {
			return fmt.Errorf("make a decoder: %w", err)
		}
		z.d, z.piece = d, make([]byte, pieceBytes)
	}
	return z.d.Reset(src)
}

// next implements chunks.
func (z *zstdPieces) next() ([]byte, error) {
	b, err := readPiece(z.d, z.piece, &z.err)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return nil, ErrMemory
	}
	return b, err
}

func (z *zstdPieces) release() {
	if z.d != nil {
		_ = z.d.Reset(nil) // fails only when the decoder was closed
	}
}

// readPiece fills piece. An error that comes together with bytes is kept in later, for the next call.
func readPiece(r io.Reader, piece []byte, later *error) ([]byte, error) {
	n := 0
	for n < len(piece) && *later == nil {
		var m int
		m, *later = r.Read(piece[n:])
		n += m
	}
	if n > 0 {
		return piece[:n], nil
	}
	return nil, *later
}
