package raw

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/loadtest/bench/access"
	"github.com/tidemarkmq/tidemark/loadtest/bench/stamp"
)

// ProducerOptions describe a Producer.
type ProducerOptions struct {
	Access      access.Access
	Topic       string
	Leaders     []string // address of each partition's leader
	Producer    uint32   // for the stamps
	RecordBytes int
	BatchBytes  int
	InFlight    int
	Acks        int16
	Idempotent  bool
	Fill        func(value []byte)
	// Acked is called for each acknowledged batch, in order for each leader, from one goroutine per leader; offset −1 with acks=0.
	Acked func(partition int32, offset, due int64, n int)
}

// Producer sends batches of one size. One goroutine may call Send.
type Producer struct {
	o        ProducerOptions
	links    map[string]*link
	sequence []uint64
	id       int64
	epoch    int16
	perBatch int
	mu       sync.Mutex
	err      error
	failed   chan struct{}
	readers  sync.WaitGroup
}

// link is the connection to one leader.
type link struct {
	c       *conn
	free    chan *slot
	pending chan *slot
}

// slot is a request that is free or on its way.
type slot struct {
	t         *template
	partition int32
	due       int64
}

// NewProducer connects to all leaders, builds the batches and starts a reader for each connection. Close ends it.
func NewProducer(ctx context.Context, o ProducerOptions) (*Producer, error) {
	p := &Producer{o: o, links: map[string]*link{}, sequence: make([]uint64, len(o.Leaders)), id: -1, epoch: -1, failed: make(chan struct{})}
	p.perBatch = recordsPerBatch(o.BatchBytes, o.RecordBytes)
	for _, leader := range o.Leaders {
		if p.links[leader] != nil {
			continue
		}
		c, err := dial(ctx, o.Access, leader)
		if err != nil {
			p.Close()
			return nil, err
		}
		l := &link{c, make(chan *slot, o.InFlight), make(chan *slot, o.InFlight)}
		for range o.InFlight {
			l.free <- &slot{t: newTemplate(o.Topic, o.Acks, p.perBatch, o.RecordBytes, o.Fill)}
		}
		p.links[leader] = l
		if o.Idempotent && p.id < 0 {
			if err := p.awaitID(ctx, c); err != nil {
				p.Close()
				return nil, fmt.Errorf("get a producer id: %w", err)
			}
		}
	}
	for _, l := range p.links {
		p.readers.Go(func() { p.read(l) })
	}
	return p, nil
}

// idPatience is how long a broker that has just started may take to be able to give producer ids.
const idPatience = 30 * time.Second

// awaitID asks until the coordinator has loaded: Kafka says that it has not for some seconds after its start.
func (p *Producer) awaitID(ctx context.Context, c *conn) error {
	for began := time.Now(); ; {
		err := p.initID(c)
		if !kerr.IsRetriable(err) || time.Since(began) > idPatience {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *Producer) initID(c *conn) error {
	req, resp := kmsg.NewPtrInitProducerIDRequest(), kmsg.NewPtrInitProducerIDResponse()
	req.Version, resp.Version = 2, 2
	req.ProducerID, req.ProducerEpoch = -1, -1
	if err := c.ask(req, resp); err != nil {
		return err
	}
	p.id, p.epoch = resp.ProducerID, resp.ProducerEpoch
	return kerr.ErrorForCode(resp.ErrorCode)
}

// PerBatch is how many records a batch has.
func (p *Producer) PerBatch() int { return p.perBatch }

// Send sends a batch whose records were due at a time. It waits while as many requests are outstanding as may be.
func (p *Producer) Send(ctx context.Context, partition int32, due int64) error {
	l := p.links[p.o.Leaders[partition]]
	var s *slot
	select {
	case s = <-l.free:
	case <-p.failed:
		return p.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.partition, s.due = partition, due
	p.patch(s)
	if p.o.Acks != 0 {
		l.pending <- s // first: its answer may come before Write returns; never full, because free is empty then
	}
	if _, err := l.c.nc.Write(s.t.frame); err != nil {
		p.fail(err)
		return p.failure()
	}
	if p.o.Acks == 0 {
		p.o.Acked(partition, -1, due, p.perBatch)
		l.free <- s
	}
	return nil
}

// patch writes into a request what is new about it.
func (p *Producer) patch(s *slot) {
	be.PutUint32(s.t.frame[s.t.partitionAt:], uint32(s.partition))
	b := s.t.frame[s.t.batchAt : len(s.t.frame)-3]
	now := uint64(time.Now().UnixMilli())
	be.PutUint64(b[firstTimeAt:], now)
	be.PutUint64(b[maxTimeAt:], now)
	first := p.sequence[s.partition]
	if p.o.Idempotent {
		be.PutUint64(b[producerIDAt:], uint64(p.id))
		be.PutUint16(b[producerEpochAt:], uint16(p.epoch))
		be.PutUint32(b[sequenceAt:], uint32(first&(1<<31-1)))
	}
	for i, at := range s.t.values {
		stamp.Put(b[at:], stamp.Stamp{Producer: p.o.Producer, Sequence: first + uint64(i), Due: s.due})
	}
	p.sequence[s.partition] += uint64(p.perBatch)
	be.PutUint32(b[crcAt:], crc32.Checksum(b[attributesAt:], castagnoli))
}

func (p *Producer) read(l *link) {
	var buf []byte
	for s := range l.pending {
		frame, err := l.c.frame(buf)
		if err == nil {
			buf = frame
			err = p.answer(s, frame)
		}
		if err != nil {
			p.fail(err)
			return
		}
		l.free <- s
	}
}

var errAnswer = errors.New("malformed Produce answer")

func (p *Producer) answer(s *slot, frame []byte) error {
	b := frame[correlationLen:]
	if len(b) < 3 {
		return errAnswer
	}
	b = b[2:]                    // header tags, one topic
	name, n := binary.Uvarint(b) // length + 1
	at := n + int(name) - 1 + 1  // one partition
	if n <= 0 || name == 0 || name > 1<<15 || len(b) < at+14 {
		return errAnswer
	}
	b = b[at:]
	if err := kerr.ErrorForCode(int16(be.Uint16(b[4:]))); err != nil {
		return fmt.Errorf("produce to partition %d: %w", s.partition, err)
	}
	if got := int32(be.Uint32(b)); got != s.partition {
		return fmt.Errorf("partition %d answered for %d: answers out of order", got, s.partition)
	}
	p.o.Acked(s.partition, int64(be.Uint64(b[6:])), s.due, p.perBatch)
	return nil
}

func (p *Producer) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && !closedByUs(err) {
		p.err = err
		close(p.failed)
	}
}

func (p *Producer) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Flush waits until all is acknowledged. Send must not be called meanwhile.
func (p *Producer) Flush(ctx context.Context) error {
	for _, l := range p.links {
		slots := make([]*slot, 0, p.o.InFlight)
		for range p.o.InFlight {
			select {
			case s := <-l.free:
				slots = append(slots, s)
			case <-p.failed:
				return p.failure()
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for _, s := range slots {
			l.free <- s
		}
	}
	return p.failure()
}

// Close closes the connections and waits for the readers.
func (p *Producer) Close() {
	for _, l := range p.links {
		_ = l.c.nc.Close() // nothing more is expected from it
		close(l.pending)
	}
	p.readers.Wait()
}
