package broker

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/wal"
)

const (
	utilizationEvery = 2 * time.Second
	// utilizationWindow is the time constant of its smoothing: an autoscaler should see minutes, not moments.
	utilizationWindow = 30 * time.Second
)

// utilized are the resources of a broker that may run out, in the order of the metric's attribute.
var utilized = [...]string{"cpu", "log", "network", "requests"}

// utilization is how far this broker is used, for who adds and removes brokers: of each resource, and of the one that is used most.
type utilization struct {
	requests               func() server.Usage
	log                    func() wal.Stats
	cpuTime                func() (used time.Duration, known bool)
	logBytes, networkBytes int64 // what there is; of the network per second, 0: not known

	shares [len(utilized)]atomic.Uint64 // bits of float64

	// Of the last look.
	at         time.Time
	cpu        time.Duration
	movedBytes int64
}

// register makes the instruments.
func (u *utilization) register(m metric.Meter) error {
	most, err := m.Float64ObservableGauge("tidemark.broker.utilization", metric.WithUnit("1"),
		metric.WithDescription("How far the broker is used, 0 to 1, smoothed over half a minute: the greatest of its resources'. For autoscalers."))
	if err != nil {
		return err
	}
	each, err := m.Float64ObservableGauge("tidemark.broker.utilization.resources", metric.WithUnit("1"),
		metric.WithDescription("How far each resource of the broker is used, by resource: cpu (of the processors that the process may use), log (wal.max-bytes), network (network-bytes-per-second, if stated), requests (memory of requests in flight)."))
	if err != nil {
		return err
	}
	_, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		all := u.now()
		o.ObserveFloat64(most, slices.Max(all[:]))
		for i, name := range utilized {
			o.ObserveFloat64(each, all[i], metric.WithAttributes(attribute.String("resource", name)))
		}
		return nil
	}, most, each)
	return err
}

func (u *utilization) now() (all [len(utilized)]float64) {
	for i := range all {
		all[i] = math.Float64frombits(u.shares[i].Load())
	}
	return all
}

// run looks until ctx is done.
func (u *utilization) run(ctx context.Context) error {
	tick := time.NewTicker(utilizationEvery)
	defer tick.Stop()
	u.look(time.Now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			u.look(now)
		}
	}
}

// look takes in what was used since the last look.
func (u *utilization) look(now time.Time) {
	took := now.Sub(u.at)
	first := u.at.IsZero()
	cpu, known := u.cpuTime()
	usage, log := u.requests(), u.log()
	var all [len(utilized)]float64
	if known && took > 0 {
		all[0] = (cpu - u.cpu).Seconds() / took.Seconds() / float64(runtime.GOMAXPROCS(0))
	}
	all[1] = float64(log.UntrimmedBytes+log.SurchargeBytes) / float64(max(1, u.logBytes))
	if u.networkBytes > 0 && took > 0 {
		all[2] = float64(usage.MovedBytes-u.movedBytes) / took.Seconds() / float64(u.networkBytes)
	}
	all[3] = usage.Requests
	u.at, u.cpu, u.movedBytes = now, cpu, usage.MovedBytes
	if first {
		return // what was used since the start of the process says nothing
	}
	weight := 1 - math.Exp(-took.Seconds()/utilizationWindow.Seconds())
	for i, share := range all {
		old := math.Float64frombits(u.shares[i].Load())
		u.shares[i].Store(math.Float64bits(old + (min(max(share, 0), 1)-old)*weight))
	}
}
