package partition

import (
	"slices"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
)

// Epoch is where a leader epoch's records begin.
type Epoch = tiering.EpochStart

// EpochEnd is a leader epoch and the offset one past its last record. Epoch and End are -1 when they are not known.
type EpochEnd struct {
	Epoch metadata.LeaderEpoch
	End   metadata.Offset
}

var noEpochEnd = EpochEnd{Epoch: -1, End: -1}

// epochs is the history of a partition's leader epochs, ascending in both fields (KIP-101).
type epochs []Epoch

// assign records that epoch starts at start. Epochs that would start there or later never had a record and go.
func (e epochs) assign(epoch metadata.LeaderEpoch, start metadata.Offset) epochs {
	if n := len(e); n > 0 && e[n-1].Epoch >= epoch {
		return e
	}
	for n := len(e); n > 0 && e[n-1].Start >= start; n = len(e) {
		e = e[:n-1]
	}
	return append(e, Epoch{Epoch: epoch, Start: start})
}

// truncateStart drops the epochs that end at or below start, and lets the first that is left begin there.
func (e epochs) truncateStart(start metadata.Offset) epochs {
	i := 0
	for i+1 < len(e) && e[i+1].Start <= start {
		i++
	}
	e = slices.Delete(e, 0, i)
	if len(e) > 0 && e[0].Start < start {
		e[0].Start = start
	}
	return e
}

// end answers OffsetForLeaderEpoch: the largest epoch at or below the asked one, and where it ends. logEnd is the end of
// the latest epoch.
func (e epochs) end(asked metadata.LeaderEpoch, logEnd metadata.Offset) EpochEnd {
	if asked < 0 || len(e) == 0 || asked > e[len(e)-1].Epoch {
		return noEpochEnd
	}
	i, _ := slices.BinarySearchFunc(e, asked+1, func(x Epoch, t metadata.LeaderEpoch) int { return int(x.Epoch) - int(t) })
	if i == len(e) {
		return EpochEnd{Epoch: e[i-1].Epoch, End: logEnd}
	}
	if i == 0 { // older than the history: it ended where the first known one starts
		return EpochEnd{Epoch: asked, End: e[0].Start}
	}
	return EpochEnd{Epoch: e[i-1].Epoch, End: e[i].Start}
}

// at is the epoch of the record at offset, or -1.
func (e epochs) at(offset metadata.Offset) metadata.LeaderEpoch {
	for i := len(e) - 1; i >= 0; i-- {
		if e[i].Start <= offset {
			return e[i].Epoch
		}
	}
	return -1
}
