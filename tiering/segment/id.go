package segment

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Kind says what an object holds and, as a letter of its key, who may delete it.
type Kind uint8

// The kinds of objects that tiering stores.
const (
	// Shared holds blocks of many partitions, sealed from a WAL stream.
	Shared Kind = 1
	// Single holds blocks of one partition, sealed from a WAL stream.
	Single Kind = 2
	// Merged holds blocks of one partition, copied from other objects.
	Merged Kind = 3
	// Manifests holds manifests or parts of them; see package manifest.
	Manifests Kind = 4
	// Regrouped holds blocks of many partitions, copied from other objects so that each partition's lie together.
	Regrouped Kind = 5
)

var kindLetters = [...]byte{Shared: 's', Single: 'p', Merged: 'g', Manifests: 'm', Regrouped: 'r'}

// Many tells whether objects of the kind hold data of more than one partition.
func (k Kind) Many() bool { return k == Shared || k == Regrouped }

// Sealed tells whether objects of the kind are made from a WAL stream; the others are made by maintenance.
func (k Kind) Sealed() bool { return k == Shared || k == Single }

// Data tells whether objects of the kind hold record batches.
func (k Kind) Data() bool { return k.valid() && k != Manifests }

// String is the kind's name in dumps.
func (k Kind) String() string {
	switch k {
	case Shared:
		return "shared"
	case Single:
		return "single"
	case Merged:
		return "merged"
	case Manifests:
		return "manifests"
	case Regrouped:
		return "regrouped"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

func (k Kind) valid() bool { return k >= Shared && k <= Regrouped }

// ID identifies an object for ever. Its key in the store follows from it and from the cluster's id.
type ID struct {
	Kind  Kind
	Epoch uint64 // the metadata.StreamID that was sealed, or the incarnation of the broker that merged
	Seq   uint64 // grows within the epoch
	Nonce uint64 // random, so that two writers never meet at one key
}

// IsZero tells whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Key is the object's key: two hexadecimal digits that spread keys over the store's shards, the cluster, the kind's letter, and
// epoch-sequence-nonce in hexadecimal.
func (id ID) Key(cluster string) string {
	letter := byte('x')
	if id.Kind.valid() {
		letter = kindLetters[id.Kind]
	}
	b := make([]byte, 0, len(cluster)+64)
	b = append(b, "00/"...)
	b = append(b, cluster...)
	b = append(b, '/', letter, '/')
	name := len(b)
	b = appendHex64(b, id.Epoch)
	b = append(b, '-')
	b = appendHex64(b, id.Seq)
	b = append(b, '-')
	b = appendHex64(b, id.Nonce)
	copy(b, hashPrefix(b[name:]))
	return string(b)
}

// Prefixes are the beginnings of all keys of a cluster's objects, 256 of them in order.
func Prefixes(cluster string) []string {
	out := make([]string, 256)
	for i := range out {
		out[i] = fmt.Sprintf("%02x/%s/", i, cluster)
	}
	return out
}

// ParseKey is the inverse of Key.
func ParseKey(cluster, key string) (ID, error) {
	bad := func() (ID, error) {
		return ID{}, fmt.Errorf("%q is not the key of an object of cluster %s", key, cluster)
	}
	parts := strings.Split(key, "/")
	if len(parts) != 4 || parts[1] != cluster || len(parts[2]) != 1 {
		return bad()
	}
	var id ID
	for k, letter := range kindLetters {
		if letter != 0 && letter == parts[2][0] {
			id.Kind = Kind(k)
		}
	}
	numbers := strings.Split(parts[3], "-")
	if id.Kind == 0 || len(numbers) != 3 {
		return bad()
	}
	for i, p := range []*uint64{&id.Epoch, &id.Seq, &id.Nonce} {
		v, err := strconv.ParseUint(numbers[i], 16, 64)
		if err != nil {
			return bad()
		}
		*p = v
	}
	if id.Key(cluster) != key {
		return bad()
	}
	return id, nil
}

func appendHex64(dst []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[v>>shift&15])
	}
	return dst
}

func hashPrefix(name []byte) string {
	return hex.EncodeToString([]byte{byte(crc32.ChecksumIEEE(name) >> 24)})
}
