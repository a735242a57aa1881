package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// important is the order in which rows run: what the goals are about first, what takes longest last.
var important = []string{
	"1-p12", "4-20k", "4-10k", "2-c1", "14-p1", "14-p1000", "11-start", "9", "10-64", "1-p1", "1-p200", "4-100k", "1-raw", "2-raw", "3", "5", "7",
	"12", "11-kill", "10-10k", "6-lz4", "9-paced", "4-1k", "1-p12x8", "2-c4", "6-zstd", "1-p1x8", "1-p200x8", "8", "13",
}

// inOrder are the rows in that order.
func inOrder() []*row {
	var all []*row
	for _, id := range important {
		if i := slices.IndexFunc(rows, func(r row) bool { return r.id == id }); i >= 0 {
			all = append(all, &rows[i])
		}
	}
	return all
}

// work is one row that is to run, on the peers that have a cell in it.
type work struct {
	row   *row
	peers []int // of table.peers
}

// pending is what remains to be measured.
func (t *table) pending() []work {
	var all []work
	for _, r := range inOrder() {
		if !matches(t.o.only, r.id) {
			continue
		}
		w := work{row: r}
		for i := range t.peers {
			p := &t.peers[i]
			if !matches(t.o.peers, p.id) && !p.reference || r.skip(p, t.b, t.o.every) != "" {
				continue
			}
			for n := range t.repetitions(r) {
				if !t.archive.done(r.id, p.id, n+1) {
					w.peers = append(w.peers, i)
					break
				}
			}
		}
		if len(w.peers) > 0 {
			all = append(all, w)
		}
	}
	return all
}

func (t *table) repetitions(r *row) int {
	if r.kind == soak {
		return 1
	}
	return t.o.repetitions
}

// estimate of a row, from its cells' last run with these settings, or from what its parts take.
func (t *table) estimate(w work) time.Duration {
	var sum time.Duration
	for _, i := range w.peers {
		p := &t.peers[i]
		one := t.archive.took(w.row.id, p.id, t.o.settings(p.jvm))
		if one == 0 {
			one = t.o.guess(w.row, p)
		}
		for n := range t.repetitions(w.row) {
			if !t.archive.done(w.row.id, p.id, n+1) {
				sum += one
			}
		}
	}
	return sum
}

// guess adds up a cell's parts: start and stop, warm-up, measurement, reading back.
func (o *options) guess(r *row, p *peer) time.Duration {
	d, warm := 2*time.Second, o.warmup(p.jvm)
	if p.jvm {
		d += 6 * time.Second
	}
	switch r.kind {
	case throughput:
		if !p.jvm {
			warm = 4 * o.window // three windows that agree, and now and then one more
		}
		d += warm*11/10 + o.each*7/4
	case steady:
		d += max(warm, 3*o.window) + o.each + 2*time.Second
	case cold:
		d += time.Duration(float64(o.coldBytes)/200e6) * time.Second
	case startUp:
		d += 4 * time.Second
	case crash:
		d += 15 * time.Second
	case soak:
		d += warm + o.soak
	}
	if r.id == "10-10k" {
		d += 20 * time.Second // to create so many
		if p.jvm {
			d += 3 * time.Minute // and to catch up
		}
	}
	return d
}

// plan tells what would run and how long it would take.
func (t *table) plan(all []work) string {
	var b strings.Builder
	var sum time.Duration
	for _, w := range all {
		d := t.estimate(w)
		sum += d
		var names []string
		for _, i := range w.peers {
			names = append(names, t.peers[i].id)
		}
		fit := ""
		if t.o.limit > 0 && sum > t.o.limit {
			fit, sum = "  (would not fit)", sum-d
		}
		fmt.Fprintf(&b, "%-10s %7s  %7s  %s%s\n", w.row.id, d.Round(time.Second), sum.Round(time.Second), strings.Join(names, " "), fit)
	}
	return b.String()
}
