//go:build unix

// Failover measures how long the partitions of a cluster go without an acknowledgement when one of its brokers is killed or leaves, as their producer
// sees it: from the last acknowledgement before to the first after, for every partition.
//
//	go run ./loadtest/failover                                        # kill -9, durability object, a lease of 2 s
//	go run ./loadtest/failover --fault leave --durability local       # an orderly stop
//
// Each round is a new `tidemark dev --brokers 3` of real processes; the broker with the highest id is the one that goes. The producer is franz-go with
// short backoffs and metadata as old as 20 ms, so that what is measured is the cluster. --idle-partitions adds partitions that nobody
// writes to, which have to change hands too.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/process"
)

type options struct {
	binary, durability, fault string
	brokers, partitions, idle int
	rounds                    int
	lease, every              time.Duration
	before, after             time.Duration
}

func main() {
	log.SetFlags(log.Ltime)
	var o options
	flag.StringVar(&o.binary, "tidemark", "", "tidemark binary; empty: build it")
	flag.StringVar(&o.durability, "durability", "object", "durability class: local, quorum or object")
	flag.StringVar(&o.fault, "fault", "kill", "kill (SIGKILL, and it does not come back) or leave (SIGTERM)")
	flag.IntVar(&o.brokers, "brokers", 3, "brokers")
	flag.IntVar(&o.partitions, "partitions", 24, "partitions that are written to")
	flag.IntVar(&o.idle, "idle-partitions", 0, "further partitions")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds")
	flag.DurationVar(&o.lease, "lease", 2*time.Second, "how long a broker counts as live without a sign of life")
	flag.DurationVar(&o.every, "every", 20*time.Millisecond, "pause between an acknowledgement and the next record of the partition")
	flag.DurationVar(&o.before, "before", 5*time.Second, "time under load before the fault")
	flag.DurationVar(&o.after, "after", 12*time.Second, "and after")
	flag.Parse()
	if o.fault != "kill" && o.fault != "leave" || o.brokers < 2 || o.partitions < 1 || o.rounds < 1 {
		log.Fatal("--fault is kill or leave, --brokers at least 2, --partitions and --rounds at least 1")
	}
	if err := run(context.Background(), o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "tidemark-failover-")
	if err != nil {
		return err
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			log.Print(err)
		}
	}()
	if o.binary == "" {
		if o.binary, err = process.BuildTidemark(ctx, dir); err != nil {
			return err
		}
	}
	fmt.Printf("%s of one of %d brokers, durability %s, lease %v, %d partitions under load, %d idle\n", o.fault, o.brokers, o.durability, o.lease, o.partitions, o.idle)
	fmt.Println("round  without an ack: median     p90     p99   worst   acks before: p50     p99   created in   RSS of a broker")
	var worst []time.Duration
	for i := range o.rounds {
		data := filepath.Join(dir, fmt.Sprint(i))
		r, err := round(ctx, o, data)
		if err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		fmt.Printf("%5d  %22v %7v %7v %7v %18v %7v %12v %14d MB\n", i+1, ms(r.gaps, 0.5), ms(r.gaps, 0.9), ms(r.gaps, 0.99), ms(r.gaps, 1),
			ms(r.acks, 0.5), ms(r.acks, 0.99), r.created.Round(time.Millisecond), r.rssBytes/1e6)
		worst = append(worst, r.gaps[len(r.gaps)-1])
		if err := os.RemoveAll(data); err != nil {
			return err
		}
	}
	slices.Sort(worst)
	fmt.Printf("until every partition was served again, over %d rounds: median %v, worst %v\n", o.rounds, ms(worst, 0.5), ms(worst, 1))
	return nil
}

// ms is a quantile of sorted durations, rounded to be read.
func ms(sorted []time.Duration, q float64) time.Duration {
	d := sorted[int(q*float64(len(sorted)-1))]
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// result is what one round showed. Durations are sorted.
type result struct {
	gaps     []time.Duration // the longest of each partition, from the fault on
	acks     []time.Duration // latencies before the fault
	created  time.Duration   // time to create all partitions
	rssBytes int64           // of the largest broker that is left
}

func round(ctx context.Context, o options, dir string) (r *result, err error) {
	c, err := startCluster(ctx, o.binary, dir, o.brokers, "--durability", o.durability, "--lease", o.lease.String())
	if err != nil {
		return nil, err
	}
	defer func() {
		if stopped := c.stop(); err == nil {
			err = stopped
		}
	}()
	l, err := newLoad(ctx, c.seeds, o)
	if err != nil {
		return nil, err
	}
	defer l.client.Close()
	s := syscall.SIGKILL
	if o.fault == "leave" {
		s = syscall.SIGTERM
	}
	r, err = l.run(ctx, func() error { return c.signal(o.brokers-1, s) })
	if err != nil {
		return nil, err
	}
	for _, pid := range c.pids[:o.brokers-1] {
		u, err := process.UsageOf(pid)
		if err != nil {
			return nil, err
		}
		r.rssBytes = max(r.rssBytes, u.RSSBytes)
	}
	return r, nil
}
