package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

// payload fills values and makes keys, the same for the same seed.
type payload struct {
	random *rand.Rand
	zeros  float64
}

func newPayload(s *spec.Spec, producer uint64) *payload {
	return &payload{rand.New(rand.NewPCG(s.Seed, producer)), s.Compressibility}
}

// fill writes random bytes and then zeros; so neither compression nor deduplication between here and the disk wins more than is meant.
func (p *payload) fill(value []byte) {
	n := int(float64(len(value)) * (1 - p.zeros))
	for i := 0; i < n; i += 8 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], p.random.Uint64())
		copy(value[i:n], word[:])
	}
	clear(value[n:])
}

// key is one of the keys of a run, with the partition that it belongs to.
type key struct {
	bytes     []byte
	partition int32
}

func makeKeys(s *spec.Spec) []key {
	keys := make([]key, s.Keys)
	for i := range keys {
		b := fmt.Appendf(make([]byte, 0, s.KeyBytes), "%0*d", s.KeyBytes, i)
		keys[i] = key{b, int32(murmur2(b)&0x7fffffff) % int32(s.Partitions)}
	}
	return keys
}

// murmur2 is the hash by which Kafka's own producer finds the partition of a key.
func murmur2(b []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k = (k ^ k>>24) * m
		h = h*m ^ k
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
