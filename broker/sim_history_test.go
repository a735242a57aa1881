package broker

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// tp names a partition.
type tp struct {
	topic     string
	partition int32
}

type outcome int

const (
	unknown outcome = iota // no answer, or one that leaves it open
	acked
	refused // an answer that says that it is not in the log
)

// sent is a record that somebody tried to produce. No two have the same value.
type sent struct {
	producer string
	retried  bool // by an idempotent producer, until it is acked
	seq      int  // order of the first sends of the producer to the partition
	outcome  outcome
	offset   int64 // where it was acked
}

// read is a record that a consumer got.
type read struct {
	offset int64
	value  string
}

// history is what the clients of a world know.
type history struct {
	w  *world
	mu sync.Mutex

	sent      map[tp]map[string]*sent
	observed  map[tp][]read            // by the running consumers
	committed map[string]map[tp]offset // by group
}

// offset of a group: the last acked commit, and the highest that was tried.
type offset struct{ acked, tried int64 }

func newHistory(w *world) *history {
	return &history{w: w, sent: map[tp]map[string]*sent{}, observed: map[tp][]read{}, committed: map[string]map[tp]offset{}}
}

func (h *history) sending(p tp, value string, s *sent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sent[p] == nil {
		h.sent[p] = map[string]*sent{}
	}
	h.sent[p][value] = s
}

func (h *history) settle(s *sent, o outcome, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.outcome, s.offset = o, offset
}

func (h *history) saw(p tp, records []read) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.observed[p] = append(h.observed[p], records...)
}

func (h *history) committing(group string, p tp, at int64, isAcked bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.committed[group] == nil {
		h.committed[group] = map[tp]offset{}
	}
	o := h.committed[group][p]
	o.tried = max(o.tried, at)
	if isAcked {
		o.acked = max(o.acked, at)
	}
	h.committed[group][p] = o
}

// counts says how many records there are of each outcome.
func (h *history) counts() (n [3]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, of := range h.sent {
		for _, s := range of {
			n[s.outcome]++
		}
	}
	return n
}

// producer sends numbered batches to its partitions, one at a time to each. An idempotent one repeats a batch until it is
// acked; another one lets go of a batch whose outcome is unknown.
type producer struct {
	h          *history
	name       string
	parts      []tp
	idempotent bool
	batches    int // to each partition
	records    int // in each batch
	valueBytes int
	pause      time.Duration // between requests
}

// flight is a batch on its way.
type flight struct {
	values []string
	sent   []*sent
	bytes  []byte
}

func (p *producer) run() {
	c := p.h.w.client(p.name)
	defer c.close()
	id, epoch := int64(-1), int16(-1)
	if p.idempotent {
		var ok bool
		if id, epoch, ok = p.init(c); !ok {
			return
		}
	}
	next := map[tp]int{}
	flights := map[tp]*flight{}
	for {
		for _, part := range p.parts {
			if flights[part] == nil && next[part] < p.batches {
				flights[part] = p.batch(part, next[part], id, epoch)
				next[part]++
			}
		}
		if len(flights) == 0 {
			return
		}
		wait := p.pause
		if !p.send(c, flights) {
			wait += 100 * time.Millisecond
		}
		if p.givenUp(wait) {
			return
		}
	}
}

// givenUp waits; true: whoever runs the producer has lost patience.
func (p *producer) givenUp(wait time.Duration) bool {
	select {
	case <-p.h.w.lost:
		return true
	case <-time.After(wait):
		return false
	}
}

func (p *producer) init(c *client) (int64, int16, bool) {
	for {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.ProducerID, req.ProducerEpoch = -1, -1
		if resp, err := c.call(req); err == nil {
			if r := resp.(*kmsg.InitProducerIDResponse); r.ErrorCode == 0 {
				return r.ProducerID, r.ProducerEpoch, true
			}
		}
		if p.givenUp(100 * time.Millisecond) {
			return 0, 0, false
		}
	}
}

// batch makes the nth batch for a partition. Values differ in length and content.
func (p *producer) batch(part tp, n int, id int64, epoch int16) *flight {
	f := &flight{}
	b := batch.Builder{HasProducer: p.idempotent, ProducerID: id, ProducerEpoch: epoch, BaseSequence: int32(n * p.records)}
	for i := range p.records {
		seq := n*p.records + i
		value := fmt.Sprintf("%s|%s-%d|%d|", p.name, part.topic, part.partition, seq)
		if pad := p.valueBytes - len(value) + seq%7; pad > 0 {
			value += strings.Repeat(string(rune('a'+seq%26)), pad)
		}
		s := &sent{producer: p.name, seq: seq, retried: p.idempotent}
		p.h.sending(part, value, s)
		f.values, f.sent = append(f.values, value), append(f.sent, s)
		b.Add(time.Now().UnixMilli(), nil, []byte(value))
	}
	var err error
	if f.bytes, err = b.Bytes(); err != nil {
		p.h.w.errorf("build a batch: %v", err)
	}
	return f
}

// send sends all flights in one request and notes what became of them. It returns false when anything is left to do again.
func (p *producer) send(c *client, flights map[tp]*flight) bool {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 30_000
	for _, part := range p.parts {
		f := flights[part]
		if f == nil {
			continue
		}
		t := kmsg.NewProduceRequestTopic()
		t.Topic = part.topic
		q := kmsg.NewProduceRequestTopicPartition()
		q.Partition, q.Records = part.partition, f.bytes
		t.Partitions = append(t.Partitions, q)
		if n := len(req.Topics); n > 0 && req.Topics[n-1].Topic == part.topic {
			req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, q)
		} else {
			req.Topics = append(req.Topics, t)
		}
	}
	resp, err := c.call(req)
	if err != nil {
		if !p.idempotent {
			clear(flights)
		}
		return false
	}
	all := true
	for _, t := range resp.(*kmsg.ProduceResponse).Topics {
		for _, q := range t.Partitions {
			part := tp{t.Topic, q.Partition}
			if p.settle(part, flights[part], q.ErrorCode, q.BaseOffset) || !p.idempotent {
				delete(flights, part)
			} else {
				all = false
			}
		}
	}
	return all
}

// settle notes the answer for one batch; false: it is to be sent again.
func (p *producer) settle(part tp, f *flight, code int16, base int64) bool {
	all := func(o outcome) {
		for i, s := range f.sent {
			p.h.settle(s, o, base+int64(i))
		}
	}
	switch code {
	case 0:
		all(acked)
		return true
	case kerr.NotLeaderForPartition.Code, kerr.UnknownTopicOrPartition.Code:
		all(refused)
		if p.idempotent {
			all(unknown) // it is sent again
		}
	case kerr.KafkaStorageError.Code, kerr.RequestTimedOut.Code:
		all(unknown)
	default:
		p.h.w.errorf("%s to %v: batch %.40q: unexpected %v", p.name, part, f.values[0], kerr.ErrorForCode(code))
		all(refused)
		return true
	}
	return false
}

// fetchLog reads a partition from an offset on through the broker. The end is the high watermark of the answer.
func (c *client) fetch(p tp, from int64, wait time.Duration, maxBytes int32) (records []read, end int64, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, int32(wait.Milliseconds()), 1, 1<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = p.topic
	q := kmsg.NewFetchRequestTopicPartition()
	q.Partition, q.FetchOffset, q.CurrentLeaderEpoch, q.PartitionMaxBytes = p.partition, from, -1, maxBytes
	t.Partitions = append(t.Partitions, q)
	req.Topics = append(req.Topics, t)
	resp, err := c.call(req)
	if err != nil {
		return nil, 0, err
	}
	r := resp.(*kmsg.FetchResponse)
	if r.ErrorCode != 0 {
		return nil, 0, kerr.ErrorForCode(r.ErrorCode)
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return nil, 0, fmt.Errorf("an answer for %d topics", len(r.Topics))
	}
	part := &r.Topics[0].Partitions[0]
	if part.ErrorCode != 0 {
		return nil, part.HighWatermark, kerr.ErrorForCode(part.ErrorCode)
	}
	records, err = recordsOf(part.RecordBatches, from)
	return records, part.HighWatermark, err
}

// recordsOf decodes whole batches and leaves out what lies before from.
func recordsOf(b []byte, from int64) ([]read, error) {
	var out []read
	for len(b) > 0 {
		h, err := batch.Parse(b)
		if err != nil {
			return nil, err
		}
		one := b[:h.SizeBytes]
		if got := batch.Checksum(one); got != h.CRC {
			return nil, fmt.Errorf("batch at %d: CRC %08x, want %08x", h.BaseOffset, h.CRC, got)
		}
		section, err := batch.Inflate(one, &h, nil, 1<<20)
		if err != nil {
			return nil, err
		}
		w := batch.Walk(section, h.Count)
		var rec batch.Record
		for {
			ok, err := w.Next(&rec)
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			if at := h.BaseOffset + int64(rec.OffsetDelta); at >= from {
				out = append(out, read{at, string(rec.Value)})
			}
		}
		b = b[h.SizeBytes:]
	}
	return out, nil
}

// simConsumer follows a partition from its start, and commits for a group where it is.
type simConsumer struct {
	h     *history
	p     tp
	group string // empty: it commits nothing
	quit  <-chan struct{}
}

func (s *simConsumer) run() {
	c := s.h.w.client("consumer of " + s.p.topic)
	defer c.close()
	at := int64(0)
	for {
		records, _, err := c.fetch(s.p, at, 500*time.Millisecond, 8<<10)
		s.h.saw(s.p, records)
		if n := len(records); n > 0 {
			at = records[n-1].offset + 1
			if s.group != "" {
				s.commit(c, at)
			}
		}
		switch {
		case err == kerr.OffsetOutOfRange:
			s.h.w.errorf("consumer of %v: offset %d, which it got before, is out of range", s.p, at)
			return
		case err != nil:
			c.close()
			time.Sleep(100 * time.Millisecond)
		}
		select {
		case <-s.quit:
			return
		default:
		}
	}
}

func (s *simConsumer) commit(c *client, at int64) { c.commit(s.h, s.group, "", -1, s.p, at) }

// commit commits an offset for a group, as a member of it or as nobody.
func (c *client) commit(h *history, group, member string, generation int32, p tp, at int64) {
	h.committing(group, p, at, false)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = group, member, generation
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = p.topic
	q := kmsg.NewOffsetCommitRequestTopicPartition()
	q.Partition, q.Offset = p.partition, at
	t.Partitions = append(t.Partitions, q)
	req.Topics = append(req.Topics, t)
	for range 2 {
		resp, err := c.call(req)
		if err != nil {
			return
		}
		switch resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode {
		case 0:
			h.committing(group, p, at, true)
			return
		case kerr.NotCoordinator.Code:
			c.seek(group)
		default:
			return
		}
	}
}

// seek asks who coordinates a group, which makes that somebody does.
func (c *client) seek(group string) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKeys = []string{group}
	_, _ = c.call(req) // the caller tries again whatever the answer
}

// committedAt asks the broker for a group's offset; -1: none.
func (c *client) committedAt(group string, p tp) (int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic, t.Partitions = p.topic, []int32{p.partition}
	g.Topics = append(g.Topics, t)
	req.Groups = append(req.Groups, g)
	resp, err := c.call(req)
	if err != nil {
		return 0, err
	}
	r := resp.(*kmsg.OffsetFetchResponse).Groups[0]
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		c.seek(group)
		return 0, err
	}
	q := r.Topics[0].Partitions[0]
	return q.Offset, kerr.ErrorForCode(q.ErrorCode)
}

// createTopic makes a topic that keeps everything, and goes on until it is there.
func (w *world) createTopic(name string, partitions int32) {
	w.t.Helper()
	c := w.client("admin")
	defer c.close()
	for range 1000 {
		req := kmsg.NewPtrCreateTopicsRequest()
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
		for k, v := range map[string]string{"retention.ms": "-1", "retention.bytes": "-1"} {
			config := kmsg.NewCreateTopicsRequestTopicConfig()
			config.Name, config.Value = k, kmsg.StringPtr(v)
			t.Configs = append(t.Configs, config)
		}
		req.Topics, req.TimeoutMillis = append(req.Topics, t), 10_000
		resp, err := c.call(req)
		if err == nil {
			code := resp.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode
			if code == 0 || code == kerr.TopicAlreadyExists.Code {
				return
			}
			if !slices.Contains([]int16{kerr.RequestTimedOut.Code, kerr.NotController.Code}, code) {
				w.errorf("create topic %s: %v", name, kerr.ErrorForCode(code))
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.errorf("topic %s cannot be created", name)
}
