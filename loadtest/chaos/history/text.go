package history

import "fmt"

var names = [lastKind + 1]string{
	"", "partition", "producer", "reader", "invoke", "acked", "failed", "unknown", "position", "poll", "corrupt", "commit", "committed",
	"bounds", "marker", "fault", "txn-begin", "txn-commit", "txn-committed", "txn-aborted", "txn-unknown",
}

// String shows an operation as one line.
func (op *Op) String() string {
	s := fmt.Sprintf("%.6f %s", op.At.Seconds(), names[min(op.Kind, lastKind)])
	for _, f := range fields[min(op.Kind, lastKind)] {
		switch f {
		case 'p':
			s += fmt.Sprintf(" producer=%d", op.Producer)
		case 'r':
			s += fmt.Sprintf(" reader=%d", op.Reader)
		case 't':
			s += fmt.Sprintf(" partition=%d", op.Partition)
		case 's':
			s += fmt.Sprintf(" sequence=%d", op.Sequence)
		case 'c':
			s += fmt.Sprintf(" count=%d", op.Count)
		case 'o':
			s += fmt.Sprintf(" offset=%d", op.Offset)
		case 'e':
			s += fmt.Sprintf(" end=%d", op.End)
		case 'f':
			s += fmt.Sprintf(" flags=%#x", op.Flags)
		case 'n':
			s += fmt.Sprintf(" name=%q", op.Name)
		case 'g':
			s += fmt.Sprintf(" group=%q", op.Group)
		case 'R':
			for _, r := range op.Records {
				s += fmt.Sprintf(" %d=%d/%d", r.Offset, r.Producer, r.Sequence)
			}
		}
	}
	return s
}
