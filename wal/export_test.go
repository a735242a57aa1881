package wal

import "time"

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
