package page

import (
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

// percentileChart has an axis on which each step is a tenth of what was left: 90 %, 99 %, 99.9 % …
func percentileChart(kind string) Chart {
	c := Chart{Title: "Latency by percentile", Unit: "ms, log scale", LogY: true, XLabel: "percentile"}
	if kind != "" {
		c.Title += ": " + kind
	}
	for e, text := range []string{"0", "90", "99", "99.9", "99.99", "99.999", "99.9999"} {
		c.XTicks = append(c.XTicks, Tick{float64(e), text + " %"})
	}
	return c
}

// merged is the histogram of all runs of a side; nil if there is none.
func merged(runs []*result.Result, kind string) *hdrhistogram.Histogram {
	var all *hdrhistogram.Histogram
	for _, r := range runs {
		h, err := r.Latency[kind].Histogram()
		switch {
		case err != nil:
		case all == nil:
			all = h
		default:
			all.Merge(h)
		}
	}
	return all
}

// curve draws a histogram up to the percentile that its count still supports.
func curve(h *hdrhistogram.Histogram, name string, colour int) (Line, bool) {
	l := Line{Name: name, Colour: colour}
	if h == nil || h.TotalCount() < 2 {
		return l, false
	}
	last := min(6, math.Log10(float64(h.TotalCount())))
	const steps = 120
	for i := range steps + 1 {
		x := last * float64(i) / steps
		y := float64(h.ValueAtQuantile(100*(1-math.Pow(10, -x)))) / 1e6
		l.Points = append(l.Points, Point{X: x, Y: max(y, 0.001)})
	}
	return l, true
}
