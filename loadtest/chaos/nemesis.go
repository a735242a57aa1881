package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/chaos/cluster"
	"github.com/tidemarkmq/tidemark/loadtest/chaos/history"
	"github.com/tidemarkmq/tidemark/loadtest/chaos/workload"
)

// nemesis does faults in an order that follows from the seed alone.
type nemesis struct {
	c       *cluster.Cluster
	rec     *workload.Recorder
	probe   *workload.Producer
	lease   time.Duration
	longest time.Duration // of a fault
	out     io.Writer

	began  time.Time
	events []event
}

// event is what was done, for the report.
type event struct {
	at, took time.Duration
	what     string
	kill     bool
	served   time.Duration // from the end of the fault until every partition took a record
	failed   string        // the fault could not be done or undone, or a process ended, or nothing serves
}

// patience is how long a healed cluster may take to serve every partition.
const patience = 2 * time.Minute

func (n *nemesis) logf(format string, args ...any) {
	fmt.Fprintf(n.out, "%6.1fs  "+format+"\n", append([]any{time.Since(n.began).Seconds()}, args...)...)
}

// run does faults until ctx is done; each begins on a healed cluster. Every fault is done once before any comes again.
func (n *nemesis) run(ctx context.Context, seed uint64, chosen []fault) {
	rng := rand.New(rand.NewPCG(seed, 2))
	var deck []fault
	draw := func() fault {
		if len(deck) == 0 {
			deck = append(deck, chosen...)
			rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		f := deck[0]
		deck = deck[1:]
		return f
	}
	for {
		wait(ctx, time.Duration(500+rng.IntN(3000))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		together := []fault{draw()}
		if len(chosen) > 1 && rng.IntN(4) == 0 {
			if second := draw(); compatible(together[0].name, second.name) {
				together = append(together, second)
			}
		}
		e := n.do(ctx, together, rng)
		n.events = append(n.events, e)
		if e.failed != "" {
			return
		}
	}
}

// compatible faults may be done at once: no two that start or stop the same processes or undo each other's weather.
func compatible(a, b string) bool {
	group := func(s string) string {
		switch s {
		case "kill", "wipe", "roll", "scale", "pause", "disk-slow":
			return "broker"
		}
		return strings.Split(s, "-")[0]
	}
	return group(a) != group(b)
}

func (n *nemesis) do(ctx context.Context, together []fault, rng *rand.Rand) event {
	e := event{at: time.Since(n.began)}
	var names []string
	for _, f := range together {
		names = append(names, f.name)
		e.kill = e.kill || f.kill
	}
	n.logf("%s …", strings.Join(names, " and "))
	n.rec.Add(history.Op{Kind: history.Fault, Name: "begin " + strings.Join(names, " and ")})
	details, errs := make([]string, len(together)), make([]error, len(together))
	var all sync.WaitGroup
	for i, f := range together {
		own := rand.New(rand.NewPCG(rng.Uint64(), 3))
		all.Go(func() { details[i], errs[i] = f.run(ctx, n, own) })
	}
	all.Wait()
	for i := range together {
		if e.what != "" {
			e.what += "; "
		}
		e.what += names[i] + ": " + details[i]
		if errs[i] != nil {
			e.failed += fmt.Sprintf("%s: %v; ", names[i], errs[i])
		}
	}
	e.took = time.Since(n.began) - e.at
	n.rec.Add(history.Op{Kind: history.Fault, Name: "end " + e.what})
	n.recover(&e)
	n.logf("%s; served again after %v %s", e.what, e.served.Round(time.Millisecond), e.failed)
	return e
}

// recover waits until every partition takes a record. A process that ended by itself is started again once, which is noted.
func (n *nemesis) recover(e *event) {
	began := time.Now()
	for {
		for _, b := range n.c.Brokers {
			if !b.Running() {
				n.logf("%s ended by itself:\n%s", b.Node.Name, b.Ended())
				e.what += "; " + b.Node.Name + " ended by itself and was started again"
				if err := n.restart(context.Background(), b); err != nil {
					e.failed += err.Error()
					return
				}
			}
		}
		err := n.probe.Probe(context.Background())
		e.served = time.Since(began)
		if err == nil {
			return
		}
		if e.served > patience {
			e.failed += fmt.Sprintf("not served %v after the fault: %v", patience, err)
			return
		}
	}
}
