package wal

import (
	"context"
	"time"
)

// WithTestSizes fixes what is otherwise random or large.
func (o Options) WithTestSizes(nonce uint64, firstSegmentBytes int64) Options {
	o.nonce, o.firstSegmentBytes = nonce, firstSegmentBytes
	return o
}

// DumpSegment is the dumper over any bytes.
var DumpSegment = dumpSegment

// Relax gives back at once what may be given back at all.
func (l *Log) Relax() { l.relax(time.Now().Add(time.Hour)) }

// Patience is how long an admission waits for the uploader.
const Patience = patience

// OpenWhileRemoved opens a stream as a call does that waits for its turn while another one removes the replica.
func OpenWhileRemoved(ctx context.Context, rs *Replicas, stream uint64, h StreamHeader, oldest SegmentRef) (app *Appender, again bool, err error) {
	r, err := rs.findOrMake(stream)
	if err != nil {
		return nil, false, err
	}
	if err := rs.Remove(ctx, stream, h.Epoch); err != nil {
		return nil, false, err
	}
	app, _, again, err = r.tryOpen(ctx, h, oldest, true)
	return app, again, err
}
