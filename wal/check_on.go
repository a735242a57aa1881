//go:build walcheck

package wal

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"runtime"
	"strings"
	"sync"
)

// Under the build tag walcheck, misuse of slabs is loud: recycled slabs are poisoned, entries whose bytes changed after
// Done and writes into recycled memory panic, each holder of a pin is known, and slabs live on the heap, where the race
// detector sees them.

const poison = 0xDB

func allocSlabs(sizeBytes int) ([]byte, error) { return alignedBytes(sizeBytes), nil }
func freeSlabs([]byte) error                   { return nil }
func relaxSlab([]byte)                         {} // the poison stays

var holders = struct {
	sync.Mutex
	of map[*slab]map[Ref][]string
}{of: map[*slab]map[Ref][]string{}}

// checkRecycled poisons a slab that nobody may read any more, after a last look whether its entries are as written.
func checkRecycled(s *slab) {
	for off := 0; off < s.used; {
		length, content := int(le.Uint32(s.buf[off+48:])), int(le.Uint32(s.buf[off+60:]))
		if length == 0 {
			break // never written: the stream failed before
		}
		for e := off + groupHeaderBytes; e < off+content; {
			n := int(le.Uint32(s.buf[e:]))
			data := s.buf[e+entryHeaderBytes : e+entryHeaderBytes+n]
			if crc32.Checksum(data, castagnoli) != le.Uint32(s.buf[e+4:]) {
				panic(fmt.Sprintf("wal: %d bytes of an entry changed after Done", n))
			}
			e += entryHeaderBytes + n
		}
		off += length
	}
	for i := range s.buf {
		s.buf[i] = poison
	}
}

func checkTaken(s *slab) {
	if len(bytes.TrimLeft(s.buf, string([]byte{poison}))) != 0 {
		panic("wal: a recycled slab was written to")
	}
	clear(s.buf)
}

func checkAcquired(r Ref) {
	var pcs [16]uintptr
	var b strings.Builder
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "\n\t%s %s:%d", f.Function, f.File, f.Line)
		if !more {
			break
		}
	}
	holders.Lock()
	defer holders.Unlock()
	if holders.of[r.s] == nil {
		holders.of[r.s] = map[Ref][]string{}
	}
	holders.of[r.s][r] = append(holders.of[r.s][r], b.String())
}

func checkReleased(r Ref) {
	holders.Lock()
	defer holders.Unlock()
	held := holders.of[r.s][r]
	if len(held) == 0 {
		panic(fmt.Sprintf("wal: Release of an entry at %d that is not held", r.Pos))
	}
	if len(held) == 1 {
		delete(holders.of[r.s], r)
	} else {
		holders.of[r.s][r] = held[:len(held)-1]
	}
}

func checkHolders() string {
	holders.Lock()
	defer holders.Unlock()
	var b strings.Builder
	for _, refs := range holders.of {
		for r, stacks := range refs {
			for _, s := range stacks {
				fmt.Fprintf(&b, "\nentry at %d of %d bytes held by:%s", r.Pos, r.Len, s)
			}
		}
	}
	return b.String()
}
