package manifest

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// Dump prints every blob of an object of kind segment.Manifests for people, as far as it can be decoded, and returns the first error.
func Dump(w io.Writer, object []byte) error {
	for at := 0; at < len(object); {
		n, kind, err := BlobLength(object[at:])
		if err != nil {
			return fmt.Errorf("at %d: %w", at, err)
		}
		if n > int64(len(object)-at) {
			return fmt.Errorf("at %d: %w: blob of %d bytes, %d at hand", at, ErrCorrupt, n, len(object)-at)
		}
		blob := object[at : at+int(n)]
		switch kind {
		case kindManifest:
			err = dumpManifest(w, at, blob)
		case kindChild:
			err = dumpChild(w, at, blob)
		default:
			err = fmt.Errorf("%w: blob kind %d", ErrCorrupt, kind)
		}
		if err != nil {
			return fmt.Errorf("at %d: %w", at, err)
		}
		at += int(n)
	}
	return nil
}

// Walk calls fn for each manifest in an object of kind segment.Manifests; ref lacks the object's id. Children are skipped.
func Walk(object []byte, fn func(Ref, *Manifest) error) error {
	var errs error
	for at := 0; at < len(object); {
		n, kind, err := BlobLength(object[at:])
		if err != nil || n > int64(len(object)-at) {
			return errors.Join(errs, fmt.Errorf("at %d: %w", at, errors.Join(ErrCorrupt, err)))
		}
		if kind == kindManifest {
			m, err := Decode(object[at : at+int(n)])
			if err == nil {
				err = fn(Ref{Position: int64(at), Length: n}, m)
			}
			errs = errors.Join(errs, err)
		}
		at += int(n)
	}
	return errs
}

func dumpManifest(w io.Writer, at int, blob []byte) error {
	m, err := Decode(blob)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "manifest at %d, %d bytes: partition %s-%d generation %d created %s offsets [%d, %d) children %d segments %d bytes %d producer state %d bytes\n",
		at, len(blob), m.Partition.Topic.Hex(), m.Partition.Partition, m.Generation, time.UnixMilli(m.CreatedMs).UTC().Format(time.RFC3339Nano),
		m.Start(), m.End, len(m.Children), len(m.Segments), m.SizeBytes(), len(m.Producers))
	for _, e := range m.Epochs {
		fmt.Fprintf(w, "  epoch %d from %d\n", e.Epoch, e.Start)
	}
	for i := range m.Children {
		c := &m.Children[i]
		fmt.Fprintf(w, "  child [%d, %d) %s at %d length %d crc %08x segments %d bytes %d max timestamp %d\n", c.Start, c.End, dumpID(c.Object),
			c.Position, c.Length, c.CRC, c.Segments, c.SizeBytes, c.MaxTimestampMs)
	}
	dumpSegments(w, m.Segments)
	return nil
}

func dumpChild(w io.Writer, at int, blob []byte) error {
	p, segments, err := DecodeChild(blob)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "child at %d, %d bytes: partition %s-%d segments %d\n", at, len(blob), p.Topic.Hex(), p.Partition, len(segments))
	dumpSegments(w, segments)
	return nil
}

func dumpSegments(w io.Writer, segments []Segment) {
	for i := range segments {
		s := &segments[i]
		fmt.Fprintf(w, "  segment [%d, %d) %s bytes %d max timestamp %d sealed %d index at %d length %d crc %08x aborted %t blocks inline %d\n",
			s.Start, s.End, dumpID(s.Object), s.SizeBytes, s.MaxTimestampMs, s.SealedMs, s.IndexAt, s.IndexBytes, s.IndexCRC, s.HasAborted, len(s.Blocks))
		for j := range s.Blocks {
			b := &s.Blocks[j]
			fmt.Fprintf(w, "    block [%d, %d) at %d length %d epoch %d\n", b.BaseOffset, b.NextOffset, b.Position, b.Length, b.LeaderEpoch)
		}
	}
}

func dumpID(id segment.ID) string {
	return fmt.Sprintf("%s %d-%d-%016x", id.Kind, id.Epoch, id.Seq, id.Nonce)
}
