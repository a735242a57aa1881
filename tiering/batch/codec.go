package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is the compression of a batch's record section, as the low three attribute bits name it.
type Codec int8

// The codecs of format v2. CodecProducer is no codec: it asks to keep the producer's (topic config compression.type).
const (
	CodecProducer Codec = -1
	CodecNone     Codec = 0
	CodecGzip     Codec = 1
	CodecSnappy   Codec = 2
	CodecLZ4      Codec = 3
	CodecZstd     Codec = 4
)

var codecNames = [...]string{"uncompressed", "gzip", "snappy", "lz4", "zstd"}

// String returns the name that the topic config compression.type uses.
func (c Codec) String() string {
	switch {
	case c == CodecProducer:
		return "producer"
	case c >= 0 && int(c) < len(codecNames):
		return codecNames[c]
	default:
		return fmt.Sprintf("codec %d", int8(c))
	}
}

// ParseCodec is the inverse of String.
func ParseCodec(name string) (Codec, error) {
	if name == "producer" {
		return CodecProducer, nil
	}
	for i, n := range codecNames {
		if n == name {
			return Codec(i), nil
		}
	}
	return 0, fmt.Errorf("unknown compression type %q", name)
}

// DefaultMaxInflatedBytes bounds the uncompressed size of one batch's records. A batch above it is refused where its
// records must be looked at, and passed on unopened everywhere else.
const DefaultMaxInflatedBytes = 128 << 20

// ErrCodec says that the attributes name a codec that is unknown or not allowed here.
var ErrCodec = errors.New("unsupported compression type")

// ErrInflated says that the records are larger than the bound when uncompressed.
var ErrInflated = errors.New("records too large when uncompressed")

// Inflate returns the record section of the batch b uncompressed: b's own bytes when it has no codec, otherwise scratch
// grown as needed. The output never exceeds maxBytes (0: DefaultMaxInflatedBytes). Errors wrap ErrCorrupt, ErrCodec or
// ErrInflated.
func Inflate(b []byte, h *Header, scratch []byte, maxBytes int) ([]byte, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxInflatedBytes
	}
	section := b[HeaderBytes:h.SizeBytes]
	if h.Codec() == CodecNone {
		return section, nil
	}
	out, err := inflate(h.Codec(), section, scratch[:0], maxBytes)
	if err != nil && !errors.Is(err, ErrInflated) && !errors.Is(err, ErrCodec) {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, h.Codec(), err)
	}
	return out, err
}

func inflate(c Codec, section, dst []byte, maxBytes int) ([]byte, error) {
	switch c {
	case CodecGzip:
		return inflateGzip(section, dst, maxBytes)
	case CodecSnappy:
		return inflateSnappy(section, dst, maxBytes)
	case CodecLZ4:
		r := lz4Readers.Get().(*lz4.Reader)
		defer lz4Readers.Put(r)
		r.Reset(bytes.NewReader(section))
		return readBounded(r, dst, maxBytes)
	case CodecZstd:
		return inflateZstd(section, dst, maxBytes)
	default:
		return nil, fmt.Errorf("%w: %s", ErrCodec, c)
	}
}

// Decoders and encoders hold hundreds of KiB, so each kind has a pool.
var (
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdReaders = sync.Pool{New: func() any {
		// Concurrency 1 decodes on the caller's goroutine. Level 22 declares windows of 128 MiB.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			panic(err) // only bad options can fail
		}
		return d
	}}
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	lz4Writers  = sync.Pool{New: func() any { return lz4.NewWriter(nil) }}
	zstdWriters = sync.Pool{New: func() any {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20))
		if err != nil {
			panic(err) // only bad options can fail
		}
		return e
	}}
)

func inflateGzip(section, dst []byte, maxBytes int) ([]byte, error) {
	r := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(r)
	if err := r.Reset(bytes.NewReader(section)); err != nil {
		return nil, err
	}
	return readBounded(r, dst, maxBytes)
}

func inflateZstd(section, dst []byte, maxBytes int) ([]byte, error) {
	d := zstdReaders.Get().(*zstd.Decoder)
	defer zstdReaders.Put(d)
	if err := d.Reset(bytes.NewReader(section)); err != nil {
		return nil, err
	}
	out, err := readBounded(d, dst, maxBytes)
	_ = d.Reset(nil) // lets go of section before the pool keeps d
	return out, err
}

// readBounded appends r's bytes to dst, and fails with ErrInflated rather than hold more than maxBytes.
func readBounded(r io.Reader, dst []byte, maxBytes int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			grown := make([]byte, len(dst), min(max(2*cap(dst), 64<<10), maxBytes+1))
			copy(grown, dst)
			dst = grown
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst) > maxBytes {
			return nil, fmt.Errorf("%w: over %d bytes", ErrInflated, maxBytes)
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// deflate appends section, compressed by c, to dst.
func deflate(c Codec, section, dst []byte) ([]byte, error) {
	switch c {
	case CodecNone:
		return append(dst, section...), nil
	case CodecGzip:
		buf := bytes.NewBuffer(dst)
		w := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		w.Reset(buf)
		return writeAll(w, buf, section)
	case CodecSnappy:
		return deflateXerial(section, dst), nil
	case CodecLZ4:
		buf := bytes.NewBuffer(dst)
		w := lz4Writers.Get().(*lz4.Writer)
		defer lz4Writers.Put(w)
		w.Reset(buf)
		// 64 KiB blocks as the Java client writes them: consumers size their buffers by the block.
		if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.BlockChecksumOption(false)); err != nil {
			return nil, err
		}
		return writeAll(w, buf, section)
	case CodecZstd:
		e := zstdWriters.Get().(*zstd.Encoder)
		defer zstdWriters.Put(e)
		return e.EncodeAll(section, dst), nil
	default:
		return nil, fmt.Errorf("%w: %s", ErrCodec, c)
	}
}

func writeAll(w io.WriteCloser, buf *bytes.Buffer, section []byte) ([]byte, error) {
	if _, err := w.Write(section); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
