package tiering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
)

// DumpObject prints an object of the store for people: its header, index and, as opts say, blocks; or the manifests in it. Which of
// the two it is, is in the key.
func DumpObject(ctx context.Context, w io.Writer, store objectstore.Store, key string, opts segment.DumpOptions) error {
	info, err := store.Head(ctx, key)
	if err != nil {
		return fmt.Errorf("dump %s: %w", key, err)
	}
	r := storedObject{ctx, store, key}
	if !strings.Contains(key, "/m/") {
		if err := segment.Dump(w, r, info.SizeBytes, opts); err != nil {
			return fmt.Errorf("dump %s: %w", key, err)
		}
		return nil
	}
	const maxDumpBytes = 1 << 30
	if info.SizeBytes > maxDumpBytes {
		return fmt.Errorf("dump %s: %d bytes are too many for manifests", key, info.SizeBytes)
	}
	b := make([]byte, info.SizeBytes)
	if _, err := r.ReadAt(b, 0); err != nil {
		return fmt.Errorf("dump %s: %w", key, err)
	}
	if err := manifest.Dump(w, b); err != nil {
		return fmt.Errorf("dump %s: %w", key, err)
	}
	return nil
}

// storedObject reads an object of the store by position.
type storedObject struct {
	ctx   context.Context
	store objectstore.Store
	key   string
}

func (o storedObject) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.store.GetRange(o.ctx, o.key, p, off)
	if n == len(p) && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
