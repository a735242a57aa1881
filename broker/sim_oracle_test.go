package broker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering"
)

// logs are what is in partitions, as one reader sees it.
type logs map[tp][]read

// check holds the history against the logs: every acked record is at its acked offset, none is there twice or was refused, offsets follow
// each other from 0, each producer's records are in their order, and what a consumer ever got is what is there.
func (h *history) check(reader string, all logs) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range slices.SortedFunc(maps.Keys(h.sent), compareTP) {
		log := all[p]
		at := map[string]int64{}
		last := map[string]int{}
		for i, r := range log {
			if r.offset != int64(i) {
				h.w.errorf("%s: %v: offset %d where %d comes next", reader, p, r.offset, i)
				return
			}
			s := h.sent[p][r.value]
			switch {
			case s == nil:
				h.w.errorf("%s: %v: offset %d: nobody sent %.60q", reader, p, r.offset, r.value)
				continue
			case s.outcome == refused:
				h.w.errorf("%s: %v: offset %d: %.60q was refused", reader, p, r.offset, r.value)
			}
			if first, twice := at[r.value]; twice {
				h.w.errorf("%s: %v: %.60q is at %d and %d", reader, p, r.value, first, r.offset)
			}
			at[r.value] = r.offset
			if !s.retried && s.outcome == unknown {
				continue // the producer went on without waiting for it
			}
			if prev, ok := last[s.producer]; ok && s.seq <= prev {
				h.w.errorf("%s: %v: offset %d: record %d of %s follows its record %d", reader, p, r.offset, s.seq, s.producer, prev)
			}
			last[s.producer] = s.seq
		}
		misplaced := 0
		for value, s := range h.sent[p] {
			got, ok := at[value]
			if s.outcome != acked || ok && got == s.offset {
				continue
			}
			if misplaced++; misplaced <= 3 {
				h.w.errorf("%s: %v: %.60q was acked at %d; in the log of %d records it is at %d (%v)", reader, p, value, s.offset, len(log), got, ok)
			}
		}
		if misplaced > 0 {
			h.w.errorf("%s: %v: %d acked records are not where they were acked", reader, p, misplaced)
		}
		for _, r := range h.observed[p] {
			if r.offset >= int64(len(log)) || log[r.offset].value != r.value {
				h.w.errorf("%s: %v: a consumer got %.60q at %d, which is not there now", reader, p, r.value, r.offset)
			}
		}
	}
}

func compareTP(a, b tp) int {
	if a.topic != b.topic {
		if a.topic < b.topic {
			return -1
		}
		return 1
	}
	return int(a.partition - b.partition)
}

// same wants two readers to see the same.
func (h *history) same(reader string, got, want logs) {
	for p, log := range want {
		if !slices.Equal(got[p], log) {
			h.w.errorf("%s: %v has %d records, the broker had %d, or others", reader, p, len(got[p]), len(log))
		}
	}
}

// partitions are those that something was sent to.
func (h *history) partitions() []tp {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Keys(h.sent), compareTP)
}

// throughBroker reads the partitions as a new consumer.
func (h *history) throughBroker() logs {
	c := h.w.client("reader")
	defer c.close()
	out := logs{}
	for _, p := range h.partitions() {
		failures := 0
		for at := int64(0); ; {
			records, end, err := c.fetch(p, at, 0, 16<<10)
			if err != nil {
				if failures++; failures > 50 {
					h.w.errorf("read %v at %d: %v", p, at, err)
					break
				}
				c.close()
				time.Sleep(100 * time.Millisecond)
				continue
			}
			out[p] = append(out[p], records...)
			at = int64(len(out[p]))
			if at >= end {
				break
			}
			if len(records) == 0 {
				if failures++; failures > 50 {
					h.w.errorf("read %v: nothing at %d though the log ends at %d", p, at, end)
					break
				}
			}
		}
	}
	return out
}

// fromBucket reads the partitions with nothing but bucket and etcd at hand, and has both verified.
func (h *history) fromBucket() logs {
	w := h.w
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	meta, err := metadata.Open(ctx, w.kv, metadata.Options{})
	if err != nil {
		w.errorf("open the metadata: %v", err)
		return nil
	}
	cluster := meta.Image().ClusterID()
	catalog := tiering.NewCatalog(tiering.CatalogOptions{Store: w.bucket, Partitions: meta, Cluster: cluster})
	defer catalog.Close()
	if err := catalog.Load(ctx, meta); err != nil {
		w.errorf("load the catalog: %v", err)
		return nil
	}
	reader := tiering.NewReader(catalog, tiering.ReaderOptions{})
	defer reader.Close()
	out := logs{}
	for _, p := range h.partitions() {
		topic, ok := meta.Image().Topic(p.topic)
		if !ok {
			w.errorf("topic %s is gone", p.topic)
			continue
		}
		id := metadata.PartitionID{Topic: topic.ID, Partition: p.partition}
		for end := catalog.End(id); metadata.Offset(len(out[p])) < end; {
			at := int64(len(out[p]))
			chunk, err := reader.Read(ctx, id, metadata.Offset(at), 16<<10)
			if err != nil {
				w.errorf("bucket: %v at %d of %d: %v", p, at, end, err)
				break
			}
			for _, b := range chunk.Batches {
				records, err := recordsOf(b, at)
				if err != nil {
					w.errorf("bucket: %v at %d: %v", p, at, err)
				}
				out[p] = append(out[p], records...)
			}
			chunk.Release()
			if int64(len(out[p])) == at {
				w.errorf("bucket: %v: nothing at %d of %d", p, at, end)
				break
			}
		}
	}
	report, err := tiering.Verify(ctx, tiering.VerifyOptions{Store: w.bucket, Meta: meta, Cluster: cluster, Deep: true, Unnamed: true})
	if err != nil {
		w.errorf("verify: %v", err)
		return out
	}
	for _, problem := range report.Problems {
		w.errorf("verify: %s", problem)
	}
	return out
}

// checkOffsets wants no group's offsets to have gone back.
func (h *history) checkOffsets() {
	c := h.w.client("offsets")
	defer c.close()
	for group, of := range h.committed {
		for p, o := range of {
			got, err := int64(0), error(nil)
			for range 20 {
				if got, err = c.committedAt(group, p); err == nil {
					break
				}
				time.Sleep(200 * time.Millisecond)
			}
			if err != nil || got > o.tried || got < o.acked {
				if o.acked == 0 && got == -1 {
					continue
				}
				h.w.errorf("group %s in %v: offset %d (%v), acked %d, tried %d", group, p, got, err, o.acked, o.tried)
			}
		}
	}
}

// checkAll is the whole oracle. r serves clients and nothing is wrong any more; afterwards nothing runs.
func (h *history) checkAll(r *run) {
	w := h.w
	if w.failed.Load() {
		r.stop()
		<-r.done
		return
	}
	served := h.throughBroker()
	h.check("broker", served)
	h.checkOffsets()
	r.drain()
	if w.failed.Load() {
		return
	}
	w.newDisk()
	bucket := h.fromBucket()
	h.check("bucket", bucket)
	h.same("bucket", bucket, served)
	fresh := w.start(crashPoint{})
	if !fresh.await() {
		w.errorf("a broker with an empty disk: %v", fresh.err)
		return
	}
	h.same("fresh broker", h.throughBroker(), served)
	h.checkOffsets()
	fresh.drain()
}
