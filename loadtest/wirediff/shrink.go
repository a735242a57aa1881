package main

import (
	"fmt"
	"time"
)

const shrinkFor = 8 * time.Second // per difference

// shows runs steps under new names and tells whether the last one still has the finding's difference.
func (p *pair) shows(steps []step, f *finding) bool {
	p.begin()
	for i, st := range steps {
		kafka, tidemark := p.both(st)
		if i < len(steps)-1 {
			continue
		}
		for _, d := range differences(kafka, tidemark) {
			if d.path == f.path && d.kafka == f.kafka && d.tidemark == f.tidemark {
				return true
			}
		}
	}
	return false
}

// shrink leaves out steps before the last one as long as the difference stays, halves first, and prints what is left.
func (p *pair) shrink(steps []step, f *finding) {
	until := time.Now().Add(shrinkFor)
	last := steps[len(steps)-1]
	kept := steps[:len(steps)-1]
	if len(kept) > 0 && p.shows([]step{last}, f) {
		kept = nil
	}
	for size := (len(kept) + 1) / 2; size > 0 && time.Now().Before(until); size /= 2 {
		for from := 0; from < len(kept) && time.Now().Before(until); {
			without := append(append([]step{}, kept[:from]...), kept[min(from+size, len(kept)):]...)
			if p.shows(append(without, last), f) {
				kept = without
			} else {
				from += size
			}
		}
	}
	fmt.Printf("  shown by %d requests:", len(kept)+1)
	for _, st := range append(append([]step{}, kept...), last) {
		fmt.Printf(" %s", st.label)
	}
	fmt.Println()
}
