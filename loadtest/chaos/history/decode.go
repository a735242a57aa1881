package history

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// ErrTorn says that the file ends within an operation, as that of a recorder that was killed does. All operations before are good.
var ErrTorn = errors.New("history ends within an operation")

// Decoder reads operations from a file.
type Decoder struct {
	r       *bufio.Reader
	at      time.Duration
	started bool
	read    int64 // operations
	records []Record
}

// NewDecoder returns a decoder that reads r as it needs to.
func NewDecoder(r io.Reader) *Decoder { return &Decoder{r: bufio.NewReaderSize(r, 1<<16)} }

// Next reads one operation into op. It returns io.EOF at the end, ErrTorn if the last operation is cut, and another error
// for what is no history.
func (d *Decoder) Next(op *Op) error {
	if !d.started {
		var head [len(Header)]byte
		if _, err := io.ReadFull(d.r, head[:]); err != nil || string(head[:]) != Header {
			return fmt.Errorf("no history of version %d: it begins with %q", Header[len(Header)-1], head)
		}
		d.started = true
	}
	kind, err := d.r.ReadByte()
	if err != nil {
		return err
	}
	*op = Op{Kind: Kind(kind)}
	if kind > byte(lastKind) || fields[kind] == "" {
		return fmt.Errorf("operation %d: kind %d", d.read, kind)
	}
	f := fielder{r: d.r}
	d.at += time.Duration(f.unsigned(math.MaxInt64/uint64(2*time.Microsecond))) * time.Microsecond
	op.At = d.at
	for _, name := range fields[kind] {
		d.field(&f, name, op)
	}
	switch {
	case errors.Is(f.err, io.EOF) || errors.Is(f.err, io.ErrUnexpectedEOF):
		return ErrTorn
	case f.err != nil:
		return fmt.Errorf("operation %d, kind %d: %w", d.read, kind, f.err)
	}
	d.read++
	return nil
}

func (d *Decoder) field(f *fielder, name rune, op *Op) {
	switch name {
	case 'p':
		op.Producer = Producer(f.unsigned(math.MaxUint32))
	case 'r':
		op.Reader = Reader(f.unsigned(math.MaxUint32))
	case 't':
		op.Partition = Partition(f.unsigned(math.MaxUint32))
	case 's':
		op.Sequence = f.unsigned(math.MaxUint64)
	case 'c':
		op.Count = uint32(f.unsigned(math.MaxUint32))
	case 'o':
		op.Offset = f.signed()
	case 'e':
		op.End = f.signed()
	case 'f':
		op.Flags = uint8(f.unsigned(math.MaxUint8))
	case 'n':
		op.Name = f.text()
	case 'g':
		op.Group = f.text()
	case 'R':
		d.records = f.records(d.records[:0])
		op.Records = d.records
	}
}

// fielder reads fields until the first error, which it keeps.
type fielder struct {
	r   *bufio.Reader
	err error
}

func (f *fielder) unsigned(most uint64) uint64 {
	if f.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(f.r)
	if err == nil && v > most {
		err = fmt.Errorf("%d where at most %d may be", v, most)
	}
	f.err = err
	return v
}

func (f *fielder) signed() int64 {
	if f.err != nil {
		return 0
	}
	v, err := binary.ReadVarint(f.r)
	f.err = err
	return v
}

func (f *fielder) text() string {
	b := make([]byte, min(f.unsigned(maxName), maxName))
	if f.err == nil {
		_, f.err = io.ReadFull(f.r, b)
	}
	return string(b)
}

func (f *fielder) records(into []Record) []Record {
	n := f.unsigned(maxRecords)
	var next Record
	for i := uint64(0); i < n && f.err == nil; i++ {
		r := Record{next.Offset + f.signed(), Producer(int64(next.Producer) + f.signed()), next.Sequence + uint64(f.signed())}
		into = append(into, r)
		next = Record{r.Offset + 1, r.Producer, r.Sequence + 1}
	}
	return into
}
