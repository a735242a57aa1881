package tiering

import (
	"context"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
)

// maxSequences bounds how many sequential readers are remembered.
const maxSequences = 4096

// sequenceIdle is when a sequential reader is taken to have gone.
const sequenceIdle = 10 * time.Second

type sequenceKey struct {
	partition metadata.PartitionID
	next      metadata.Offset
}

// sequence is a reader that reads on where it stopped. Readers have no names: one is known by what it would ask next.
type sequence struct {
	window  int             // bytes to keep read ahead; doubles with each sequential read
	ahead   metadata.Offset // everything before it is at hand or under way
	pending int             // bytes read ahead and not consumed
	walking bool            // a goroutine is reading ahead
	reads   int
	used    time.Time
}

// sequenceAt takes out the sequence that goes on at offset, or makes a new one. It is put back by keep.
func (r *Reader) sequenceAt(p metadata.PartitionID, offset metadata.Offset) *sequence {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := sequenceKey{p, offset}
	s := r.sequences[key]
	if s == nil {
		return &sequence{}
	}
	delete(r.sequences, key)
	return s
}

// keep puts a sequence back where it goes on.
func (r *Reader) keep(p metadata.PartitionID, next metadata.Offset, s *sequence, now time.Time) {
	if now.Sub(r.swept) > time.Second || len(r.sequences) >= maxSequences {
		r.swept, r.active = now, 1
		for key, other := range r.sequences {
			switch {
			case now.Sub(other.used) > sequenceIdle || len(r.sequences) >= maxSequences:
				delete(r.sequences, key)
			case other.window > 0:
				r.active++
			}
		}
	}
	s.used = now
	r.sequences[sequenceKey{p, next}] = s
}

// advance notes that a sequence consumed a chunk, and reads ahead for it: all sequences together at most half of the cache.
func (r *Reader) advance(p metadata.PartitionID, offset metadata.Offset, s *sequence, c *Chunk) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(p, c.Next, s, now)
	s.pending = max(0, s.pending-c.SizeBytes)
	if s.ahead < c.Next {
		s.ahead, s.pending = c.Next, 0
	}
	window := min(s.window, int(r.o.CacheBytes/2)/max(1, r.active))
	if s.reads++; s.reads > 1 || offset == 0 {
		s.window = min(max(r.o.FetchBytes, 2*s.window), r.o.PrefetchBytes)
	}
	if window == 0 || s.walking || s.pending > window/2 {
		return
	}
	s.walking = true
	r.walks.Add(1)
	go r.walkAhead(p, s, s.ahead, window-s.pending)
}

// walkAhead starts requests for the nBytes that follow offset from, over the ends of objects. It does not wait for them.
func (r *Reader) walkAhead(p metadata.PartitionID, s *sequence, from metadata.Offset, nBytes int) {
	defer r.walks.Done()
	ctx, cancel := context.WithTimeout(r.blocks.base, loadPatience)
	defer cancel()
	ahead, started := from, 0
	run := min(r.o.FetchBytes, max(minFetchBytes, nBytes)) // the last may exceed nBytes: runs of one size reuse each other's memory
walk:
	for started < nBytes {
		l, found, err := r.catalog.segmentAt(ctx, p, ahead)
		if err != nil || !found {
			break // the read itself will say what is wrong
		}
		for i := l.blockAt(ahead); i < len(l.blocks); {
			blocks, k, bytes := r.widen(ctx, p, &l, i, run)
			n := r.blocks.prefetch(l.object, blocks, k, bytes)
			if len(blocks) != len(l.blocks) {
				n = min(n, 1) // others' blocks came along; whether the next of p's did shows in the next turn
			}
			if n == 0 || started >= nBytes {
				break walk
			}
			for range n {
				started += int(l.blocks[i].Length)
				ahead = l.blocks[i].NextOffset
				i++
			}
		}
		ahead = max(ahead, l.end)
	}
	r.mu.Lock()
	s.walking = false
	if ahead > s.ahead {
		s.ahead = ahead
		s.pending += started
	}
	r.mu.Unlock()
}
