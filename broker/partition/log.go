package partition

import (
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
	"github.com/tidemarkmq/tidemark/tiering/producers"
)

// log is the PURE core of a partition: what the next offset is, who produced, which epochs there were and where the tail's
// batches are. It knows nothing of durability: the driver keeps the high watermark. Not safe for concurrent use.
type log[R any] struct {
	end       int64 // one past the last appended record, durable or not
	epoch     metadata.LeaderEpoch
	epochs    epochs
	producers producers.State
	tail      tail[R]
	coldMaxMs int64 // largest timestamp of what left the tail, an upper bound; -1: none
	sizeBytes int64 // of the log when it was opened and all that was appended since
	forgotten int   // producers beyond producers.MaxProducers, since the driver looked
}

func newLog[R any](s OpenState) log[R] {
	l := log[R]{end: int64(s.End), epoch: s.LeaderEpoch, coldMaxMs: s.MaxTimestampMs, sizeBytes: s.SizeBytes}
	if s.Producers != nil {
		l.producers = *s.Producers
	}
	l.epochs = make(epochs, 0, len(s.Epochs)+1)
	for _, e := range s.Epochs {
		l.epochs = l.epochs.assign(e.Epoch, e.Start)
	}
	l.epochs = l.epochs.assign(s.LeaderEpoch, s.End)
	return l
}

// place assigns the next offsets to h, or finds the batch that h repeats. Refusals are those of producers.State.Check.
func (l *log[R]) place(h *batch.Header, nowMs int64) (producers.Batch, bool, error) {
	dup, ok, err := l.producers.Check(h)
	if ok || err != nil {
		return dup, ok, err
	}
	h.BaseOffset, h.LeaderEpoch = l.end, int32(l.epoch)
	l.forgotten += l.producers.Apply(h, nowMs)
	return producers.Batch{}, false, nil
}

// placed adds the batch that place let through to the tail.
func (l *log[R]) placed(h *batch.Header, ref R) {
	l.tail.push(tailEntry[R]{base: h.BaseOffset, maxMs: h.MaxTimestampMs, ref: ref, offsetDelta: h.LastOffsetDelta, sizeBytes: int32(h.SizeBytes)})
	l.end = h.NextOffset()
	l.sizeBytes += int64(h.SizeBytes)
}

// prune drops at most limit batches of the tail that end at or below uploaded and whose bytes are gone from memory.
func (l *log[R]) prune(uploaded int64, limit int, gone func(R) bool) {
	if live := l.tail.live(); len(live) == 0 || live[0].next() > uploaded {
		return
	}
	maxMs := l.tail.prune(limit, func(e *tailEntry[R]) bool { return e.next() <= uploaded && gone(e.ref) })
	l.coldMaxMs = max(l.coldMaxMs, maxMs)
}

// tailStart is the first offset of the tail, or the log's end.
func (l *log[R]) tailStart() int64 {
	if live := l.tail.live(); len(live) > 0 {
		return live[0].base
	}
	return l.end
}
