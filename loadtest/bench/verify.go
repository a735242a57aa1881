package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/latency"
	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/bench/raw"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
	"github.com/tidemarkmq/tidemark/loadtest/bench/spec"
	"github.com/tidemarkmq/tidemark/loadtest/bench/stamp"
)

// newReading says where a reading starts and what it has to find.
func (r *run) newReading(ctx context.Context, index int) (*reading, error) {
	s := &r.spec
	g := &reading{run: r, index: index}
	var err error
	if g.ends, err = r.cluster.offsets(ctx, r.topic, s.Partitions, true); err != nil {
		return nil, err
	}
	if g.from = g.ends; s.Read != spec.ReadTail || s.Group {
		if g.from, err = r.cluster.offsets(ctx, r.topic, s.Partitions, false); err != nil {
			return nil, err
		}
	}
	if r.cluster.null() && s.Read == spec.ReadTail {
		g.from, err = r.cluster.offsets(ctx, r.topic, s.Partitions, false)
	}
	rules := r.rules()
	rules.Rereads = s.Group
	g.ledger = stamp.NewLedger(s.Partitions, rules, g.from)
	return g, err
}

func (r *run) rules() stamp.Rules {
	return stamp.Rules{Gaps: r.spec.Txn() || r.spec.Existing, MidWay: r.spec.Existing, Unmarked: r.spec.Existing || r.cluster.null()}
}

// all are the producers whose records must be there.
func (r *run) all() []producer {
	if r.filler == nil {
		return r.producers
	}
	return append([]producer{r.filler}, r.producers...)
}

// proveAcks checks what was acknowledged, then that the broker's end offsets say the same. It returns where each partition ends.
func (r *run) proveAcks(ctx context.Context) ([]int64, error) {
	if len(r.all()) == 0 || r.level == spec.VerifyNone && r.cluster.null() {
		return r.before, nil
	}
	s := &r.spec
	ends, err := r.cluster.offsets(ctx, r.topic, s.Partitions, true)
	if err != nil || s.Acks == "0" || r.level == spec.VerifyNone {
		return ends, err
	}
	proofs := make([]*stamp.Acks, 0, len(r.all()))
	for _, p := range r.all() {
		proofs = append(proofs, p.proof())
	}
	loose := s.Txn() || s.Existing || !s.Idempotent // markers, other writers, repetitions take offsets too
	acked, err := stamp.CheckAcks(proofs, r.before, loose)
	if err != nil {
		return ends, fmt.Errorf("%w: %w", ErrVerification, err)
	}
	if r.level == spec.VerifyAcks {
		return acked, nil
	}
	for i := range acked {
		if acked[i] > ends[i] || acked[i] < ends[i] && !loose {
			return ends, fmt.Errorf("%w: partition %d ends at %d, acknowledged were records up to %d", ErrVerification, i, ends[i], acked[i])
		}
	}
	return ends, nil
}

// awaitReadings waits until all readings have come to the ends.
func (r *run) awaitReadings(ctx context.Context, ends []int64) {
	if r.cluster.null() {
		return
	}
	target := append([]int64(nil), ends...)
	for _, g := range r.readings {
		for !g.arrived(target) {
			select {
			case <-time.After(nearly):
			case <-r.failed:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// conclude reads back what nobody has read yet, checks the ledgers, and writes the result.
func (r *run) conclude(ctx context.Context, c *collector, ends []int64, failed error) (*result.Result, error) {
	v := result.Verified{Level: r.level}
	checked := "acknowledgements in order and without gaps"
	if r.spec.Producers == 0 && r.filler == nil {
		checked = "offsets and checksums of what was read"
	}
	err := failed
	full := r.level == spec.VerifyFull
	if err == nil && full && len(r.producers) > 0 && (len(r.readings) == 0 || r.spec.Read != spec.ReadTail) {
		r.phase("read back")
		g, backErr := r.readBack(ctx, ends)
		if backErr != nil {
			return nil, fmt.Errorf("read back: %w", backErr)
		}
		r.settle(g)
		v.Read = g.ledger.Tally()
		checked = fmt.Sprintf("%d records read back, each checked", v.Read.Records)
		err = v.Read.Bad(r.spec.Idempotent)
	}
	for _, g := range r.readings {
		if full && (r.spec.Read == spec.ReadTail || r.spec.Read == spec.ReadOnce && len(r.producers) == 0) {
			r.settle(g)
		}
		t := g.ledger.Tally()
		v.Read = v.Read.Add(t)
		if r.level != spec.VerifyNone {
			err = errors.Join(err, t.Bad(r.spec.Idempotent))
		}
		checked = fmt.Sprintf("%d records read, each checked", v.Read.Records)
	}
	if v.Read.Repeated > 0 && err == nil {
		r.notes = append(r.notes, fmt.Sprintf("%d records came twice, as they may without idempotence", v.Read.Repeated))
	}
	if r.level == spec.VerifyNone {
		checked = "nothing was checked"
	}
	v.OK, v.Text = err == nil, checked
	if err != nil {
		v.Text = strings.ReplaceAll(err.Error(), "\n", "; ")
		if !errors.Is(err, ErrVerification) {
			err = fmt.Errorf("%w: %w", ErrVerification, err)
		}
	}
	return r.write(c, v), err
}

// settle counts what was acknowledged and never came as lost.
func (r *run) settle(g *reading) {
	for _, p := range r.all() {
		if p == r.filler && r.spec.Read == spec.ReadTail && g.index >= 0 {
			continue // it wrote before this reading began
		}
		for i := range r.spec.Partitions {
			g.ledger.Close(int32(i), p.stamped(), p.sent(int32(i)))
		}
	}
}

const (
	readBackTogether = 500 // partitions of one fetch
	readBackMaxIdle  = 2 * time.Minute
)

// readBack reads everything that was written, with the raw client.
func (r *run) readBack(ctx context.Context, ends []int64) (*reading, error) {
	g := &reading{run: r, index: -1, from: r.before, ends: ends, ledger: stamp.NewLedger(r.spec.Partitions, r.rules(), r.before)}
	h := &rawHandler{g: g, meter: &meter{}, until: true}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopWatch := make(chan struct{})
	var watch sync.WaitGroup
	defer watch.Wait()
	defer close(stopWatch)
	watch.Go(func() { // what does not come ends the run, rather than having it wait for ever
		idle := time.NewTicker(readBackMaxIdle)
		defer idle.Stop()
		for last := int64(-1); ; {
			select {
			case <-idle.C:
				n := h.meter.records.Load()
				if n == last {
					cancel(fmt.Errorf("nothing came for %v", readBackMaxIdle))
				}
				last = n
			case <-stopWatch:
				return
			}
		}
	})
	from := map[int32]int64{}
	for i := range ends {
		if ends[i] > r.before[i] {
			from[int32(i)] = r.before[i]
		}
		if len(from) == readBackTogether || i == len(ends)-1 && len(from) > 0 {
			if err := raw.Consume(ctx, r.consumerOptions(), from, h); err != nil {
				return nil, err
			}
			from = map[int32]int64{}
		}
	}
	return g, context.Cause(ctx)
}

func (r *run) write(c *collector, v result.Verified) *result.Result {
	c.collect() // what was due in the window and came after it
	wall := time.Duration(c.to.at - c.from.at)
	res := &result.Result{
		Format: result.Format, Spec: r.spec, Started: time.Now().Add(-time.Duration(r.clock.Now() - c.from.at)).UTC().Truncate(time.Second),
		Cluster: result.Cluster{ID: r.cluster.id, Brokers: r.cluster.brokers}, Machine: machine.Describe(), Warmup: c.warmup, Seconds: wall.Seconds(),
		Client:   result.Client{Version: r.opts.Version, Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU()},
		Produced: minus(c.to.produced, c.from.produced), Consumed: minus(c.to.consumed, c.from.consumed), Latency: map[string]result.Latency{},
		Usage:  machine.Between(c.from.machine, c.to.machine, wall, runtime.NumCPU(), c.hasServer),
		Series: c.series, Verified: v, HasServer: c.hasServer,
	}
	for kind, set := range map[string]*latency.Set{result.Ack: r.acks, result.EndToEnd: r.ends, result.Commit: r.commits} {
		if h := set.Total(); h.TotalCount() > 0 {
			res.Latency[kind] = result.Summary(h)
		}
	}
	start := time.Duration(c.from.at).Seconds()
	for i := range res.Series {
		res.Series[i].At -= start
	}
	kind := result.Ack
	if len(r.readings) > 0 && r.spec.Read == spec.ReadTail {
		kind = result.EndToEnd
	}
	res.FindTrend(kind)
	return res
}
