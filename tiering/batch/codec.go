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

// DefaultMaxInflatedBytes bounds the uncompressed size of one batch's records, so that a small batch cannot cost more than
// a fraction of a second of CPU. Kafka has no such bound.
const DefaultMaxInflatedBytes = 128 << 20

// ErrCodec says that the attributes name a codec that is unknown or not allowed here.
var ErrCodec = errors.New("unsupported compression type")

// ErrInflated says that the records are larger than the bound when uncompressed.
var ErrInflated = errors.New("records too large when uncompressed")

// ErrMemory says that the batch cannot be opened with the memory that the Opener may use. Prepare it with a larger one.
var ErrMemory = errors.New("more memory needed to open the record batch")

// Inflate returns the record section of the batch b uncompressed: b's own bytes when it has no codec, otherwise scratch
// grown as needed. The output never exceeds maxBytes (0: DefaultMaxInflatedBytes). Errors wrap ErrCorrupt, ErrCodec or
// ErrInflated.
func Inflate(b []byte, h *Header, scratch []byte, maxBytes int) ([]byte, error) {
	section := b[HeaderBytes:h.SizeBytes]
	if h.Codec() == CodecNone {
		return section, nil
	}
	return inflate(h.Codec(), section, scratch[:0], maxBytes)
}

// readOpeners are for readers of stored batches, one at a time each.
var readOpeners = sync.Pool{New: func() any { return NewOpener(LargeOpenerBytes) }}

func inflate(c Codec, section, dst []byte, maxBytes int) ([]byte, error) {
	o := readOpeners.Get().(*Opener)
	defer readOpeners.Put(o)
	defer o.close()
	s, err := o.open(c, section, maxBytes)
	if err != nil {
		return nil, err
	}
	return s.appendAll(dst)
}

// Encoders hold hundreds of KiB, so each kind has a pool.
var (
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
