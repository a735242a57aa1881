package metadata

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Values of etcd keys that are many or large are binary: a kind and a version byte, then fields. Integers are LEB128
// varints (signed ones zigzag), strings are a length and bytes. FORMAT.md has every layout. Decoders refuse other kinds,
// newer versions, numbers out of range, and trailing bytes.

const codecVersion = 1

// Kinds of binary values: the first byte, so that a value under a wrong key is noticed.
const (
	kindPartition = 'P'
	kindStream    = 'S'
	kindCommitted = 'W'
	kindPending   = 'O'
	kindOffsets   = 'C'
	kindGroup     = 'G'
	kindProducers = 'I'
	kindEnsemble  = 'E'

	kindTransaction = 'T'
)

// decoder reads a binary value. After the first failure every read returns zero; err says what failed first.
type decoder struct {
	b   []byte
	err error
}

func newDecoder(b []byte, kind byte) *decoder {
	d := &decoder{b: b}
	switch {
	case len(b) < 2:
		d.fail("value of %d bytes is shorter than its header", len(b))
	case b[0] != kind:
		d.fail("value of kind %q where %q belongs", b[0], kind)
	case b[1] != codecVersion:
		d.fail("value of version %d; this program knows %d", b[1], codecVersion)
	default:
		d.b = b[2:]
	}
	return d
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	d.b = nil
}

// uint reads a number that is at most limit.
func (d *decoder) uint(what string, limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("%s: truncated or overlong number", what)
		return 0
	}
	if v > limit {
		d.fail("%s: %d is above %d", what, v, limit)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// int reads a signed number in [low, high].
func (d *decoder) int(what string, low, high int64) int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("%s: truncated or overlong number", what)
		return 0
	}
	if v < low || v > high {
		d.fail("%s: %d is outside [%d, %d]", what, v, low, high)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// string reads a string of at most limit bytes.
func (d *decoder) string(what string, limit int) string {
	n := int(d.uint(what, uint64(limit)))
	if d.err != nil {
		return ""
	}
	if n > len(d.b) {
		d.fail("%s: %d bytes, %d are there", what, n, len(d.b))
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) byte(what string) byte {
	if d.err != nil || len(d.b) == 0 {
		d.fail("%s: truncated", what)
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

// done returns the first failure, or one for bytes that are left.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) != 0 {
		d.fail("%d bytes follow the value", len(d.b))
	}
	return d.err
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendPartition(b []byte, p *Partition) []byte {
	b = append(b, kindPartition, codecVersion)
	b = binary.AppendVarint(b, int64(p.Owner))
	b = binary.AppendUvarint(b, uint64(p.OwnerIncarnation))
	b = binary.AppendUvarint(b, uint64(p.LeaderEpoch))
	b = binary.AppendUvarint(b, uint64(p.LogStart))
	b = appendString(b, p.Manifest.Key)
	b = binary.AppendUvarint(b, p.Manifest.Generation)
	b = binary.AppendUvarint(b, uint64(p.Manifest.End))
	return binary.AppendUvarint(b, uint64(p.Manifest.SizeBytes))
}

// decodePartition leaves ID and Revision, which stand in the key and beside the value, to the caller.
func decodePartition(b []byte) (Partition, error) {
	d := newDecoder(b, kindPartition)
	p := Partition{
		Owner:            BrokerID(d.int("owner", math.MinInt32, math.MaxInt32)),
		OwnerIncarnation: Incarnation(d.uint("owner incarnation", math.MaxInt64)),
		LeaderEpoch:      LeaderEpoch(d.uint("leader epoch", math.MaxInt32)),
		LogStart:         Offset(d.uint("log start", math.MaxInt64)),
		Manifest: ManifestRef{
			Key:        d.string("manifest key", MaxManifestKeyBytes),
			Generation: d.uint("manifest generation", math.MaxUint64),
			End:        Offset(d.uint("manifest end", math.MaxInt64)),
			SizeBytes:  int64(d.uint("manifest size", math.MaxInt64)),
		},
	}
	return p, d.done()
}

func (p *Partition) validate() error {
	m := &p.Manifest
	if p.OwnerIncarnation < 0 || p.LeaderEpoch < 0 || p.LogStart < 0 || m.End < 0 || m.SizeBytes < 0 {
		return fmt.Errorf("%w: partition %s: negative number", ErrInvalid, p.ID)
	}
	if len(m.Key) > MaxManifestKeyBytes {
		return fmt.Errorf("%w: partition %s: manifest key of %d bytes, at most %d", ErrInvalid, p.ID, len(m.Key), MaxManifestKeyBytes)
	}
	return nil
}

func appendStream(b []byte, s *StreamState) []byte {
	b = append(b, kindStream, codecVersion, byte(s.State))
	b = binary.AppendVarint(b, int64(s.Owner))
	b = binary.AppendUvarint(b, uint64(s.RecoveringBy))
	b = binary.AppendUvarint(b, s.First)
	return binary.AppendUvarint(b, s.End)
}

// decodeStream leaves ID, Epoch, Class, Committed and Revision to the caller.
func decodeStream(b []byte) (StreamState, error) {
	d := newDecoder(b, kindStream)
	s := StreamState{
		State:        StreamPhase(d.byte("state")),
		Owner:        BrokerID(d.int("owner", math.MinInt32, math.MaxInt32)),
		RecoveringBy: Incarnation(d.uint("recovering by", math.MaxInt64)),
		First:        d.uint("first", math.MaxUint64),
		End:          d.uint("end", math.MaxUint64),
	}
	if d.err == nil && (s.State < StreamOpen || s.State > StreamSealed) {
		d.fail("state %d is not known", s.State)
	}
	return s, d.done()
}

func appendCommitted(b []byte, position uint64) []byte {
	return binary.AppendUvarint(append(b, kindCommitted, codecVersion), position)
}

func decodeCommitted(b []byte) (uint64, error) {
	d := newDecoder(b, kindCommitted)
	v := d.uint("position", math.MaxUint64)
	return v, d.done()
}

func appendEnsemble(b []byte, e *Ensemble) []byte {
	b = append(b, kindEnsemble, codecVersion, byte(e.Quorum), byte(len(e.Members)))
	for _, m := range e.Members {
		b = appendString(binary.AppendUvarint(b, uint64(m.Broker)), m.Disk)
	}
	return b
}

// decodeEnsemble leaves Revision to the caller.
func decodeEnsemble(b []byte) (Ensemble, error) {
	d := newDecoder(b, kindEnsemble)
	e := Ensemble{Quorum: int(d.byte("quorum"))}
	n := int(d.byte("members"))
	for i := 0; i < n && d.err == nil; i++ {
		e.Members = append(e.Members, Member{Broker: BrokerID(d.uint("member", math.MaxInt32)), Disk: d.string("disk id", MaxDiskIDBytes)})
	}
	err := d.done()
	if err == nil {
		err = e.validate()
	}
	return e, err
}

func appendPending(b []byte, o *PendingObject) []byte {
	b = append(b, kindPending, codecVersion)
	b = appendString(b, o.Key)
	b = binary.AppendUvarint(b, uint64(o.SizeBytes))
	b = binary.AppendUvarint(b, uint64(o.FooterAt))
	b = binary.LittleEndian.AppendUint32(b, o.CRC)
	b = binary.AppendUvarint(b, o.From)
	return binary.AppendUvarint(b, o.To-o.From)
}

// decodePending leaves Stream and Seq, which stand in the key, to the caller.
func decodePending(b []byte) (PendingObject, error) {
	d := newDecoder(b, kindPending)
	o := PendingObject{
		Key:       d.string("object key", MaxObjectKeyBytes),
		SizeBytes: int64(d.uint("size", math.MaxInt64)),
		FooterAt:  int64(d.uint("footer position", math.MaxInt64)),
	}
	if d.err == nil && len(d.b) < 4 {
		d.fail("crc: truncated")
	}
	if d.err == nil {
		o.CRC = binary.LittleEndian.Uint32(d.b)
		d.b = d.b[4:]
	}
	o.From = d.uint("from", math.MaxUint64)
	o.To = o.From + d.uint("length", math.MaxUint64-o.From)
	return o, d.done()
}

func (o *PendingObject) validate() error {
	if o.Key == "" || len(o.Key) > MaxObjectKeyBytes || o.SizeBytes < 0 || o.FooterAt < 0 || o.To < o.From {
		return fmt.Errorf("%w: pending object %s/%d: key of %d bytes, size %d, footer at %d, range [%d, %d)",
			ErrInvalid, o.Stream, o.Seq, len(o.Key), o.SizeBytes, o.FooterAt, o.From, o.To)
	}
	return nil
}

func appendProducerIDs(b []byte, next int64) []byte {
	return binary.AppendUvarint(append(b, kindProducers, codecVersion), uint64(next))
}

func decodeProducerIDs(b []byte) (int64, error) {
	d := newDecoder(b, kindProducers)
	v := d.uint("next producer id", math.MaxInt64)
	return int64(v), d.done()
}

func appendGroup(b, state []byte) []byte {
	return append(append(b, kindGroup, codecVersion), state...)
}

// decodeGroup returns the state, which aliases b: it is opaque here.
func decodeGroup(b []byte) ([]byte, error) {
	d := newDecoder(b, kindGroup)
	if d.err == nil && len(d.b) > MaxGroupStateBytes {
		d.fail("group state of %d bytes, at most %d", len(d.b), MaxGroupStateBytes)
	}
	return d.b, d.err
}
