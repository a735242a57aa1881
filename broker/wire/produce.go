package wire

import "github.com/tidemarkmq/tidemark/tiering/batch"

// Produce is a decoded Produce request (v3–v13) and, in the same place, its answer. It is reused: nothing in it may be kept after the call
// that carries it is done.
type Produce struct {
	Version         int16
	Acks            int16 // as sent: 0, 1 and -1 are valid, the handler answers INVALID_REQUIRED_ACKS to others
	TimeoutMillis   int32
	TransactionalID *string // nil = null
	Parts           []ProducePart

	// The answer beside the parts.
	ThrottleMillis int32
	NodeEndpoints  []NodeEndpoint // v10+ (KIP-951); nil in most answers

	topics []produceTopic // non-empty topics, in request order; they partition Parts
	names  []byte         // copies of the topic names, so that the answer outlives the frame
}

// produceTopic is a run of Parts with the same topic entry of the request.
type produceTopic struct{ first, count int32 }

// ProducePart is one partition of a Produce request and its answer.
type ProducePart struct {
	Topic     []byte   // name, up to v12 (nil from v13): valid until the call is done
	TopicID   [16]byte // from v13 (zero before)
	Partition int32

	// Records alias the frame: valid only until Handler.Produce returns. nil = null. They are untrusted: any bytes of any length.
	Records []byte
	// ChecksumOK says that Records start with a v2 batch whose declared length lies within Records and whose CRC32C is right. It was
	// computed while the bytes were in cache; a second batch behind the first is not covered.
	ChecksumOK bool
	// Facts are about the records of that batch, when they are not compressed: they were walked while the bytes were in cache.
	Facts batch.Facts

	// The answer, filled in by the handler before Done. The decoder sets ErrorCode 0, offsets, timestamp and leader to -1.
	ErrorCode       int16
	BaseOffset      int64
	LogAppendTimeMs int64
	LogStart        int64         // v5+
	ErrorMessage    string        // v8+; "" = null
	RecordErrors    []RecordError // v8+ (KIP-467)
	LeaderID        int32         // v10+ (KIP-951); with LeaderEpoch -1 both = not sent
	LeaderEpoch     int32
}

// RecordError is the reason why one record made its batch fail (KIP-467).
type RecordError struct {
	Index   int32  // of the record in its batch
	Message string // "" = null
}

// NodeEndpoint is where a new leader can be reached (KIP-951).
type NodeEndpoint struct {
	NodeID int32
	Host   string
	Port   int32
	Rack   *string
}

// HasError tells whether any partition of the answer failed. With acks=0 Kafka then closes the connection.
func (p *Produce) HasError() bool {
	for i := range p.Parts {
		if p.Parts[i].ErrorCode != 0 {
			return true
		}
	}
	return false
}

// Fail answers every partition with code.
func (p *Produce) Fail(code int16) {
	for i := range p.Parts {
		p.Parts[i].ErrorCode = code
	}
}

// Reset empties p for reuse. Big arrays of an unusual request are let go.
func (p *Produce) Reset() {
	parts, topics, names := p.Parts, p.topics, p.names
	clear(parts)
	*p = Produce{}
	if cap(parts) <= keepParts {
		p.Parts, p.topics = parts[:0], topics[:0]
	}
	if cap(names) <= keepNameBytes {
		p.names = names[:0]
	}
}

// What a reused Produce may hold on to.
const (
	keepParts     = 1024
	keepNameBytes = 16 << 10
)
