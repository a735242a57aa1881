package main

import (
	"fmt"
	"slices"
	"strings"
)

// describeRuns takes the facts of the runs that the cells come from. What all of them say alike stands once.
func (r *report) describeRuns(a *archive, remark string) {
	if remark != "" {
		r.Heading += " **" + remark + "**"
	}
	several := len(a.runs) > 1
	for i := range a.runs {
		run := &a.runs[i]
		name, text := "Run", run.Started.Format("2006-01-02 15:04")+" UTC, commit "+run.Commit
		if several {
			name += " " + run.letter
		}
		if run.Remark != "" && run.Remark != remark {
			text += "; " + run.Remark
		}
		r.Facts = append(r.Facts, [2]string{name, fmt.Sprintf("%s; %d cells", text, a.count(run.ID))})
	}
	for i := range a.runs {
		for _, f := range a.runs[i].Facts {
			if slices.Contains(r.Facts, f) {
				continue
			}
			var who []string
			for j := range a.runs {
				if slices.Contains(a.runs[j].Facts, f) {
					who = append(who, a.runs[j].letter)
				}
			}
			fact := f
			if len(who) < len(a.runs) {
				fact[0] += ", run " + strings.Join(who, " ")
				if slices.Contains(r.Facts, fact) {
					continue
				}
			}
			r.Facts = append(r.Facts, fact)
		}
	}
}

func (a *archive) count(run string) int {
	n := 0
	for i := range a.cells {
		if a.cells[i].Run == run {
			n++
		}
	}
	return n
}

// severalRuns tells whether cells must say which run they are of.
func (r *report) severalRuns() bool {
	n := 0
	for _, f := range r.Facts {
		if strings.HasPrefix(f[0], "Run ") {
			n++
		}
	}
	return n > 1
}
