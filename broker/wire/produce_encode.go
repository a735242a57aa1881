package wire

import "encoding/binary"

var be = binary.BigEndian

func appendCount(dst []byte, compact bool, n int) []byte {
	if compact {
		return binary.AppendUvarint(dst, uint64(n+1))
	}
	return be.AppendUint32(dst, uint32(n))
}

func appendString[T string | []byte](dst []byte, compact bool, s T) []byte {
	if compact {
		dst = binary.AppendUvarint(dst, uint64(len(s)+1))
	} else {
		dst = be.AppendUint16(dst, uint16(len(s)))
	}
	return append(dst, s...)
}

// appendNullable appends s, "" as null.
func appendNullable(dst []byte, compact bool, s string) []byte {
	switch {
	case s != "":
		return appendString(dst, compact, s)
	case compact:
		return append(dst, 0)
	default:
		return append(dst, 0xff, 0xff)
	}
}

// AppendProduceResponse appends the whole answer to p, length and header included. Allocates only when dst is too small.
func AppendProduceResponse(dst []byte, correlationID int32, p *Produce) []byte {
	at := len(dst)
	v := p.Version
	flex := v >= 9
	dst = AppendResponseHeader(dst, Header{Key: KeyProduce, Version: v, CorrelationID: correlationID})
	dst = appendCount(dst, flex, len(p.topics))
	for _, t := range p.topics {
		parts := p.Parts[t.first : t.first+t.count]
		if v <= 12 {
			dst = appendString(dst, flex, parts[0].Topic)
		} else {
			dst = append(dst, parts[0].TopicID[:]...)
		}
		dst = appendCount(dst, flex, len(parts))
		for i := range parts {
			dst = appendProducePart(dst, v, &parts[i])
		}
		if flex {
			dst = append(dst, 0)
		}
	}
	dst = be.AppendUint32(dst, uint32(p.ThrottleMillis))
	if flex {
		dst = appendEndpointsTag(dst, v >= 10, p.NodeEndpoints)
	}
	FinishResponse(dst, at, 0)
	return dst
}

func appendProducePart(dst []byte, v int16, p *ProducePart) []byte {
	flex := v >= 9
	dst = be.AppendUint32(dst, uint32(p.Partition))
	dst = be.AppendUint16(dst, uint16(p.ErrorCode))
	dst = be.AppendUint64(dst, uint64(p.BaseOffset))
	dst = be.AppendUint64(dst, uint64(p.LogAppendTimeMs))
	if v >= 5 {
		dst = be.AppendUint64(dst, uint64(p.LogStart))
	}
	if v >= 8 {
		dst = appendCount(dst, flex, len(p.RecordErrors))
		for i := range p.RecordErrors {
			dst = be.AppendUint32(dst, uint32(p.RecordErrors[i].Index))
			dst = appendNullable(dst, flex, p.RecordErrors[i].Message)
			if flex {
				dst = append(dst, 0)
			}
		}
		dst = appendNullable(dst, flex, p.ErrorMessage)
	}
	if !flex {
		return dst
	}
	if v < 10 || (p.LeaderID == -1 && p.LeaderEpoch == -1) {
		return append(dst, 0)
	}
	return appendLeaderTag(append(dst, 1), 0, p.LeaderID, p.LeaderEpoch)
}

// appendLeaderTag appends a tagged field that holds leader id, epoch and no tags of its own.
func appendLeaderTag(dst []byte, tag byte, id, epoch int32) []byte {
	dst = append(dst, tag, 9)
	dst = be.AppendUint32(dst, uint32(id))
	dst = be.AppendUint32(dst, uint32(epoch))
	return append(dst, 0)
}

// appendEndpointsTag appends the response's tagged fields: none, or the node endpoints as tag 0 (KIP-951).
func appendEndpointsTag(dst []byte, known bool, nodes []NodeEndpoint) []byte {
	if !known || len(nodes) == 0 {
		return append(dst, 0)
	}
	size := uvarintBytes(len(nodes) + 1)
	for i := range nodes {
		size += endpointBytes(&nodes[i])
	}
	dst = append(dst, 1, 0)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = appendCount(dst, true, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		dst = be.AppendUint32(dst, uint32(n.NodeID))
		dst = appendString(dst, true, n.Host)
		dst = be.AppendUint32(dst, uint32(n.Port))
		if n.Rack == nil {
			dst = append(dst, 0)
		} else {
			dst = appendString(dst, true, *n.Rack)
		}
		dst = append(dst, 0)
	}
	return dst
}

func endpointBytes(n *NodeEndpoint) int {
	size := 4 + uvarintBytes(len(n.Host)+1) + len(n.Host) + 4 + 1 + 1
	if n.Rack != nil {
		size += uvarintBytes(len(*n.Rack)+1) - 1 + len(*n.Rack)
	}
	return size
}

func uvarintBytes(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
