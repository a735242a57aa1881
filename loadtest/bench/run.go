// Package bench puts load on any broker that speaks the Kafka protocol and measures it from outside: at a set rate with latencies
// counted from when each record was due, or as fast as it goes. Each run is verified: acknowledgements, checksums, counts and order.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/access"
	"github.com/tidemarkmq/tidemark/loadtest/bench/latency"
	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/bench/pace"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
)

// ErrVerification says that a run finished and that records were lost, came twice or out of order.
var ErrVerification = errors.New("verification failed")

// Options of Run beside what the load is.
type Options struct {
	Access   access.Access
	Version  string         // of this program, for the result
	Progress func(Progress) // called each second and at changes of phase, from one goroutine; nil: nobody listens
}

// Progress is what a run tells meanwhile.
type Progress struct {
	Phase   string
	Elapsed time.Duration  // of the phase
	Second  *result.Second // nil: only the phase changed
}

// maxRecorders bounds the histograms of one kind of latency: producers beyond share.
const maxRecorders = 8

// run is one load test on its way.
type run struct {
	spec    spec.Spec
	opts    Options
	access  access.Access
	cluster *cluster
	clock   *pace.Clock
	topic   string
	nonce   uint32 // of this run, in the upper half of producers' numbers
	keys    []key
	before  []int64 // where each partition ended before this run's load
	level   string  // of verification
	notes   []string

	stopAt    atomic.Int64 // nothing due from here on is sent
	producers []producer
	filler    producer // what filled the topic beforehand, if anything
	readings  []*reading
	meters    struct{ produced, consumed []*meter }
	acks      *latency.Set
	ends      *latency.Set
	commits   *latency.Set

	failOnce sync.Once
	failure  atomic.Pointer[error]
	failed   chan struct{}
}

// Run does what s says and returns what it found. With ErrVerification there is a result as well.
func Run(ctx context.Context, s spec.Spec, o Options) (*result.Result, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	r := &run{spec: s, opts: o, access: o.Access, nonce: rand.Uint32() << 16, failed: make(chan struct{}), level: s.Verify}
	r.clock = pace.NewClock(pace.Sleep)
	r.stopAt.Store(math.MaxInt64)
	if r.opts.Progress == nil {
		r.opts.Progress = func(Progress) {}
	}
	var err error
	if r.cluster, err = connect(ctx, &r.spec, o.Access); err != nil {
		return nil, err
	}
	defer r.cluster.client.Close()
	if _, err := machine.Take(s.ServerPIDs); err != nil {
		return nil, err
	}
	// A goroutine that sleeps in the system keeps its share of the scheduler until that is taken back, which may be 10 ms later: have
	// shares to spare, or the client's own goroutines would wait and count as the broker's latency.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 2))
	if r.topic = s.Topic; r.topic == "" {
		r.topic = fmt.Sprintf("bench-%08x", rand.Uint32())
	}
	if err := r.cluster.prepare(ctx, &r.spec, r.topic); err != nil {
		return nil, err
	}
	res, err := r.measure(ctx)
	if !s.Existing && !s.KeepTopic {
		if gone := r.cluster.delete(context.WithoutCancel(ctx), r.topic); gone != nil && err == nil {
			r.notes = append(r.notes, fmt.Sprintf("topic %s was not deleted: %v", r.topic, gone))
		}
	}
	if res != nil {
		res.Notes = r.notes
	}
	return res, err
}

// fail ends the run with the first error.
func (r *run) fail(err error) {
	r.failOnce.Do(func() {
		r.failure.Store(&err)
		r.stopAt.Store(0)
		close(r.failed)
	})
}

func (r *run) failureOrNil() error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func (r *run) phase(name string) { r.opts.Progress(Progress{Phase: name}) }

// measure fills, loads, drains and verifies.
func (r *run) measure(ctx context.Context) (*result.Result, error) {
	r.keys = makeKeys(&r.spec)
	if r.cluster.null() {
		r.notes = append(r.notes, "the null broker keeps nothing: only acknowledgements are verified, and what it serves is made up")
		if r.level == spec.VerifyEnds || r.level == spec.VerifyFull {
			r.level = spec.VerifyAcks
		}
	}
	if err := r.fill(ctx); err != nil {
		return nil, fmt.Errorf("fill the topic: %w", err)
	}
	if err := r.makeWorkers(ctx); err != nil {
		return nil, err
	}
	defer func() {
		for _, p := range r.producers {
			p.close()
		}
	}()
	// Two ends: load may be outstanding when no more is sent, and consumers read on until they have it.
	hard, giveUp := context.WithCancel(ctx)
	defer giveUp()
	consuming, stopConsumers := context.WithCancel(hard)
	defer stopConsumers()
	c := &collector{r: r, hasServer: len(r.spec.ServerPIDs) > 0}
	if err := c.begin(); err != nil {
		return nil, err
	}
	var consumers, sending sync.WaitGroup
	r.startConsumers(consuming, &consumers)
	sending.Go(func() { r.drive(hard, r.producers) })
	err := c.follow(ctx)
	r.phase("drain")
	deadline := time.AfterFunc(r.spec.DrainMax, func() {
		r.fail(fmt.Errorf("what was outstanding did not come within %v (--drain-max)", r.spec.DrainMax))
		giveUp()
	})
	sent := make(chan struct{})
	go func() { sending.Wait(); close(sent) }()
	select {
	case <-sent:
	case <-r.failed:
		giveUp()
		<-sent
	}
	if err == nil {
		err = r.failureOrNil()
	}
	var ends []int64
	if err == nil {
		ends, err = r.proveAcks(ctx)
	}
	if err == nil && r.spec.Read == spec.ReadTail {
		r.awaitReadings(hard, ends)
		err = r.failureOrNil()
	}
	deadline.Stop()
	stopConsumers()
	consumers.Wait()
	if err = errors.Join(err, ctx.Err()); err != nil && !errors.Is(err, ErrVerification) {
		return nil, err
	}
	return r.conclude(ctx, c, ends, err)
}

// fill writes what is to be read, and notes where the topic ends then.
func (r *run) fill(ctx context.Context) error {
	var err error
	if r.before, err = r.cluster.offsets(ctx, r.topic, r.spec.Partitions, true); err != nil {
		return err
	}
	if r.cluster.null() {
		clear(r.before) // it tells the end of what it serves; what is produced counts from 0
		return nil
	}
	if r.spec.PrefillBytes == 0 {
		return nil
	}
	r.phase("fill")
	rec, m := latency.NewRecorder(), &meter{}
	p, err := r.newFiller(ctx, m, rec)
	if err != nil {
		return err
	}
	defer p.close()
	began := time.Now()
	for m.bytes.Load() < r.spec.PrefillBytes {
		if err := p.send(ctx, r.clock.Now()); err != nil {
			return err
		}
		if err := r.failureOrNil(); err != nil {
			return err
		}
	}
	if err := errors.Join(p.flush(ctx), r.failureOrNil()); err != nil {
		return err
	}
	r.filler = p
	r.notes = append(r.notes, fmt.Sprintf("filled with %s MB in %.1f s beforehand", result.Number(float64(m.bytes.Load())/1e6), time.Since(began).Seconds()))
	if r.spec.Settle > 0 {
		r.phase("settle")
		select {
		case <-time.After(r.spec.Settle):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// newFiller makes the cheapest producer that can write what the settings ask for.
func (r *run) newFiller(ctx context.Context, m *meter, rec *latency.Recorder) (producer, error) {
	const number = 0xffff // no other producer of the run has it
	size, err := spec.ParseSize(r.spec.RecordSize)
	if err != nil {
		return nil, err
	}
	if r.spec.Compression != "none" || r.spec.Txn() || r.spec.Keys > 0 || !size.Fixed() {
		return r.franz(r.nonce|number, m, rec)
	}
	return r.raw(ctx, r.nonce|number, m, rec)
}

// makeWorkers makes producers and readings; nothing runs yet.
func (r *run) makeWorkers(ctx context.Context) error {
	s := &r.spec
	r.acks, r.commits = latency.NewSet(min(maxRecorders, max(1, s.Producers))), latency.NewSet(1)
	for i := range s.Producers {
		m := &meter{}
		p, err := r.newProducer(ctx, r.nonce|uint32(i), m, r.acks.Recorder(i))
		if err != nil {
			return err
		}
		r.producers, r.meters.produced = append(r.producers, p), append(r.meters.produced, m)
	}
	r.ends = latency.NewSet(min(maxRecorders, max(1, s.Fanout*s.Consumers)))
	for i := range s.Fanout {
		g, err := r.newReading(ctx, i)
		if err != nil {
			return err
		}
		r.readings = append(r.readings, g)
		for range s.Consumers {
			r.meters.consumed = append(r.meters.consumed, &meter{})
		}
	}
	return nil
}

func (r *run) startConsumers(ctx context.Context, wg *sync.WaitGroup) {
	for i, g := range r.readings {
		for j := range r.spec.Consumers {
			n := i*r.spec.Consumers + j
			var rec *latency.Recorder
			if r.spec.Read == spec.ReadTail && !r.cluster.null() {
				rec = r.ends.Recorder(n)
			}
			consume := g.franz
			if r.spec.Client == spec.ClientRaw {
				consume = g.raw
			}
			wg.Go(func() {
				if err := consume(ctx, j, r.meters.consumed[n], rec); err != nil {
					r.fail(err)
				}
			})
		}
	}
}
