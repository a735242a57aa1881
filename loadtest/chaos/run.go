package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/chaos/cluster"
	"github.com/tidemarkmq/tidemark/loadtest/chaos/history"
	"github.com/tidemarkmq/tidemark/loadtest/chaos/workload"
	"github.com/tidemarkmq/tidemark/loadtest/process"
)

const finalPatience = time.Minute

// run is a whole run: start, load with faults, heal, read everything, check.
func (s *settings) run(ctx context.Context) (err error) {
	if err := s.tools(); err != nil {
		return err
	}
	own := s.dir == ""
	if own {
		if s.dir, err = os.MkdirTemp("", "tidemark-chaos-"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if s.tidemark == "" {
		if s.tidemark, err = process.BuildTidemark(ctx, s.dir); err != nil {
			return err
		}
	}
	c, err := cluster.Start(ctx, cluster.Options{
		Dir: s.dir, Tidemark: s.tidemark, Etcd: s.etcd, MinIO: s.minio, Brokers: s.brokers, Etcds: s.etcds, Spares: spares,
		Durability: s.durability, Lease: s.lease, DiskBytes: s.diskBytes, Seed: s.seed, Flags: s.flags,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	path := filepath.Join(s.dir, "history")
	rec, err := workload.NewRecorder(path)
	if err != nil {
		return err
	}
	out, err := s.drive(ctx, c, rec)
	if err := errors.Join(err, rec.Close()); err != nil {
		return fmt.Errorf("%w (logs and data are in %s)", err, s.dir)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := history.Check(f)
	if err != nil {
		return err
	}
	if s.report != "" {
		if err := os.WriteFile(s.report, []byte(s.markdown(out, r)), 0o644); err != nil {
			return err
		}
	}
	if err := conclude(r, out.hung); err != nil {
		return fmt.Errorf("%w: seed %d; logs and history are in %s", err, s.seed, s.dir)
	}
	if own {
		c.Close()
		return os.RemoveAll(s.dir)
	}
	return nil
}

// outcome is what the report says besides the history.
type outcome struct {
	events    []event
	skipped   []string
	hung      []string
	latencies []time.Duration
}

func (s *settings) drive(ctx context.Context, c *cluster.Cluster, rec *workload.Recorder) (*outcome, error) {
	o := &outcome{}
	chosen, skipped, err := s.choose(func(f *fault) string { return f.skip(c) })
	if err != nil {
		return nil, err
	}
	o.skipped = skipped
	load := &workload.Load{Recorder: rec, Bootstrap: c.Bootstrap(), Topic: "chaos", Partitions: s.partitions, Rate: s.rate}
	if err := load.Create(ctx, nil); err != nil {
		return nil, fmt.Errorf("create the topic: %w", err)
	}
	var producers []*workload.Producer
	for i, idempotent := range []bool{true, true, false} {
		p, err := load.NewProducer(history.Producer(i+1), fmt.Sprintf("producer %d (idempotent: %v)", i+1, idempotent), idempotent)
		if err != nil {
			return nil, err
		}
		producers = append(producers, p)
	}
	probe, err := load.NewProducer(9, "probe", false)
	if err != nil {
		return nil, err
	}
	if err := probe.Probe(ctx); err != nil {
		return nil, fmt.Errorf("before any fault: %w", err)
	}
	n := &nemesis{c: c, rec: rec, probe: probe, lease: s.lease, longest: s.longest, out: os.Stderr, began: time.Now()}
	breaking, stopBreaking := context.WithTimeout(ctx, s.duration)
	defer stopBreaking()
	working, stopWork := context.WithCancel(ctx)
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	defer stopWork()
	var work, readers sync.WaitGroup
	for _, p := range producers {
		work.Go(func() { p.Run(working, float64(s.rate)/float64(len(producers))) })
	}
	failures := make(chan error, 8)
	readers.Go(func() { failures <- load.Follow(reading, 1, "follower 1") })
	readers.Go(func() { failures <- load.Follow(reading, 2, "follower 2") })
	for i := range 3 {
		readers.Go(func() { failures <- load.Join(reading, history.Reader(10+i), fmt.Sprintf("member %d", i+1), "chaos") })
	}
	if len(chosen) > 0 {
		n.run(breaking, s.seed, chosen)
	}
	<-breaking.Done()
	s.heal(n, o)
	stopWork()
	work.Wait()
	flushing, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i, p := range append(producers, probe) {
		if pending := p.Flush(flushing); pending > 0 {
			o.hung = append(o.hung, fmt.Sprintf("producer %d: %d records have no outcome %v after the last fault", i+1, pending, patience))
		}
		p.Close()
		o.latencies = append(o.latencies, p.Latencies()...)
	}
	s.finalReads(ctx, c, load, n, o)
	stopReading()
	readers.Wait()
	close(failures)
	for f := range failures {
		err = errors.Join(err, f)
	}
	return o, err
}

// stepDown is how long a broker takes at most, beyond its lease, to see that others have taken over what it had, and to begin anew.
const stepDown = 5 * time.Second

// heal notes what happened, waits until brokers have stepped down that must, and starts them again.
func (s *settings) heal(n *nemesis, o *outcome) {
	n.logf("healed; waiting for brokers that must step down, and for producers")
	time.Sleep(s.lease + stepDown)
	last := event{what: "after the last fault"}
	n.recover(&last)
	o.events = n.events
	for _, e := range append(n.events, last) {
		if e.failed != "" {
			o.hung = append(o.hung, e.what+": "+e.failed)
		}
	}
}

// finalReads reads everything: as it is, and from brokers that were drained and lost their disks, so from the bucket alone.
func (s *settings) finalReads(ctx context.Context, c *cluster.Cluster, load *workload.Load, n *nemesis, o *outcome) {
	n.logf("reading everything")
	ends, err := load.FinalRead(ctx, 100, "final reader", nil, finalPatience)
	if err != nil {
		o.hung = append(o.hung, err.Error())
		return
	}
	n.logf("draining, emptying the disks, reading everything from the bucket")
	for _, b := range c.Brokers {
		if err := stopInOrder(b); err != nil {
			o.hung = append(o.hung, "drain: "+err.Error())
			return
		}
	}
	for _, b := range c.Brokers {
		if err := errors.Join(b.Wipe(), n.restart(ctx, b)); err != nil {
			o.hung = append(o.hung, "with an empty disk: "+err.Error())
			return
		}
	}
	if _, err := load.FinalRead(ctx, 101, "reader from the bucket", ends, finalPatience); err != nil {
		o.hung = append(o.hung, err.Error())
	}
}
