package handler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/tiering/batch"
)

const (
	// maxFetchBytes is Kafka's fetch.max.bytes.
	maxFetchBytes = 55 << 20
	// slowGrace is how long a fetch that would not wait still waits for data that has to be read from files or from the
	// object store, when there is nothing else to answer (Kafka's remote.fetch.max.wait.ms).
	slowGrace = 500 * time.Millisecond
)

// fetchPart is one partition of a fetch and its answer.
type fetchPart struct {
	ask    fetchAsk
	p      *partition.Partition
	answer wire.FetchPartition
	seen   int64 // the high watermark that the answer was made of; -1: not looked at
	keep   bool
	// known is false when the partition could not be found: such an error does not end a long poll, as in Kafka.
	known bool
}

// fetchPass is what one look at all partitions gave.
type fetchPass struct {
	bytes   int
	waiting int  // partitions that wait for a slow read
	urgent  bool // an error, a diverging epoch, or data of a slow read, which is not to be read twice: answer at once
}

// Fetch implements server.Handler for Fetch (1).
func (b *Broker) Fetch(ctx context.Context, c *server.Conn, h wire.Header, req *kmsg.FetchRequest) (*wire.FetchResponse, error) {
	b.start()
	b.startLog()
	f := b.connFetch(ctx, c)
	f.begin()
	defer f.end()
	plan := b.log.sessions.plan(h.Version, req, f.asks)
	if plan.errorCode != 0 {
		return &wire.FetchResponse{ErrorCode: plan.errorCode}, nil
	}
	f.asks = plan.asks
	f.resolve(ctx, b, h.Version)
	out := newFetchAnswer()
	f.poll(ctx, h.Version, req, out)
	id, code := b.log.sessions.finish(h.Version, &plan, f.parts)
	out.fill(b, h.Version, f.parts)
	out.resp.SessionID, out.resp.ErrorCode = id, code
	return &out.resp, nil
}

// resolve finds the partitions of the plan.
func (f *fetchState) resolve(ctx context.Context, b *Broker, version int16) {
	var wait openings
	defer wait.end()
	im := b.Meta.Image()
	f.parts = f.parts[:0]
	var t *metadata.Topic
	for i := range f.asks {
		ask := &f.asks[i]
		if i == 0 || ask.topic != f.asks[i-1].topic || ask.id != f.asks[i-1].id {
			if version >= 13 {
				t, _ = im.TopicByID(ask.id)
			} else {
				t, _ = im.Topic(ask.topic)
			}
		}
		part := fetchPart{ask: *ask, keep: true, seen: -1, answer: wire.NewFetchPartition(ask.partition, 0)}
		var code int16
		switch {
		case t == nil && version >= 13:
			code = kerr.UnknownTopicID.Code
		default:
			part.p, code = wait.partitionOf(ctx, b, t, ask.partition)
		}
		part.answer.ErrorCode = code
		part.known = code == 0 || code == kerr.NotLeaderForPartition.Code
		if part.p != nil && version < 10 && part.p.Config().Codec == batch.CodecZstd {
			part.p, part.answer.ErrorCode = nil, kerr.UnsupportedCompressionType.Code
		}
		if version >= 16 && code == kerr.NotLeaderForPartition.Code {
			part.answer.CurrentLeader = leaderOf(im, metadata.PartitionID{Topic: t.ID, Partition: ask.partition})
		}
		f.parts = append(f.parts, part)
	}
}

func leaderOf(im *metadata.Image, id metadata.PartitionID) *wire.LeaderIDEpoch {
	p, ok := im.Partition(id)
	if !ok {
		return nil
	}
	return &wire.LeaderIDEpoch{LeaderID: int32(p.Owner), LeaderEpoch: int32(p.LeaderEpoch)}
}

// poll looks at all partitions until there is enough to answer, or the wait is over. Between two looks it waits for
// commits, for slow reads, or for the end of ctx.
func (f *fetchState) poll(ctx context.Context, version int16, req *kmsg.FetchRequest, out *fetchAnswer) {
	maxBytes := min(int(req.MaxBytes), maxFetchBytes)
	minBytes := min(int(req.MinBytes), maxBytes)
	start := time.Now()
	deadline := start.Add(time.Duration(max(req.MaxWaitMillis, 0)) * time.Millisecond)
	for {
		pass := f.pass(ctx, version, req.IsolationLevel, maxBytes, out)
		now := time.Now()
		enough := pass.urgent || pass.bytes >= minBytes && (pass.bytes > 0 || pass.waiting == 0)
		wait := deadline.Sub(now)
		if pass.bytes == 0 && pass.waiting > 0 {
			wait = max(wait, start.Add(slowGrace).Sub(now))
		}
		if enough || wait <= 0 || !f.anyKnown() || ctx.Err() != nil {
			return
		}
		out.batches.Release() // it may be long: no slab is held meanwhile
		f.wait(ctx, wait, int64(minBytes-pass.bytes))
	}
}

func (f *fetchState) anyKnown() bool {
	for i := range f.parts {
		if f.parts[i].known {
			return true
		}
	}
	return false
}

// wait returns when needBytes were committed to the partitions, a slow read is there, or the time is over.
func (f *fetchState) wait(ctx context.Context, wait time.Duration, needBytes int64) {
	f.waiter.Arm(needBytes)
	defer f.waiter.Disarm()
	for i := range f.parts {
		if p := &f.parts[i]; p.p != nil && p.seen >= 0 && f.waiter.Watch(p.p, p.seen) {
			return
		}
	}
	f.timer.Reset(wait)
	defer f.timer.Stop()
	select {
	case <-f.waiter.C():
	case <-f.slowReady:
	case <-f.timer.C:
	case <-ctx.Done():
	}
}

// pass reads from all partitions in order: what is in memory at once, and of the rest what slow reads have brought;
// it starts those reads that are missing.
func (f *fetchState) pass(ctx context.Context, version int16, isolation int8, maxBytes int, out *fetchAnswer) fetchPass {
	var pass fetchPass
	left := maxBytes
	for i := range f.parts {
		part := &f.parts[i]
		if part.p == nil {
			pass.urgent = pass.urgent || part.known
			continue
		}
		part.answer = wire.NewFetchPartition(part.ask.partition, 0)
		pos, err := part.p.Locate(metadata.Offset(part.ask.offset), part.ask.currentEpoch, part.ask.lastEpoch)
		if errors.Is(err, partition.ErrOffsetOutOfRange) && part.ask.offset > int64(pos.HighWatermark) {
			err = f.b.confirmRange(ctx, err)
		}
		if err != nil {
			f.fail(part, version, err)
			pass.urgent = true
			continue
		}
		part.seen = int64(pos.HighWatermark)
		a := &part.answer
		a.HighWatermark, a.LastStable, a.LogStart = int64(pos.HighWatermark), int64(pos.LastStable), int64(pos.LogStart)
		if isolation == 1 {
			a.Aborted = noAborted
		}
		if pos.Diverging != nil {
			a.Diverging = &wire.EpochEnd{Epoch: int32(pos.Diverging.Epoch), EndOffset: int64(pos.Diverging.End)}
			pass.urgent = true
			continue
		}
		if part.ask.offset >= part.seen || (left <= 0 && pass.bytes > 0) {
			continue
		}
		n, slow, err := f.read(ctx, part, min(int(part.ask.maxBytes), left), pass.bytes == 0, &out.batches)
		if err != nil {
			f.fail(part, version, err)
			pass.urgent = true
			continue
		}
		if slow && n == 0 {
			pass.waiting++
		}
		pass.urgent = pass.urgent || (slow && n > 0)
		pass.bytes += n
		left -= n
	}
	return pass
}

var noAborted = []wire.AbortedTransaction{}

// read adds the batches at the part's offset to into. slow says that they were not in memory; when n is 0 too, they are on
// their way.
func (f *fetchState) read(ctx context.Context, part *fetchPart, maxBytes int, atLeastOne bool, into *partition.Batches) (n int, slow bool, err error) {
	at := len(into.Records)
	n, hot := part.p.ReadTail(metadata.Offset(part.ask.offset), maxBytes, atLeastOne, into)
	if !hot {
		slow = true
		n, err = f.readSlow(ctx, part, maxBytes, atLeastOne, into)
	}
	part.answer.Records = into.Records[at:len(into.Records):len(into.Records)]
	return n, slow, err
}

// fail makes the part's answer an error, with unknown offsets as Kafka answers it.
func (f *fetchState) fail(part *fetchPart, version int16, err error) {
	code, known := logCode(err)
	if !known && !errors.Is(err, context.Canceled) {
		f.b.logger.Error("fetch failed", "topic", part.p.Topic(), "partition", part.ask.partition, "offset", part.ask.offset, "error", err)
	}
	if code == kerr.KafkaStorageError.Code && version <= 5 {
		code = kerr.NotLeaderForPartition.Code // clients of that age do not know the other
	}
	part.answer = wire.NewFetchPartition(part.ask.partition, code)
	part.seen = -1
	if version >= 16 && (code == kerr.NotLeaderForPartition.Code || code == kerr.FencedLeaderEpoch.Code) {
		part.answer.CurrentLeader = leaderOf(f.b.Meta.Image(), part.p.ID())
	}
}

// confirmRange returns err, that a consumer is above the end of the log, if the log is this broker's still. One that was frozen while others took its
// partitions over may be behind, and its consumers must not begin anew for that: they look for the new leader.
func (b *Broker) confirmRange(ctx context.Context, err error) error {
	if b.Confirm == nil {
		return err
	}
	if cause := b.Confirm(ctx); cause != nil {
		return fmt.Errorf("%w: cannot be sure where the log ends: %w", partition.ErrClosed, cause)
	}
	return err
}

// fetchAnswer is a pooled response: its slices are used again once the bytes are written.
type fetchAnswer struct {
	resp    wire.FetchResponse
	topics  []wire.FetchTopic
	parts   []wire.FetchPartition
	batches partition.Batches
}

var fetchAnswers = sync.Pool{New: func() any { return new(fetchAnswer) }}

func newFetchAnswer() *fetchAnswer {
	a := fetchAnswers.Get().(*fetchAnswer)
	if a.resp.Release == nil { // bound once: a method value is an allocation
		a.resp.Release = a.release
	}
	return a
}

// maxKeptParts bounds what a pooled response or a connection holds on to.
const maxKeptParts = 4096

func (a *fetchAnswer) release() {
	a.batches.Release()
	clear(a.topics)
	clear(a.parts)
	if cap(a.parts) > maxKeptParts {
		return
	}
	a.resp = wire.FetchResponse{Release: a.resp.Release}
	a.topics, a.parts = a.topics[:0], a.parts[:0]
	fetchAnswers.Put(a)
}

// fill moves the parts that are kept into the response; neighbours of the same topic share an entry.
func (a *fetchAnswer) fill(b *Broker, version int16, parts []fetchPart) {
	if cap(a.parts) < len(parts) { // so that it does not move while topics point into it
		a.parts = make([]wire.FetchPartition, 0, len(parts))
	}
	bytes := 0
	for i := range parts {
		p := &parts[i]
		if !p.keep {
			continue
		}
		for _, r := range p.answer.Records {
			bytes += len(r)
		}
		a.parts = append(a.parts, p.answer)
		n := len(a.parts)
		if k := len(a.topics); k > 0 && a.topics[k-1].Topic == p.ask.topic && a.topics[k-1].TopicID == p.ask.id {
			first := n - 1 - len(a.topics[k-1].Partitions)
			a.topics[k-1].Partitions = a.parts[first:n:n]
		} else {
			a.topics = append(a.topics, wire.FetchTopic{Topic: p.ask.topic, TopicID: p.ask.id, Partitions: a.parts[n-1 : n : n]})
		}
		if leader := p.answer.CurrentLeader; leader != nil && version >= 16 {
			a.resp.NodeEndpoints = addEndpoint(b.Meta.Image(), a.resp.NodeEndpoints, leader.LeaderID)
		}
	}
	a.resp.Topics = a.topics
	b.log.stats.fetches.Add(1)
	b.log.stats.fetchedBytes.Add(int64(bytes))
}

// addEndpoint adds a broker's address once (KIP-951).
func addEndpoint(im *metadata.Image, have []wire.NodeEndpoint, id int32) []wire.NodeEndpoint {
	for _, e := range have {
		if e.NodeID == id {
			return have
		}
	}
	br, ok := im.Broker(metadata.BrokerID(id))
	if !ok {
		return have
	}
	e := wire.NodeEndpoint{NodeID: id, Host: br.Host, Port: br.Port}
	if br.Rack != "" {
		e.Rack = &br.Rack
	}
	return append(have, e)
}
