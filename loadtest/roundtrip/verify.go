package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// lineHeader carries a record's line number, little endian, so that equal lines are told apart.
const lineHeader = "line"

// ledger checks what comes out of a topic against the corpus. Methods may be called concurrently.
type ledger struct {
	corpus *corpus

	mu       sync.Mutex
	seen     [][]uint8 // per file and line: times read, up to 255
	last     []int     // per file: the highest line read so far
	received int
	distinct int

	duplicated, reordered, foreign, damaged int
	firstFault                              string
}

func newLedger(c *corpus) *ledger {
	l := &ledger{corpus: c, seen: make([][]uint8, len(c.files)), last: make([]int, len(c.files))}
	for i := range c.files {
		l.seen[i] = make([]uint8, len(c.files[i].lines))
		l.last[i] = -1
	}
	return l
}

// add enters one consumed record. Records without a line number (kcat's) count as the line after the last of their key.
func (l *ledger) add(r *kgo.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received++
	i, ok := l.corpus.byKey[string(r.Key)]
	if !ok {
		l.foreign++
		l.fault("%s[%d]@%d: key %q was never sent", r.Topic, r.Partition, r.Offset, r.Key)
		return
	}
	line := l.last[i] + 1
	for _, h := range r.Headers {
		if h.Key == lineHeader && len(h.Value) == 4 {
			line = int(binary.LittleEndian.Uint32(h.Value))
		}
	}
	if line >= len(l.seen[i]) {
		l.foreign++
		l.fault("%s[%d]@%d: %s has no line %d", r.Topic, r.Partition, r.Offset, r.Key, line)
		return
	}
	if !bytes.Equal(r.Value, l.corpus.files[i].lines[line]) {
		l.damaged++
		l.fault("%s[%d]@%d: %s line %d has other bytes than were sent", r.Topic, r.Partition, r.Offset, r.Key, line)
	}
	switch {
	case l.seen[i][line] > 0:
		l.duplicated++
		l.fault("%s[%d]@%d: %s line %d came twice", r.Topic, r.Partition, r.Offset, r.Key, line)
	case line < l.last[i]:
		l.reordered++
		l.fault("%s[%d]@%d: %s line %d came after line %d", r.Topic, r.Partition, r.Offset, r.Key, line, l.last[i])
	}
	if l.seen[i][line] == 0 {
		l.distinct++
	}
	if l.seen[i][line] < 255 {
		l.seen[i][line]++
	}
	l.last[i] = max(l.last[i], line)
}

func (l *ledger) fault(format string, args ...any) {
	if l.firstFault == "" {
		l.firstFault = fmt.Sprintf(format, args...)
	}
}

// verdict is what one pass over a topic found.
type verdict struct {
	records, lost, duplicated, reordered, damaged int
	firstFault                                    string
}

func (v *verdict) clean() bool { return v.lost+v.duplicated+v.reordered+v.damaged == 0 }

func (v *verdict) plus(o verdict) {
	v.records += o.records
	v.lost += o.lost
	v.duplicated += o.duplicated
	v.reordered += o.reordered
	v.damaged += o.damaged
	if v.firstFault == "" {
		v.firstFault = o.firstFault
	}
}

// verdict counts. Records whose bytes are wrong or that nobody sent are damaged.
func (l *ledger) verdict() verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verdict{
		records: l.received, lost: l.corpus.records - l.distinct, duplicated: l.duplicated,
		reordered: l.reordered, damaged: l.damaged + l.foreign, firstFault: l.firstFault,
	}
	if v.lost > 0 && v.firstFault == "" {
		for i, lines := range l.seen {
			if line := bytes.IndexByte(lines, 0); line >= 0 {
				v.firstFault = fmt.Sprintf("%s line %d never came", l.corpus.files[i].key, line)
				break
			}
		}
	}
	return v
}
