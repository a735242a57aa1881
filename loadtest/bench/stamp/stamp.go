// Package stamp marks the values of a load test so that a reader can tell loss, repetition and disorder, and how old a record is.
// It is PURE but for the locks of a Ledger.
package stamp

import "encoding/binary"

// Bytes is the size of a stamp; values are at least this long.
const Bytes = 24

// magic begins each stamp.
const magic = 0x54_4d_42_31 // TMB1

// Stamp is the front of a value.
type Stamp struct {
	Producer uint32 // unique within the topic
	Sequence uint64 // of the producer's records in this partition, from 0
	Due      int64  // when it was to be sent, in nanoseconds of the run's own clock
}

// Put writes s to the front of value, which must have room for it.
func Put(value []byte, s Stamp) {
	_ = value[Bytes-1]
	binary.BigEndian.PutUint32(value, magic)
	binary.BigEndian.PutUint32(value[4:], s.Producer)
	binary.BigEndian.PutUint64(value[8:], s.Sequence)
	binary.BigEndian.PutUint64(value[16:], uint64(s.Due))
}

// Get reads the stamp of a value; false if it has none.
func Get(value []byte) (Stamp, bool) {
	if len(value) < Bytes || binary.BigEndian.Uint32(value) != magic {
		return Stamp{}, false
	}
	return Stamp{binary.BigEndian.Uint32(value[4:]), binary.BigEndian.Uint64(value[8:]), int64(binary.BigEndian.Uint64(value[16:]))}, true
}
