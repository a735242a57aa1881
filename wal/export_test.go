package wal

// WithTestSizes fixes what is otherwise random or large.
func (o Options) WithTestSizes(nonce uint64, firstSegmentBytes int64) Options {
	o.nonce, o.firstSegmentBytes = nonce, firstSegmentBytes
	return o
}

// DumpSegment is the dumper over any bytes.
var DumpSegment = dumpSegment
