package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// Checksum is how the server checks that an object arrived as it was sent.
type Checksum string

// The checksums.
const (
	// ChecksumCRC32C sends a CRC32C, which the server compares and keeps. The default. For a body that is objectstore.Summed, or lies in
	// memory, or is small, it is in the head of the request (x-amz-checksum-crc32c) and the body goes to the kernel as it is; that of
	// any other follows the body as a trailer, for which minio-go copies the body in pieces and takes half a MiB.
	ChecksumCRC32C Checksum = "crc32c"
	// ChecksumMD5 sends Content-MD5, for servers that know no other. It reads the body twice, and costs some 1.5 s of CPU
	// for each GB.
	ChecksumMD5 Checksum = "md5"
	// ChecksumNone leaves it to TLS and TCP.
	ChecksumNone Checksum = "none"
)

// headerCRC32C is the header of the checksum. minio-go recognises it in lower case.
const headerCRC32C = "x-amz-checksum-crc32c"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errMismatch says that the server found a body to differ from its checksum.
var errMismatch = errors.New("the body arrived with another checksum than it was sent with")

// smallBytes is up to which size a body is read for its checksum before it is sent, wherever it lies.
const smallBytes = bufferBytes

// sumOf returns the CRC32C of the body. It is not known where finding out would mean to read a large body twice that may have to be
// fetched from somewhere.
func sumOf(body objectstore.Body) (sum uint32, known bool, err error) {
	if summed, ok := body.(objectstore.Summed); ok {
		return summed.CRC32C(), true, nil
	}
	size := body.Size()
	if memory, ok := body.(objectstore.Stretches); ok {
		for at := int64(0); at < size; {
			p := memory.Stretch(at)
			p = p[:min(int64(len(p)), size-at)]
			sum, at = crc32.Update(sum, castagnoli, p), at+int64(len(p))
		}
		return sum, true, nil
	}
	if _, inMemory := body.(*bytes.Reader); !inMemory && size > smallBytes {
		return 0, false, nil
	}
	buffer := buffers.Get().(*[bufferBytes]byte)
	defer buffers.Put(buffer)
	for at := int64(0); at < size; {
		p := buffer[:min(int64(len(buffer)), size-at)]
		if n, err := body.ReadAt(p, at); n < len(p) {
			return 0, false, fmt.Errorf("reading the body: %w", err)
		}
		sum, at = crc32.Update(sum, castagnoli, p), at+int64(len(p))
	}
	return sum, true, nil
}

func encodeSum(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// wrongSum is a body with a checksum that is not its own.
type wrongSum struct{ *bytes.Reader }

func (w wrongSum) CRC32C() uint32 { return 0x5eed }

// VerifySums implements objectstore.Verifier: the server must refuse what does not match a checksum in the head of the request,
// and must take apart a body that its checksum follows instead of keeping it as it comes.
func (s *Store) VerifySums(ctx context.Context, key string) error {
	if s.opts.Checksum != ChecksumCRC32C {
		return nil
	}
	content := []byte("tidemark probe of checksums")
	switch err := s.Put(ctx, key, wrongSum{bytes.NewReader(content)}, objectstore.PutOptions{}); {
	case err == nil:
		return fmt.Errorf("the server compares no checksums: it took an object with a wrong %s; if it is known to compare Content-MD5, use the checksum md5: %w",
			headerCRC32C, objectstore.ErrRejected)
	case !errors.Is(err, errMismatch):
		return err
	}
	if err := s.put(ctx, key, bytes.NewReader(content), objectstore.PutOptions{}, true); err != nil {
		return fmt.Errorf("with the checksum as a trailer: %w", err)
	}
	p := make([]byte, 2*len(content))
	n, err := s.GetRange(ctx, key, p, 0)
	if err != nil && err != io.EOF { //nolint:errorlint // the contract says: itself
		return err
	}
	if !bytes.Equal(p[:n], content) {
		return fmt.Errorf("the server knows no checksums as trailers: it turned %q into %q; if it is known to compare Content-MD5, use the checksum md5: %w",
			content, p[:n], objectstore.ErrRejected)
	}
	return nil
}
