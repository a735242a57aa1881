package wal

import "context"

// Header is what all segments of the stream have in common.
func (l *Log) Header() StreamHeader {
	return StreamHeader{Epoch: l.o.Epoch, Nonce: l.o.nonce, Owner: l.o.Owner, SegmentBytes: l.o.SegmentBytes}
}

// Oldest is the oldest retained segment.
func (l *Log) Oldest() SegmentRef {
	l.segs.mu.Lock()
	defer l.segs.mu.Unlock()
	if len(l.segs.list) == 0 { // nothing was ever written
		return l.first
	}
	return l.segs.list[0].ref()
}

// ReadGroups returns whole groups, durable here, from the files, from the first one that ends after from: at most maxBytes, unless one alone is
// longer, none if there are none. They are in dst if that is large enough. ErrTrimmed says that the file is gone.
func (l *Log) ReadGroups(ctx context.Context, from Position, maxBytes int, dst []byte) (Chunk, error) {
	return l.segs.chunk(ctx, from, l.Written(), maxBytes, dst)
}

// Header is what all segments of the stream have in common.
func (r *Recovered) Header() StreamHeader {
	h := StreamHeader{Epoch: r.segs.epoch, Nonce: r.segs.nonce, SegmentBytes: r.segs.segmentBytes}
	for _, seg := range r.segs.list {
		h.Owner = seg.Owner
		if seg.Sequence > firstSegmentSeq {
			h.SegmentBytes = seg.SizeBytes
		}
	}
	if n := len(r.segs.list); n > 0 {
		h.SegmentBytes = max(h.SegmentBytes, r.segs.list[n-1].SizeBytes)
	}
	return h
}

// ReadGroups is Log.ReadGroups.
func (r *Recovered) ReadGroups(ctx context.Context, from Position, maxBytes int, dst []byte) (Chunk, error) {
	return r.segs.chunk(ctx, from, r.end, maxBytes, dst)
}
