package segment

import (
	"fmt"
	"io"
	"time"

	"github.com/tidemarkmq/tidemark/tiering/codec"
)

// DumpOptions say how much Dump prints.
type DumpOptions struct {
	Blocks bool // list every block
	Verify bool // read every block and compare its CRC
}

// Dump prints an object of sizeBytes for people. It prints as much as it can decode and then returns the first error.
func Dump(w io.Writer, object io.ReaderAt, sizeBytes int64, opts DumpOptions) error {
	if sizeBytes < HeaderBytes+FooterBytes {
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, sizeBytes)
	}
	head := make([]byte, HeaderBytes)
	if _, err := object.ReadAt(head, 0); err != nil && err != io.EOF {
		return fmt.Errorf("read header: %w", err)
	}
	h, err := DecodeHeader(head)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "object %s epoch %d seq %d nonce %016x cluster %s stream %q wal [%d, %d) created %s\n", h.ID.Kind, h.ID.Epoch,
		h.ID.Seq, h.ID.Nonce, h.Cluster, h.Stream, h.From, h.To, time.UnixMilli(h.Created).UTC().Format(time.RFC3339Nano))
	x, f, err := ReadTail(object, sizeBytes)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "index at %d, %d bytes, crc %08x, %d partitions; object size %d\n", f.IndexAt, f.IndexBytes, f.IndexCRC, len(x.Parts), sizeBytes)
	for i := range x.Parts {
		p := &x.Parts[i]
		fmt.Fprintf(w, "partition %s-%d offsets [%d, %d) blocks %d bytes %d max timestamp %d producer state %d bytes at %d aborted %d\n",
			p.Partition.Topic.Hex(), p.Partition.Partition, p.Start, p.End, len(p.Blocks), p.SizeBytes(), p.MaxTimestampMs(),
			len(p.Producers), p.ProducersAt, len(p.Aborted))
		if err := dumpBlocks(w, object, p, opts); err != nil {
			return err
		}
	}
	return nil
}

func dumpBlocks(w io.Writer, object io.ReaderAt, p *Part, opts DumpOptions) error {
	for j := range p.Blocks {
		b := &p.Blocks[j]
		if opts.Blocks {
			fmt.Fprintf(w, "  block [%d, %d) at %d length %d epoch %d max timestamp %d crc %08x\n", b.BaseOffset, b.NextOffset, b.Position,
				b.Length, b.LeaderEpoch, b.MaxTimestampMs, b.CRC)
		}
		if opts.Verify {
			if err := VerifyBlock(object, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// VerifyBlock reads a block and compares its CRC.
func VerifyBlock(object io.ReaderAt, b *Block) error {
	var crc uint32
	buf := make([]byte, min(int64(b.Length), 256<<10))
	for at := b.Position; at < b.End(); {
		n := min(int64(len(buf)), b.End()-at)
		if _, err := object.ReadAt(buf[:n], at); err != nil && err != io.EOF {
			return fmt.Errorf("read block at %d: %w", b.Position, err)
		}
		crc = codec.UpdateCRC(crc, buf[:n])
		at += n
	}
	if crc != b.CRC {
		return fmt.Errorf("%w: block at %d: CRC %08x, want %08x", ErrCorrupt, b.Position, crc, b.CRC)
	}
	return nil
}

// ReadTail reads and decodes footer and index of an object of sizeBytes.
func ReadTail(object io.ReaderAt, sizeBytes int64) (*Index, Footer, error) {
	if sizeBytes < HeaderBytes+FooterBytes {
		return nil, Footer{}, fmt.Errorf("%w: object of %d bytes", ErrCorrupt, sizeBytes)
	}
	foot := make([]byte, FooterBytes)
	if _, err := object.ReadAt(foot, sizeBytes-FooterBytes); err != nil && err != io.EOF {
		return nil, Footer{}, fmt.Errorf("read footer: %w", err)
	}
	f, err := DecodeFooter(foot)
	if err != nil {
		return nil, f, err
	}
	if f.SizeBytes() != sizeBytes {
		return nil, f, fmt.Errorf("%w: footer says %d bytes, object has %d", ErrCorrupt, f.SizeBytes(), sizeBytes)
	}
	tail := make([]byte, f.IndexBytes+FooterBytes)
	if _, err := object.ReadAt(tail, f.IndexAt); err != nil && err != io.EOF {
		return nil, f, fmt.Errorf("read index: %w", err)
	}
	return DecodeTail(tail)
}
