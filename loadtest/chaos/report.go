package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/chaos/history"
)

// markdown is the report of a run.
func (s *settings) markdown(o *outcome, r *history.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Chaos run, seed %d\n\n%d brokers, %d etcd servers, store: %s, class %s, %d partitions, %d records/s, faults for %v.\n\n", s.seed, s.brokers, s.etcds, s.store, s.durability, s.partitions, s.rate, s.duration)
	fmt.Fprintf(&b, "Command: `go run ./loadtest/chaos --seed %d --for %v --brokers %d --etcds %d --store %s --durability %s --faults %s --rate %d --longest %v`\n\n", s.seed, s.duration, s.brokers, s.etcds, s.store, s.durability, s.faults, s.rate, s.longest)
	fmt.Fprintf(&b, "| | |\n| --- | ---: |\n| records sent | %d |\n| acknowledged | %d |\n| unknown outcome | %d |\n| of those in the log | %d |\n| acknowledged, read and checked | %d |\n| records read by all readers | %d |\n| offsets committed | %d |\n| group positions checked | %d |\n| **anomalies** | **%d** |\n| hung | %d |\n\n",
		r.Sent, r.Acked, r.Unknown, r.Recovered, r.Checked, r.Read, r.Commits, r.Transitions, r.Anomalies(), len(o.hung))
	if l := o.latencies; len(l) > 0 {
		slices.Sort(l)
		fmt.Fprintf(&b, "Acknowledgement, faults included: p50 %v, p99 %v, max %v.\n\n", l[len(l)/2], l[len(l)*99/100], l[len(l)-1])
	}
	var kills []time.Duration
	for _, e := range o.events {
		if e.kill {
			kills = append(kills, e.took+e.served)
		}
	}
	if len(kills) > 0 {
		slices.Sort(kills)
		fmt.Fprintf(&b, "From kill -9 until every partition took a record: median %v, worst %v of %d (the time until the restart is in it).\n\n", kills[len(kills)/2].Round(time.Millisecond), kills[len(kills)-1].Round(time.Millisecond), len(kills))
	}
	b.WriteString("| at | fault | took | every partition served after |\n| ---: | --- | ---: | ---: |\n")
	for _, e := range o.events {
		fmt.Fprintf(&b, "| %.1f s | %s%s | %v | %v |\n", e.at.Seconds(), e.what, e.failed, e.took.Round(time.Millisecond), e.served.Round(time.Millisecond))
	}
	for _, k := range o.skipped {
		fmt.Fprintf(&b, "\nNot done: %s.\n", k)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n- %s: %s\n", f.Anomaly, f.Detail)
	}
	for _, h := range o.hung {
		fmt.Fprintf(&b, "\n- hung: %s\n", strings.ReplaceAll(h, "\n", " "))
	}
	return b.String()
}
