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

// readDirect is for Linux only.
func (s *Store) readDirect(context.Context, *os.File, []byte, int64, int64) (n int, done bool, err error) {
	return 0, false, nil
}

// calls is for Linux only.
type calls struct{}

var systemCalls calls
