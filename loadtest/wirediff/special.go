package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// special says what a field's value stands for where brokers choose it by themselves. It returns false for all other fields.
func (f *flat) special(path, where string, v reflect.Value) bool {
	name := path[strings.LastIndexByte(path, '.')+1:]
	if id, ok := v.Interface().([16]byte); ok {
		f.add(path, where, f.side.idName(id))
		return true
	}
	switch {
	case name == "ClusterID":
		v = reflect.Indirect(v)
		f.add(path, where, v.IsValid() && v.String() != "")
	case name == "Host", name == "Port":
		f.add(path, where, "that of the broker")
	case name == "ErrorMessage" && v.Kind() == reflect.Pointer:
		f.add(path, where, map[bool]string{true: "null", false: "a message"}[v.IsNil()])
	case name == "ProducerID" && v.Kind() == reflect.Int64:
		f.add(path, where, f.side.producerName(v.Int()))
	case name == "SessionID" && v.Kind() == reflect.Int32:
		f.add(path, where, v.Int() != 0)
	case v.Kind() == reflect.Int64 && isNow(v.Int()):
		f.add(path, where, "a time near now")
	case name == "RecordBatches":
		f.batches(path, where, v.Bytes())
	case name == "MemberAssignment", name == "ProtocolMetadata", name == "Metadata" && v.Kind() == reflect.Slice, name == "MemberMetadata":
		f.add(path, where, fmt.Sprintf("%q", v.Bytes()))
	default:
		return false
	}
	return true
}

const batchHead = 61 // bytes before a batch's records

// batches adds one line for each batch. Kafka cuts what it reads at the bytes asked for, so the last one may be a piece: it is
// left out, as clients do.
func (f *flat) batches(path, where string, raw []byte) {
	if raw == nil {
		f.add(path, where, "null")
		return
	}
	var all []string
	for len(raw) >= batchHead {
		var b kmsg.RecordBatch
		size := 12 + int(int32(raw[8])<<24|int32(raw[9])<<16|int32(raw[10])<<8|int32(raw[11]))
		if size < batchHead || size > len(raw) || b.ReadFrom(raw[:size]) != nil {
			break
		}
		records, err := kgo.DefaultDecompressor().Decompress(b.Records, kgo.CompressionCodecType(b.Attributes&7))
		if err != nil {
			records = []byte(err.Error())
		}
		stamps := fmt.Sprintf("%d..%d", b.FirstTimestamp, b.MaxTimestamp)
		if b.Attributes&8 != 0 {
			stamps = fmt.Sprintf("%d.. appended near now %v", b.FirstTimestamp, isNow(b.MaxTimestamp))
		}
		all = append(all, fmt.Sprintf("{at %d+%d, leader epoch %d, attributes %#x, times %s, %s epoch %d sequence %d, %d records: %x}", b.FirstOffset,
			b.LastOffsetDelta, b.PartitionLeaderEpoch, b.Attributes, stamps, f.side.producerName(b.ProducerID), b.ProducerEpoch, b.FirstSequence, b.NumRecords, records))
		raw = raw[size:]
	}
	f.add(path, where, strings.Join(all, " "))
}
