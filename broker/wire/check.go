package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// ErrTooCostly is wrapped by Check's error about a request whose decoded form would be too big.
var ErrTooCostly = errors.New("request too costly to decode")

// Estimated heap bytes of what kmsg makes of a request. Elements of one wire byte become structures of up to structBytes, and the first
// unknown tagged field of a structure makes a map.
const (
	structBytes    = 256
	primitiveBytes = 8
	stringBytes    = 32 // beside its characters: header, pointer, rounding
	firstTagBytes  = 512
	moreTagBytes   = 96
)

// Check walks over the body of a request that kmsg is going to decode, without allocating, and returns an estimate of the heap bytes that
// decoding takes. kmsg alone would allocate arrays by declared counts (hundreds of bytes for each byte of the frame) and run through
// declared counts of tagged fields though the bytes have ended; after Check all counts are known to be real.
//
// Errors: ErrMalformed when the body ends too early or has impossible lengths, ErrTooCostly as soon as the estimate passes maxBytes.
// Bytes behind the body are ignored, as Kafka does.
func Check(key, version int16, body []byte, maxBytes int) (costBytes int, err error) {
	l := layoutOf(key, version)
	if l == nil {
		return 0, malformed("no layout for API key %d version %d", key, version)
	}
	w := walker{cursor: cursor{b: body}, flexible: flexible(key, version), cost: structBytes, limit: maxBytes}
	w.walk(l)
	return w.cost, w.err
}

type fieldKind uint8

const (
	kindFixed  fieldKind = iota // size bytes
	kindString                  // string or bytes (wide)
	kindArray                   // of primitives of size bytes (no inside), of strings (wide), else of structures
	kindStruct
	kindNullable // structure behind a presence byte
)

// layout is a structure at one version.
type layout struct {
	fields []fieldLayout
	tags   map[uint32]*fieldLayout
}

type fieldLayout struct {
	kind   fieldKind
	wide   bool // kindString: of bytes, with a length of 32 bits; kindArray: of bare strings
	size   int
	inside *layout // kindArray, kindStruct, kindNullable
}

type walker struct {
	cursor
	flexible    bool
	cost, limit int
}

func (w *walker) charge(n int) {
	w.cost += n
	if w.cost > w.limit {
		w.fail(fmt.Errorf("%w: over %d bytes", ErrTooCostly, w.limit))
	}
}

func (w *walker) walk(l *layout) {
	for i := range l.fields {
		w.field(&l.fields[i])
		if w.err != nil {
			return
		}
	}
	if w.flexible {
		w.tags(l.tags)
	}
}

func (w *walker) field(f *fieldLayout) {
	switch f.kind {
	case kindFixed:
		w.span(f.size)
	case kindString:
		if n := w.length(w.flexible, f.wide); n >= 0 {
			w.charge(stringBytes + n)
			w.span(n)
		}
	case kindArray:
		w.array(f)
	case kindStruct:
		w.walk(f.inside)
	case kindNullable:
		if b := w.span(1); b != nil && int8(b[0]) != -1 {
			w.charge(structBytes)
			w.walk(f.inside)
		}
	}
}

func (w *walker) array(f *fieldLayout) {
	n := w.length(w.flexible, true)
	if n <= 0 {
		return
	}
	if n > len(w.b) { // every element takes at least a byte
		w.fail(errShort)
		return
	}
	if f.inside == nil {
		w.charge(n * max(primitiveBytes, f.size))
		w.span(n * f.size)
		return
	}
	for ; n > 0 && w.err == nil; n-- {
		if f.wide {
			w.field(&f.inside.fields[0])
			continue
		}
		w.charge(structBytes)
		w.walk(f.inside)
	}
}

func (w *walker) tags(known map[uint32]*fieldLayout) {
	n := w.uvarint()
	cost := firstTagBytes
	for ; n > 0 && w.err == nil; n-- {
		tag := w.uvarint()
		value := w.span(int(w.uvarint()))
		f, ok := known[tag]
		if !ok {
			w.charge(cost)
			cost = moreTagBytes
			continue
		}
		rest := w.b
		w.b = value
		w.field(f)
		if w.err == nil {
			w.b = rest
		}
	}
}

func layoutOf(key, version int16) *layout {
	if key < 0 || key > MaxKey || version < 0 {
		return nil
	}
	versions := compiled()[key]
	if int(version) >= len(versions) {
		return nil
	}
	return versions[version]
}

// compiled has the layouts by key and version. A mistake in the table panics at the first use: tests compile all of it.
var compiled = sync.OnceValue(func() *[len(apis)][]*layout {
	var out [len(apis)][]*layout
	for key, text := range layouts {
		for v := range apis[key].Max + 1 {
			p := layoutParser{rest: text, version: v}
			l := p.structure("")
			if p.rest != "" {
				panic("wire: layout of " + apis[key].Name + ": left " + p.rest)
			}
			out[key] = append(out[key], l)
		}
	}
	return &out
})

// layoutParser compiles the notation of layouts for one version.
type layoutParser struct {
	rest    string
	version int16
}

func (p *layoutParser) eat(s string) bool {
	if strings.HasPrefix(p.rest, s) {
		p.rest = p.rest[len(s):]
		return true
	}
	return false
}

func (p *layoutParser) word(stop string) string {
	n := strings.IndexAny(p.rest, stop)
	if n < 0 {
		n = len(p.rest)
	}
	w := p.rest[:n]
	p.rest = p.rest[n:]
	return w
}

// structure parses fields up to the closing bracket, merging neighbours of fixed size.
func (p *layoutParser) structure(end string) *layout {
	l := &layout{}
	for p.rest != "" {
		switch {
		case end != "" && p.eat(end):
			return l
		case p.eat(" "):
		case p.eat("<"):
			l.tags = map[uint32]*fieldLayout{}
			for !p.eat(">") {
				p.eat(" ")
				tag, err := strconv.ParseUint(p.word("="), 10, 32)
				if err != nil || !p.eat("=") {
					panic("wire: layout: tag at " + p.rest)
				}
				f, _ := p.named()
				l.tags[uint32(tag)] = &f
			}
		default:
			f, present := p.named()
			if !present {
				continue
			}
			if k := len(l.fields); k > 0 && f.kind == kindFixed && l.fields[k-1].kind == kindFixed {
				l.fields[k-1].size += f.size
			} else {
				l.fields = append(l.fields, f)
			}
		}
	}
	return l
}

// named parses Name:kind@versions; false when the version does not have the field.
func (p *layoutParser) named() (fieldLayout, bool) {
	p.word(":")
	if !p.eat(":") {
		panic("wire: layout: no kind at " + p.rest)
	}
	f := p.kind()
	if !p.eat("@") {
		return f, true
	}
	lo, hi, ranged := strings.Cut(p.word(" ])>"), "-")
	from, err := strconv.Atoi(strings.TrimSuffix(lo, "+"))
	to := 1 << 15
	if err == nil && ranged {
		to, err = strconv.Atoi(hi)
	}
	if err != nil {
		panic("wire: layout: versions " + lo + "-" + hi)
	}
	return f, int(p.version) >= from && int(p.version) <= to
}

func (p *layoutParser) kind() fieldLayout {
	switch {
	case p.eat("["):
		if i := strings.IndexAny(p.rest, "]:"); p.rest[i] == ':' {
			return fieldLayout{kind: kindArray, inside: p.structure("]")}
		}
		f := p.kind()
		p.eat("]")
		if f.kind == kindFixed {
			return fieldLayout{kind: kindArray, size: f.size}
		}
		return fieldLayout{kind: kindArray, wide: true, inside: &layout{fields: []fieldLayout{f}}}
	case p.eat("("):
		return fieldLayout{kind: kindStruct, inside: p.structure(")")}
	case p.eat("?("):
		return fieldLayout{kind: kindNullable, inside: p.structure(")")}
	}
	name := p.word(" @])>")
	switch name {
	case "str":
		return fieldLayout{kind: kindString}
	case "bytes":
		return fieldLayout{kind: kindString, wide: true}
	}
	size, ok := map[string]int{"i8": 1, "i16": 2, "i32": 4, "i64": 8, "uuid": 16}[name]
	if !ok {
		panic("wire: layout: kind " + name)
	}
	return fieldLayout{kind: kindFixed, size: size}
}
