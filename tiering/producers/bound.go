package producers

import (
	"cmp"
	"slices"
)

// MaxProducers is how many producers a state holds. Beyond it those that were silent for longest are forgotten, as if they had
// expired: a client that takes a new producer id for every batch must not grow the state until no manifest can hold it.
const MaxProducers = 100_000

// MaxEntryBytes is the most that one producer takes encoded, so that a full state stays below 20 MB.
const MaxEntryBytes = 4*10 + 3 + 2 + WindowBatches*(2*5+2*10)

// forgetShare is the part of MaxProducers that is forgotten at once: to find the oldest ones for each new one would cost a look at all.
const forgetShare = 16

// bound forgets producers when there are more than MaxProducers, and returns how many. Those with an open transaction go last.
func (s *State) bound() int {
	if len(s.entries) <= MaxProducers {
		return 0
	}
	all := make([]*Entry, 0, len(s.entries))
	for _, e := range s.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *Entry) int {
		return cmp.Or(cmp.Compare(a.inTransaction(), b.inTransaction()), cmp.Compare(a.LastSeenMs, b.LastSeenMs),
			cmp.Compare(a.lastOffset(), b.lastOffset()), cmp.Compare(a.ProducerID, b.ProducerID))
	})
	n := len(all) - (MaxProducers - MaxProducers/forgetShare)
	for _, e := range all[:n] {
		delete(s.entries, e.ProducerID)
	}
	return n
}

func (e *Entry) inTransaction() int {
	if e.TxnFirstOffset == None {
		return 0
	}
	return 1
}

func (e *Entry) lastOffset() int64 {
	if e.count == 0 {
		return None
	}
	return e.slots[e.count-1].lastOffset
}
