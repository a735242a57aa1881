package wal

// surcharge counts what small entries cost beyond their bytes: Options.MinEntryBytes less their length, for those not trimmed yet.
// It is kept by stretches of the stream, so that it takes no memory per entry; trimming a part of a stretch credits nothing until
// the rest is trimmed too. Guarded by Log.mu.
type surcharge struct {
	total, trimmed int64 // of all entries so far, of those trimmed
	every          Position
	marks          []mark
}

// mark is the total before the group at pos.
type mark struct {
	pos    Position
	before int64
}

// surchargeMarks is about how many marks a stream of MaxBytes has.
const surchargeMarks = 4096

func newSurcharge(maxBytes int64) surcharge {
	return surcharge{every: max(blockBytes, Position(maxBytes/surchargeMarks))}
}

// group notes that a group begins at pos.
func (s *surcharge) group(pos Position) {
	if n := len(s.marks); n == 0 || pos-s.marks[n-1].pos >= s.every {
		s.marks = append(s.marks, mark{pos, s.total})
	}
}

// trim notes that everything before to is trimmed, and that the next group begins at next, or later.
func (s *surcharge) trim(to, next Position) {
	n := 0
	for n < len(s.marks) && s.marks[n].pos <= to {
		s.trimmed = max(s.trimmed, s.marks[n].before)
		n++
	}
	if n > 1 { // the last one counts the stretch that to is in
		s.marks = append(s.marks[:0], s.marks[n-1:]...)
	}
	if to >= next {
		s.trimmed = s.total
	}
}

func (s *surcharge) untrimmed() int64 { return s.total - s.trimmed }
