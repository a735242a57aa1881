package batch

// At is where a timestamp lookup ended: a record's offset and timestamp.
type At struct {
	Offset      int64
	TimestampMs int64
}

// FindTimestamp returns the first record of the batch b with a timestamp of at least tsMs and an offset of at least
// minOffset. found is false when there is none. The batch may be compacted. Errors are those of Inflate and Walker.
func FindTimestamp(b []byte, tsMs, minOffset int64) (at At, found bool, err error) {
	h, err := Parse(b)
	if err != nil || h.MaxTimestampMs < tsMs || h.LastOffset() < minOffset {
		return At{}, false, err
	}
	err = eachRecord(b, &h, func(offset, ts int64) bool {
		if ts < tsMs || offset < minOffset {
			return true
		}
		at, found = At{Offset: offset, TimestampMs: ts}, true
		return false
	})
	return at, found && err == nil, err
}

// MaxTimestamp returns the first record of the batch b with the largest timestamp (KIP-734) among offsets of at least
// minOffset. found is false when no record has a timestamp.
func MaxTimestamp(b []byte, minOffset int64) (at At, found bool, err error) {
	h, err := Parse(b)
	if err != nil {
		return At{}, false, err
	}
	at.TimestampMs = noTimestamp
	err = eachRecord(b, &h, func(offset, ts int64) bool {
		if offset >= minOffset && ts > at.TimestampMs {
			at, found = At{Offset: offset, TimestampMs: ts}, true
		}
		return true
	})
	return at, found && err == nil, err
}

func eachRecord(b []byte, h *Header, fn func(offset, ts int64) bool) error {
	section, release, err := inflatePooled(b, h, 0)
	if err != nil {
		return err
	}
	defer release()
	w := Walk(section, h.Count)
	var rec Record
	for {
		ok, err := w.Next(&rec)
		if err != nil || !ok {
			return err
		}
		if !fn(h.BaseOffset+int64(rec.OffsetDelta), h.timestamp(&rec)) {
			return nil
		}
	}
}
