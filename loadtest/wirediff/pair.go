package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// pair are the brokers that are compared.
type pair struct {
	kafka, tidemark *side
	runs            int
}

// finding is a kind of difference: the first time that a field differed in a request of a kind.
type finding struct {
	at    int // its step
	count int
	label string
	difference
	request, kafkaAnswer, tidemarkAnswer string
}

func (f *finding) kind() string { return f.label + " " + f.path }

// begin starts a run with names of its own.
func (p *pair) begin() {
	p.runs++
	// Both have the same length in all runs, so that requests are as long as before.
	run := fmt.Sprintf("r%d-%05d-", os.Getpid()%100000, p.runs)
	p.kafka.begin(run)
	p.tidemark.begin(run)
}

// both plays a step on both sides at once.
func (p *pair) both(st step) (kafka, tidemark []answer) {
	done := make(chan []answer)
	go func() { done <- p.kafka.play(st) }()
	tidemark = p.tidemark.play(st)
	return <-done, tidemark
}

// sequence runs that of a seed and prints what differed. It returns the number of kinds of differences that are not accepted.
func (p *pair) sequence(ctx context.Context, o options, seed uint64, until time.Time) (int, error) {
	steps := draw(seed, o.steps, common(p.kafka, p.tidemark), o.only)
	began := time.Now()
	findings, allowed := map[string]*finding{}, 0
	var order []*finding
	p.begin()
	played := 0
	for i, st := range steps {
		if time.Now().After(until) || ctx.Err() != nil {
			break
		}
		kafka, tidemark := p.both(st)
		played++
		if o.verbose {
			for j, a := range kafka {
				fmt.Printf("%4d %-28s v%-2d %s\n     %s\n     %s\n", i, st.label, a.request.GetVersion(), show(a.request), answered(a), answered(tidemark[j]))
			}
		}
		for _, d := range differences(kafka, tidemark) {
			if reasonFor(d) != nil {
				allowed++
				continue
			}
			f := &finding{at: i, label: st.label, difference: d}
			for j, a := range kafka {
				f.request += fmt.Sprintf("v%d %s ", a.request.GetVersion(), show(a.request))
				f.kafkaAnswer, f.tidemarkAnswer = f.kafkaAnswer+answered(a), f.tidemarkAnswer+answered(tidemark[j])
			}
			if have := findings[f.kind()]; have != nil {
				have.count++
				continue
			}
			f.count = 1
			findings[f.kind()] = f
			order = append(order, f)
		}
	}
	fmt.Printf("seed %d: %d of %d steps in %v, %d accepted differences, %d kinds of others\n", seed, played, len(steps),
		time.Since(began).Round(time.Second), allowed, len(order))
	last := -1
	for _, f := range order {
		if f.at != last {
			fmt.Printf("\nstep %d, %s\n  request   %s\n  Kafka     %s\n  Tidemark  %s\n", f.at, f.label, f.request, f.kafkaAnswer, f.tidemarkAnswer)
		}
		last = f.at
		fmt.Printf("  (%d times) %s\n", f.count, f.difference)
		if o.shrink && ctx.Err() == nil && time.Now().Before(until) {
			p.shrink(steps[:f.at+1], f)
		}
	}
	return len(order), ctx.Err()
}

// answered is what a broker said.
func answered(a answer) string {
	if a.response == nil {
		return a.problem
	}
	return show(a.response)
}

const shownBytes = 700

// show prints a message as JSON, not longer than one can read.
func show(message any) string {
	text, err := json.Marshal(message)
	if err != nil {
		return err.Error()
	}
	if len(text) > shownBytes {
		text = append(text[:shownBytes:shownBytes], "…"...)
	}
	return string(text)
}
