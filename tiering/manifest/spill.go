package manifest

// Spill tells how many of the oldest segments should move to a child of childBytes so that those of the manifest stay below
// inlineBytes (see InlineBytes and ChildBytes); 0 for none.
// The caller stores AppendChild of that many, moves them to a NewChild, and asks again until the answer is 0.
func (m *Manifest) Spill(inlineBytes, childBytes int) int {
	sizes := make([]int, len(m.Segments))
	total := 0
	prev := Segment{}
	var scratch []byte
	for i := range m.Segments {
		scratch = appendSegment(scratch[:0], &m.Segments[i], &prev)
		prev = m.Segments[i]
		sizes[i] = len(scratch)
		total += len(scratch)
	}
	if total <= inlineBytes {
		return 0
	}
	n, moved := 0, 0
	for n < len(sizes)-1 && (n == 0 || moved+sizes[n] <= childBytes) {
		moved += sizes[n]
		n++
	}
	return n
}

// NewChild describes the child blob at ref that holds segments, of which there is at least one.
func NewChild(segments []Segment, ref Ref, crc uint32) Child {
	c := Child{Object: ref.Object, Position: ref.Position, Length: ref.Length, CRC: crc,
		Start: segments[0].Start, End: segments[len(segments)-1].End, Segments: int32(len(segments)), MaxTimestampMs: -1}
	for i := range segments {
		c.SizeBytes += segments[i].SizeBytes
		c.MaxTimestampMs = max(c.MaxTimestampMs, segments[i].MaxTimestampMs)
	}
	return c
}
