package memory_test

import (
	"bytes"
	"hash/crc32"
	"testing"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/acceptance"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
)

func TestAcceptance(t *testing.T) {
	acceptance.Run(t, func(*testing.T) objectstore.Store { return memory.New() })
}

type summed struct {
	*bytes.Reader
	sum uint32
}

func (s summed) CRC32C() uint32 { return s.sum }

// TestSummed: a body with a wrong checksum is not taken.
func TestSummed(t *testing.T) {
	s, content := memory.New(), []byte("content")
	sum := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
	if err := s.Put(t.Context(), "k", summed{bytes.NewReader(content), sum}, objectstore.PutOptions{}); err != nil {
		t.Error(err)
	}
	if err := s.Put(t.Context(), "k", summed{bytes.NewReader(content), sum + 1}, objectstore.PutOptions{}); err == nil {
		t.Error("a wrong checksum was taken")
	}
}
