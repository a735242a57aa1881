package partition

import (
	"context"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/wal"
)

// hookedCold calls a function once, after a lookup has found nothing.
type hookedCold struct {
	*fakeCold
	then func()
}

func (c *hookedCold) FindTimestamp(ctx context.Context, id metadata.PartitionID, from metadata.Offset, ts int64) (Found, bool, error) {
	f, ok, err := c.fakeCold.FindTimestamp(ctx, id, from, ts)
	if then := c.then; then != nil && !ok {
		c.then = nil
		then()
	}
	return f, ok, err
}

// TestTimestampLookupWhileTheTailMoves: the batch that is looked for is uploaded and leaves the tail after the object store was
// looked through and before the tail is.
func TestTimestampLookupWhileTheTailMoves(t *testing.T) {
	cold := &hookedCold{}
	r := newRig(t, func(_ *wal.Options, o *Options) { cold.fakeCold = o.Cold.(*fakeCold); o.Cold = cold })
	p := r.open(nil)
	for i := range 4 {
		r.append(p, mk(t, 1, 100, int64(10*i), nil))
	}
	r.upload(p, 1)
	r.recycle()
	r.set.Sweep()
	// The first batch promises too much, so that the store is asked: as after DeleteRecords or with a merged upper bound.
	p.mu.Lock()
	p.log.coldMaxMs = baseMs + 100
	p.mu.Unlock()
	cold.then = func() {
		r.upload(p, 3)
		r.recycle()
		r.set.Sweep()
	}
	found, ok, err := p.FindTimestamp(context.Background(), baseMs+10)
	if err != nil || !ok || found.Offset != 1 {
		t.Fatalf("found %+v, %v, %v; want offset 1", found, ok, err)
	}
}
