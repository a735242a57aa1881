//go:build !linux

package directory

import (
	"context"
	"os"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// writeDirect is for Linux only.
func (s *Store) writeDirect(context.Context, *os.File, objectstore.Body) (done bool, err error) {
	return false, nil
}
