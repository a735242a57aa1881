package history

import (
	"encoding/binary"
	"time"
)

// Header begins a history file: eight bytes of magic, of which the last is the version.
const Header = "TMHIST\x00\x01"

// Limits of what a decoder accepts, so that a damaged file cannot make it allocate without bound.
const (
	maxName    = 4096
	maxRecords = 1 << 20 // in a poll
)

// fields tells which fields the operations of a kind have, in the order in which they are written.
var fields = [lastKind + 1]string{
	DeclarePartition: "tn", DeclareProducer: "pnf", DeclareReader: "rnfg",
	Invoke: "ptsc", Acked: "ptsco", Failed: "ptsc", Unknown: "ptsc",
	Position: "rto", Poll: "rtR", Corrupt: "rto", CommitInvoke: "rto", CommitAcked: "rto", Bounds: "rtoe", Marker: "rto",
	Fault: "n", TxnBegin: "p", TxnCommitInvoke: "p", TxnCommitted: "p", TxnAborted: "p", TxnUnknown: "p",
}

// Encoder appends operations to a byte slice. The zero value is ready; one encoder writes one file, beginning with Header.
type Encoder struct{ at time.Duration }

// Append adds the operation to b and returns the longer slice. It keeps nothing of op. The time of an operation that is older than
// the one before becomes that one's.
func (e *Encoder) Append(b []byte, op *Op) []byte {
	b = append(b, byte(op.Kind))
	step := max(0, op.At-e.at).Microseconds()
	e.at += time.Duration(step) * time.Microsecond
	b = binary.AppendUvarint(b, uint64(step))
	for _, f := range fields[op.Kind] {
		switch f {
		case 'p':
			b = binary.AppendUvarint(b, uint64(op.Producer))
		case 'r':
			b = binary.AppendUvarint(b, uint64(op.Reader))
		case 't':
			b = binary.AppendUvarint(b, uint64(op.Partition))
		case 's':
			b = binary.AppendUvarint(b, op.Sequence)
		case 'c':
			b = binary.AppendUvarint(b, uint64(op.Count))
		case 'o':
			b = binary.AppendVarint(b, op.Offset)
		case 'e':
			b = binary.AppendVarint(b, op.End)
		case 'f':
			b = binary.AppendUvarint(b, uint64(op.Flags))
		case 'n':
			b = appendString(b, op.Name)
		case 'g':
			b = appendString(b, op.Group)
		case 'R':
			b = appendRecords(b, op.Records)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), maxName)]
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendRecords writes each record as its distance from what would come next, which is mostly 0: 3 bytes a record.
func appendRecords(b []byte, records []Record) []byte {
	b = binary.AppendUvarint(b, uint64(len(records)))
	var next Record
	for _, r := range records {
		b = binary.AppendVarint(b, r.Offset-next.Offset)
		b = binary.AppendVarint(b, int64(r.Producer)-int64(next.Producer))
		b = binary.AppendVarint(b, int64(r.Sequence-next.Sequence))
		next = Record{r.Offset + 1, r.Producer, r.Sequence + 1}
	}
	return b
}
