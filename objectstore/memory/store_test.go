package memory_test

import (
	"testing"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/acceptance"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
)

func TestAcceptance(t *testing.T) {
	acceptance.Run(t, func(*testing.T) objectstore.Store { return memory.New() })
}
