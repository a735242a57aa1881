package tiering

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

func TestVerifyFindsDamage(t *testing.T) {
	prepare := func(w *world) []metadata.PartitionID {
		p := w.topic("t", 2)
		w.up()
		for range 3 {
			w.append(p[0], 2, 100)
			w.append(p[1], 2, 100)
			w.upload()
		}
		w.check(w.maintainer.Absorb(w.ctx))
		w.append(p[0], 2, 100)
		w.append(p[1], 2, 100)
		w.upload()
		return p
	}
	overwrite := func(w *world, key string, change func([]byte) []byte) {
		info, err := w.bucket.Head(w.ctx, key)
		w.check(err)
		b := make([]byte, info.SizeBytes)
		_, err = w.bucket.GetRange(w.ctx, key, b, 0)
		w.check(err)
		w.check(w.bucket.Put(w.ctx, key, bytes.NewReader(change(b)), objectstore.PutOptions{}))
	}
	anyOf := func(w *world, kind segment.Kind) (key string) {
		w.check(w.bucket.List(w.ctx, "", "", func(i objectstore.Info) error {
			if id, err := segment.ParseKey(w.cluster(), i.Key); err == nil && id.Kind == kind {
				key = i.Key
			}
			return nil
		}))
		return key
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	cases := map[string]struct {
		damage func(w *world, p []metadata.PartitionID)
		want   string
	}{
		"nothing":          {func(*world, []metadata.PartitionID) {}, ""},
		"object gone":      {func(w *world, _ []metadata.PartitionID) { w.check(w.bucket.Delete(w.ctx, anyOf(w, segment.Shared))) }, "not found"},
		"manifest gone":    {func(w *world, _ []metadata.PartitionID) { w.check(w.bucket.Delete(w.ctx, anyOf(w, segment.Manifests))) }, "not found"},
		"flipped block":    {func(w *world, _ []metadata.PartitionID) { overwrite(w, anyOf(w, segment.Shared), flip(200)) }, "CRC"},
		"flipped header":   {func(w *world, _ []metadata.PartitionID) { overwrite(w, anyOf(w, segment.Shared), flip(20)) }, "header"},
		"flipped manifest": {func(w *world, _ []metadata.PartitionID) { overwrite(w, anyOf(w, segment.Manifests), flip(60)) }, "CRC"},
		"cut": {func(w *world, _ []metadata.PartitionID) {
			overwrite(w, anyOf(w, segment.Shared), func(b []byte) []byte { return b[:len(b)-1] })
		}, ", want "},
		"log start too low": {func(w *world, p []metadata.PartitionID) {
			w.check(w.AdvanceLogStart(w.ctx, p[0], 3))
			w.check(w.maintainer.Absorb(w.ctx))
		}, ""},
		"pending taken away": {func(w *world, p []metadata.PartitionID) { w.losePending(p) }, "follows offset"},
	}
	for name, c := range cases {
		inWorld(t, func(w *world) {
			c.damage(w, prepare(w))
			r, err := Verify(w.ctx, VerifyOptions{Store: w.bucket, Meta: w.meta, Cluster: w.cluster(), Deep: true})
			w.check(err)
			text := strings.Join(r.Problems, "\n")
			if (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
				t.Errorf("%s: %q, want %q", name, text, c.want)
			}
			if r.Partitions != 2 {
				t.Errorf("%s: %d partitions", name, r.Partitions)
			}
		})
	}
}

// losePending deletes the pending key of one object that is needed, and adds more after it.
func (w *world) losePending(p []metadata.PartitionID) {
	w.append(p[0], 1, 100)
	w.append(p[1], 1, 100)
	w.upload()
	pending, err := w.meta.PendingObjects(w.ctx)
	w.check(err)
	w.check(w.meta.DeletePending(w.ctx, 1, w.inc, pending[:1]))
}

func TestDumpObject(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.topic("t", 1)[0]
		w.up()
		w.fill(p, 2, 1, 100)
		w.check(w.maintainer.Absorb(w.ctx))
		w.check(w.bucket.List(w.ctx, "", "", func(i objectstore.Info) error {
			var out strings.Builder
			err := DumpObject(w.ctx, &out, w.bucket, i.Key, segment.DumpOptions{Blocks: true, Verify: true})
			if err == nil && !strings.Contains(out.String(), p.Topic.Hex()) {
				t.Errorf("%s: %s", i.Key, out.String())
			}
			return err
		}))
		if err := DumpObject(w.ctx, &strings.Builder{}, w.bucket, "x", segment.DumpOptions{}); !errors.Is(err, objectstore.ErrNotFound) {
			t.Errorf("missing object: %v", err)
		}
	})
}
