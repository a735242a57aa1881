package wire

import "encoding/binary"

// FetchEncoder encodes Fetch answers without copying records. The zero value is ready; reuse it, it keeps its buffers. Not for concurrent
// use.
type FetchEncoder struct {
	meta []byte
	cuts []fetchCut
	vec  [][]byte
}

// fetchCut says that records stand before meta[at:].
type fetchCut struct {
	at      int
	records [][]byte
}

// What a reused encoder may hold on to.
const (
	keepMetaBytes = 128 << 10
	keepVec       = 8192
)

// Encode returns the whole answer, length and header included, as slices to be written one after the other, and its size. The slices are
// the encoder's and the response's: valid until the next Encode or Reset and until the response is released.
func (e *FetchEncoder) Encode(r *FetchResponse, version int16, correlationID int32) ([][]byte, int) {
	flex := version >= 12
	m := AppendResponseHeader(e.meta[:0], Header{Key: KeyFetch, Version: version, CorrelationID: correlationID})
	e.cuts = e.cuts[:0]
	m = be.AppendUint32(m, uint32(r.ThrottleMillis))
	if version >= 7 {
		m = be.AppendUint16(m, uint16(r.ErrorCode))
		m = be.AppendUint32(m, uint32(r.SessionID))
	}
	m = appendCount(m, flex, len(r.Topics))
	total := 0
	for i := range r.Topics {
		t := &r.Topics[i]
		if version <= 12 {
			m = appendString(m, flex, t.Topic)
		} else {
			m = append(m, t.TopicID[:]...)
		}
		m = appendCount(m, flex, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			m = appendFetchPartition(m, version, p)
			size := 0
			for _, b := range p.Records {
				size += len(b)
			}
			m = appendCount(m, flex, size)
			if size > 0 {
				e.cuts = append(e.cuts, fetchCut{len(m), p.Records})
				total += size
			}
			if flex {
				m = appendFetchTags(m, p)
			}
		}
		if flex {
			m = append(m, 0)
		}
	}
	if flex {
		m = appendEndpointsTag(m, version >= 16, r.NodeEndpoints)
	}
	FinishResponse(m, 0, total)
	e.meta = m
	return e.gather(), len(m) + total
}

// gather weaves records between the pieces of meta, which does not move any more.
func (e *FetchEncoder) gather() [][]byte {
	vec, from := e.vec[:0], 0
	for _, c := range e.cuts {
		vec = append(vec, e.meta[from:c.at])
		for _, b := range c.records {
			if len(b) > 0 {
				vec = append(vec, b)
			}
		}
		from = c.at
	}
	if from < len(e.meta) {
		vec = append(vec, e.meta[from:])
	}
	e.vec = vec
	return vec
}

// Reset forgets the response, so that its records are not kept alive.
func (e *FetchEncoder) Reset() {
	clear(e.cuts)
	clear(e.vec)
	if cap(e.meta) > keepMetaBytes || cap(e.vec) > keepVec {
		*e = FetchEncoder{}
	}
}

func appendFetchPartition(m []byte, version int16, p *FetchPartition) []byte {
	flex := version >= 12
	m = be.AppendUint32(m, uint32(p.Partition))
	m = be.AppendUint16(m, uint16(p.ErrorCode))
	m = be.AppendUint64(m, uint64(p.HighWatermark))
	m = be.AppendUint64(m, uint64(p.LastStable))
	if version >= 5 {
		m = be.AppendUint64(m, uint64(p.LogStart))
	}
	switch {
	case p.Aborted != nil:
		m = appendCount(m, flex, len(p.Aborted))
	case flex:
		m = append(m, 0)
	default:
		m = append(m, 0xff, 0xff, 0xff, 0xff)
	}
	for i := range p.Aborted {
		m = be.AppendUint64(m, uint64(p.Aborted[i].ProducerID))
		m = be.AppendUint64(m, uint64(p.Aborted[i].FirstOffset))
		if flex {
			m = append(m, 0)
		}
	}
	if version >= 11 {
		m = be.AppendUint32(m, uint32(p.PreferredReplica))
	}
	return m
}

// Tagged fields of a partition, v12+.
const (
	tagDiverging     = 0
	tagCurrentLeader = 1
	tagSnapshot      = 2
)

func appendFetchTags(m []byte, p *FetchPartition) []byte {
	n := byte(0)
	for _, present := range [...]bool{p.Diverging != nil, p.CurrentLeader != nil, p.Snapshot != nil} {
		if present {
			n++
		}
	}
	m = append(m, n)
	if d := p.Diverging; d != nil {
		m = append(m, tagDiverging, 13)
		m = be.AppendUint32(m, uint32(d.Epoch))
		m = be.AppendUint64(m, uint64(d.EndOffset))
		m = append(m, 0)
	}
	if l := p.CurrentLeader; l != nil {
		m = appendLeaderTag(m, tagCurrentLeader, l.LeaderID, l.LeaderEpoch)
	}
	if s := p.Snapshot; s != nil {
		m = binary.AppendUvarint(m, tagSnapshot)
		m = append(m, 13)
		m = be.AppendUint64(m, uint64(s.EndOffset))
		m = be.AppendUint32(m, uint32(s.Epoch))
		m = append(m, 0)
	}
	return m
}
