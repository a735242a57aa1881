package handler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// Produce implements server.Handler for Produce (0). Every part is validated and appended at once; the call is done when
// all of them are durable or refused, or when its timeout is over. With acks=1 and 0 the same is awaited: an owner is
// always in sync with itself, and what is answered must be durable.
func (b *Broker) Produce(ctx context.Context, _ *server.Conn, h wire.Header, call *server.ProduceCall) {
	b.start()
	b.startLog()
	req := call.Req
	if b.refuseProduce(req) {
		call.Done()
		return
	}
	s := produceStates.Get().(*produceState)
	s.begin(ctx, b, call)
	im := b.Meta.Image()
	nowMs := time.Now().UnixMilli()
	internalAllowed := h.ClientID == adminClientID
	var wait openings
	defer wait.end()
	for i := range req.Parts {
		part := &req.Parts[i]
		p, code := b.producePartition(ctx, &wait, im, h.Version, part, internalAllowed)
		if code == 0 && !validAcks(req.Acks) {
			code = kerr.InvalidRequiredAcks.Code
		}
		if code != 0 {
			s.refuse(part, code)
			continue
		}
		s.append(i, part, p, h.Version, nowMs)
	}
	s.settle()
}

// refuseProduce answers all parts when one batch belongs to a transaction and the request does not name it, as Kafka does
// before it looks at any topic.
func (b *Broker) refuseProduce(req *wire.Produce) bool {
	if req.TransactionalID != nil {
		return false
	}
	for i := range req.Parts {
		if h, err := batch.Parse(req.Parts[i].Records); err == nil && h.IsTransactional() {
			req.Fail(kerr.TransactionalIDAuthorizationFailed.Code)
			return true
		}
	}
	return false
}

func validAcks(acks int16) bool { return acks >= -1 && acks <= 1 }

// producePartition finds where a part goes.
func (b *Broker) producePartition(ctx context.Context, wait *openings, im *metadata.Image, version int16, part *wire.ProducePart, internalAllowed bool) (*partition.Partition, int16) {
	var t *metadata.Topic
	var ok bool
	if version >= 13 {
		if t, ok = im.TopicByID(part.TopicID); !ok {
			return nil, kerr.UnknownTopicID.Code
		}
	} else if t, ok = im.TopicBytes(part.Topic); !ok {
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	if t.Internal && (!internalAllowed || t.Name == offsetsTopic) { // whose partitions only stand for shards
		return nil, kerr.InvalidTopicException.Code
	}
	p, code := wait.partitionOf(ctx, b, t, part.Partition)
	if code == kerr.NotLeaderForPartition.Code && version >= 10 {
		if owner, ok := im.Partition(metadata.PartitionID{Topic: t.ID, Partition: part.Partition}); ok && owner.Owner != b.NodeID {
			part.LeaderID, part.LeaderEpoch = int32(owner.Owner), int32(owner.LeaderEpoch)
		}
	}
	return p, code
}

// produceState follows the appends of one request. It is pooled: the hot path allocates nothing.
type produceState struct {
	b        *Broker
	ctx      produceContext
	rules    batch.Rules
	deadline time.Time

	open atomic.Int32 // appends without outcome, plus one while the request is being handled

	mu   sync.Mutex          // guards call's parts against the deadline
	call *server.ProduceCall // nil once it is done

	prev, next *produceState // in deadlines
	listed     bool
	shard      uint8 // of deadlines, for good
}

var produceStates = sync.Pool{New: func() any { return &produceState{shard: uint8(nextShard.Add(1) % deadlineShards)} }}

// minProduceTimeout is the least time that durability may take before REQUEST_TIMED_OUT. Kafka's timeout is about
// followers, and clients send 0 because a lone leader never needs it.
const minProduceTimeout = time.Second

func (s *produceState) begin(ctx context.Context, b *Broker, call *server.ProduceCall) {
	timeout := max(time.Duration(call.Req.TimeoutMillis)*time.Millisecond, minProduceTimeout)
	s.b, s.call = b, call
	s.deadline = time.Now().Add(timeout)
	s.ctx = produceContext{Context: ctx, deadline: s.deadline}
	s.open.Store(1)
}

func (s *produceState) refuse(part *wire.ProducePart, code int16) {
	part.ErrorCode = code
	s.b.log.stats.refused.Add(1)
}

// append validates and appends one part. Its answer is written here when it is refused, and by Appended otherwise.
func (s *produceState) append(i int, part *wire.ProducePart, p *partition.Partition, version int16, nowMs int64) {
	s.rules = p.Config().Rules(nowMs)
	s.rules.ChecksumOK, s.rules.Facts, s.rules.ZstdAllowed = part.ChecksumOK, part.Facts, version >= 7
	s.rules.TrustCompressed = s.b.TrustCompressed
	records, h, err := s.b.log.openers.prepare(&s.ctx, part.Records, &s.rules)
	if err == nil && h.IsTransactional() {
		// The coordinator would not know the transaction (transactions are not served): Kafka's answer to that.
		s.refuse(part, kerr.InvalidProducerIDMapping.Code)
		part.ErrorMessage = "transactions are not served by this broker yet"
		return
	}
	if err == nil {
		s.open.Add(1)
		if err = p.Append(&s.ctx, records, &h, s, i); err == nil {
			return
		}
		s.open.Add(-1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail(part, err)
	if part.ErrorCode != kerr.KafkaStorageError.Code {
		part.LogStart = int64(p.LogStart())
	}
}

// fail writes a refusal. The caller holds mu.
func (s *produceState) fail(part *wire.ProducePart, err error) {
	code, known := logCode(err)
	part.ErrorCode = code
	s.b.log.stats.refused.Add(1)
	if !known {
		s.b.logger.Error("append failed", "error", err)
		return
	}
	part.ErrorMessage = err.Error()
	var records *batch.RecordsError
	if errors.As(err, &records) {
		for _, r := range records.Records {
			part.RecordErrors = append(part.RecordErrors, wire.RecordError{Index: r.Index, Message: r.Message})
		}
	}
}

// Appended implements partition.Acker.
func (s *produceState) Appended(token int, a partition.Appended, err error) {
	s.mu.Lock()
	if s.call != nil {
		part := &s.call.Req.Parts[token]
		if err != nil {
			s.fail(part, err)
		} else {
			part.ErrorCode = 0
			part.BaseOffset, part.LogAppendTimeMs, part.LogStart = int64(a.BaseOffset), a.TimestampMs, int64(a.LogStart)
		}
	}
	s.mu.Unlock()
	s.done()
}

// settle ends the handling of the request: what is still open then is watched for the deadline.
func (s *produceState) settle() {
	s.ctx.cancel()
	if s.open.Load() > 1 {
		s.b.log.deadlines.add(s)
	}
	s.done()
}

// done counts an outcome. The last one answers the call and gives the state back.
func (s *produceState) done() {
	if s.open.Add(-1) > 0 {
		return
	}
	s.b.log.deadlines.remove(s)
	call := s.call
	s.b, s.call, s.ctx = nil, nil, produceContext{}
	produceStates.Put(s)
	if call != nil {
		call.Done()
	}
}

// expire answers the call with what is known: parts without outcome have timed out. Later outcomes change nothing.
func (s *produceState) expire() {
	s.mu.Lock()
	call := s.call
	s.call = nil
	if call != nil {
		s.b.log.stats.timedOut.Add(1)
		for i := range call.Req.Parts {
			if part := &call.Req.Parts[i]; part.ErrorCode == 0 && part.BaseOffset < 0 {
				part.ErrorCode = kerr.RequestTimedOut.Code
			}
		}
	}
	s.mu.Unlock()
	if call != nil {
		call.Done()
	}
}

// produceContext is a context with a deadline that costs a timer only when somebody waits for it.
type produceContext struct {
	context.Context // the connection's
	deadline        time.Time
	timed           context.Context
	stop            context.CancelFunc
}

func (c *produceContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *produceContext) Done() <-chan struct{} {
	if c.timed == nil {
		c.timed, c.stop = context.WithDeadline(c.Context, c.deadline)
	}
	return c.timed.Done()
}

func (c *produceContext) Err() error {
	if c.timed != nil {
		return c.timed.Err()
	}
	return c.Context.Err()
}

func (c *produceContext) Value(key any) any {
	if c.timed != nil {
		return c.timed.Value(key)
	}
	return c.Context.Value(key)
}

func (c *produceContext) cancel() {
	if c.stop != nil {
		c.stop()
	}
}
