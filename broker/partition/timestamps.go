package partition

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// FindTimestamp returns the first visible record with a timestamp of at least tsMs (KIP-79).
func (p *Partition) FindTimestamp(ctx context.Context, tsMs int64) (Found, bool, error) {
	hw := p.HighWatermark()
	for {
		start := p.LogStart()
		p.mu.Lock()
		tailStart, coldMs := metadata.Offset(p.log.tailStart()), p.log.coldMaxMs
		p.mu.Unlock()
		if start < tailStart && coldMs >= tsMs {
			found, ok, err := p.set.cold.FindTimestamp(ctx, p.id, start, tsMs)
			if err != nil {
				return Found{}, false, fmt.Errorf("find timestamp %d of %s-%d in the object store: %w", tsMs, p.topic, p.id.Partition, err)
			}
			if ok && found.Offset < hw {
				return found, true, nil
			}
		}
		found, ok, err := p.findInTail(ctx, tsMs, max(start, tailStart), hw)
		if !errors.Is(err, errTailMoved) {
			return found, ok, err
		}
	}
}

// errTailMoved says that batches left the tail while it was looked through: they are to be found in the object store.
var errTailMoved = errors.New("the tail begins later now")

// findInTail looks at the batches of the tail from from on, without holding the lock while it reads one.
func (p *Partition) findInTail(ctx context.Context, tsMs int64, from, hw metadata.Offset) (Found, bool, error) {
	for from < hw {
		at, ok, err := p.nextTailBatch(from, hw, tsMs)
		if err != nil {
			return Found{}, false, err
		}
		if !ok {
			break
		}
		b, release, err := p.oneBatch(ctx, at)
		if err != nil {
			return Found{}, false, err
		}
		found, ok, err := batch.FindTimestamp(b, tsMs, int64(from))
		h, _ := batch.Parse(b)
		release()
		if err != nil {
			return Found{}, false, fmt.Errorf("find timestamp in %s-%d at %d: %w", p.topic, p.id.Partition, at, err)
		}
		if ok {
			return p.found(found), true, nil
		}
		from = metadata.Offset(h.NextOffset())
	}
	return Found{}, false, nil
}

func (p *Partition) found(at batch.At) Found {
	return Found{Offset: metadata.Offset(at.Offset), TimestampMs: at.TimestampMs, LeaderEpoch: p.EpochAt(metadata.Offset(at.Offset))}
}

// nextTailBatch is the base offset (or from, inside of a batch) of the first tail batch at or after from with a timestamp of
// at least tsMs.
func (p *Partition) nextTailBatch(from, hw metadata.Offset, tsMs int64) (metadata.Offset, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log.tailStart() > int64(from) {
		return 0, false, errTailMoved
	}
	for _, e := range p.log.tail.from(int64(from)) {
		if e.base >= int64(hw) {
			break
		}
		if e.maxMs >= tsMs {
			return metadata.Offset(max(e.base, int64(from))), true, nil
		}
	}
	return 0, false, nil
}

// oneBatch returns the durable batch that holds offset, from wherever it is.
func (p *Partition) oneBatch(ctx context.Context, offset metadata.Offset) ([]byte, func(), error) {
	var got Batches
	if n, _ := p.ReadTail(offset, 0, true, &got); n > 0 {
		return got.Records[0], got.Release, nil
	}
	chunk, err := p.ReadSlow(ctx, offset, 0)
	if err != nil {
		return nil, nil, err
	}
	release := chunk.Release
	if release == nil {
		release = func() {}
	}
	if len(chunk.Batches) == 0 {
		release()
		return nil, nil, fmt.Errorf("%w: no batch at %d", ErrOffsetOutOfRange, offset)
	}
	h, err := batch.Parse(chunk.Batches[0])
	if err != nil {
		release()
		return nil, nil, fmt.Errorf("batch of %s-%d at %d: %w", p.topic, p.id.Partition, offset, err)
	}
	return chunk.Batches[0][:h.SizeBytes], release, nil
}

// MaxTimestamp returns the first visible record with the largest timestamp (KIP-734).
func (p *Partition) MaxTimestamp(ctx context.Context) (Found, bool, error) {
	start, hw := p.LogStart(), p.HighWatermark()
	var best metadata.Offset
	tailMs := int64(-1)
	p.mu.Lock()
	tailStart, coldMs := metadata.Offset(p.log.tailStart()), p.log.coldMaxMs
	for _, e := range p.log.tail.from(max(int64(start), int64(tailStart))) {
		if e.base >= int64(hw) {
			break
		}
		if e.maxMs > tailMs {
			tailMs, best = e.maxMs, metadata.Offset(max(e.base, int64(start)))
		}
	}
	p.mu.Unlock()
	var found Found
	var ok bool
	if start < tailStart && coldMs >= tailMs && coldMs >= 0 {
		var err error
		if found, ok, err = p.set.cold.MaxTimestamp(ctx, p.id, start); err != nil {
			return Found{}, false, fmt.Errorf("largest timestamp of %s-%d in the object store: %w", p.topic, p.id.Partition, err)
		}
	}
	if tailMs < 0 || (ok && found.TimestampMs >= tailMs) {
		return found, ok, nil
	}
	b, release, err := p.oneBatch(ctx, best)
	if err != nil {
		return Found{}, false, err
	}
	defer release()
	at, tailOK, err := batch.MaxTimestamp(b, int64(start))
	if err != nil {
		return Found{}, false, fmt.Errorf("largest timestamp in %s-%d at %d: %w", p.topic, p.id.Partition, best, err)
	}
	if !tailOK || (ok && found.TimestampMs >= at.TimestampMs) {
		return found, ok, nil
	}
	return p.found(at), true, nil
}
