// Package page writes results as one HTML file with plots, which needs no script and nothing from elsewhere.
package page

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"sort"
	"strings"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

//go:embed page.html
var text string

var layout = template.Must(template.New("page").Parse(text))

// view is what the layout shows.
type view struct {
	Style                 template.CSS
	Title, Headline, When string
	Bad                   string // in a few words, if something is wrong
	Tiles                 []tile
	Charts                []template.HTML
	Head                  []string
	Rows                  [][]string
	Facts                 [][2]string
	Notes                 []string
}

type tile struct{ Name, Value, Unit string }

// Write writes the report of one run.
func Write(w io.Writer, r *result.Result) error {
	v := view{
		Style: template.CSS(style), Title: r.Name(), Headline: r.Headline(), When: r.Started.Format("2006-01-02 15:04 UTC"), Notes: r.Notes, Charts: charts(r),
		Head: []string{"", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean", "count"}, Facts: facts(r),
	}
	if !r.Verified.OK {
		v.Bad = "Verification failed: " + r.Verified.Text
	} else if r.Usage.Disturbed {
		v.Bad = "Other load disturbed this run"
	}
	for _, kind := range result.Kinds {
		if l := r.Latency[kind]; l.Count > 0 {
			v.Rows = append(v.Rows, []string{kind + ", ms", ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.P9999), ms(l.Max), result.Number(l.Mean / 1e6), result.Number(float64(l.Count))})
		}
	}
	shown := map[string]bool{"produced MB/s": true, "produced records/s": true, "consumed MB/s": true, "ack p99 ms": true, "ack p99.9 ms": true, "end-to-end p99 ms": true, "server CPU s/GB": true, "server peak RSS MB": true}
	for _, m := range r.Metrics() {
		if shown[m.Name+" "+m.Unit] {
			v.Tiles = append(v.Tiles, tile{m.Name, result.Number(m.Value), m.Unit})
		}
	}
	return layout.Execute(w, v)
}

// WriteComparison writes the report of two sides.
func WriteComparison(w io.Writer, c *result.Comparison) error {
	a, b := c.Names()
	v := view{
		Style: template.CSS(style), Title: b + " against " + a, Headline: c.A[0].Headline(), When: fmt.Sprintf("%d runs of each · median (min to max) · ratios are %s ⁄ %s of neighbouring runs", len(c.A), b, a),
		Head: []string{"", a, b, "ratio"}, Notes: c.Notes, Facts: facts(c.A[0]),
	}
	for _, r := range c.Rows {
		ratio := "–"
		if r.Ratio != nil {
			ratio = spread(*r.Ratio)
		}
		v.Rows = append(v.Rows, []string{r.Name + ", " + r.Unit, spread(r.A), spread(r.B), ratio})
	}
	names := [2]string{a, b}
	for _, kind := range result.Kinds {
		ch := percentileChart(kind)
		for i, side := range [][]*result.Result{c.A, c.B} {
			if l, ok := curve(merged(side, kind), names[i], i+1); ok {
				ch.Lines = append(ch.Lines, l)
			}
		}
		v.Charts = append(v.Charts, ch.svg())
	}
	for _, f := range []struct {
		title, unit string
		of          func(result.Second) float64
	}{{"Produced", "MB/s", func(s result.Second) float64 { return per(s.Produced.Bytes, s) }}, {"Consumed", "MB/s", func(s result.Second) float64 { return per(s.Consumed.Bytes, s) }}} {
		ch := Chart{Title: f.title, Unit: f.unit, XLabel: "seconds of the last run"}
		for i, side := range [][]*result.Result{c.A, c.B} {
			ch.Lines = append(ch.Lines, overTime(side[len(side)-1].Series, names[i], i+1, false, f.of))
		}
		if ch.some() {
			v.Charts = append(v.Charts, ch.svg())
		}
	}
	return layout.Execute(w, v)
}

// some tells whether any value is not 0.
func (c Chart) some() bool {
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if p.Y > 0 {
				return true
			}
		}
	}
	return false
}

func per(bytes int64, s result.Second) float64 {
	if s.Seconds == 0 {
		return math.NaN()
	}
	return float64(bytes) / 1e6 / s.Seconds
}

func overTime(series []result.Second, name string, colour int, greatest bool, of func(result.Second) float64) Line {
	l := Line{Name: name, Colour: colour}
	for _, s := range series {
		if s.Seconds >= 0.2 || len(series) == 1 { // a rest of a second says little
			l.Points = append(l.Points, Point{X: s.At, Y: of(s)})
		}
	}
	l.Points = thin(l.Points, greatest)
	return l
}

func charts(r *result.Result) []template.HTML {
	var out []template.HTML
	add := func(c Chart) {
		var lines []Line
		for _, l := range c.Lines {
			if (Chart{Lines: []Line{l}}).some() {
				lines = append(lines, l)
			}
		}
		if c.Lines = lines; len(lines) > 0 {
			if c.XLabel == "" {
				c.XLabel = "seconds"
			}
			out = append(out, c.svg())
		}
	}
	add(Chart{Title: "Throughput", Unit: "MB/s", Lines: []Line{
		overTime(r.Series, "produced", 1, false, func(s result.Second) float64 { return per(s.Produced.Bytes, s) }),
		overTime(r.Series, "consumed", 2, false, func(s result.Second) float64 { return per(s.Consumed.Bytes, s) })}})
	for _, kind := range result.Kinds {
		c := Chart{Title: "Latency over time: " + kind, Unit: "ms, log scale", LogY: true}
		for i, p := range []struct {
			name string
			of   func(result.Three) int64
		}{{"p50", func(t result.Three) int64 { return t.P50 }}, {"p99", func(t result.Three) int64 { return t.P99 }}, {"p99.9", func(t result.Three) int64 { return t.P999 }}, {"max", func(t result.Three) int64 { return t.Max }}} {
			c.Lines = append(c.Lines, overTime(r.Series, p.name, i+1, true, func(s result.Second) float64 {
				if t, ok := s.Latency[kind]; ok {
					return float64(p.of(t)) / 1e6
				}
				return math.NaN()
			}))
		}
		add(c)
	}
	percentiles := percentileChart("")
	for i, kind := range result.Kinds {
		if l, ok := curve(merged([]*result.Result{r}, kind), kind, i+1); ok {
			percentiles.Lines = append(percentiles.Lines, l)
		}
	}
	add(percentiles)
	add(Chart{Title: "CPU", Unit: "CPUs", Lines: []Line{
		overTime(r.Series, "server", 1, false, func(s result.Second) float64 { return s.ServerCPUs }),
		overTime(r.Series, "client", 2, false, func(s result.Second) float64 { return s.ClientCPUs })}})
	add(Chart{Title: "Memory", Unit: "RSS, MB", Lines: []Line{
		overTime(r.Series, "server", 1, true, func(s result.Second) float64 { return float64(s.ServerRSS) / 1e6 }),
		overTime(r.Series, "client", 2, true, func(s result.Second) float64 { return float64(s.ClientRSS) / 1e6 })}})
	return out
}

func facts(r *result.Result) [][2]string {
	f := [][2]string{
		{"Measured", fmt.Sprintf("%.1f s after a warm-up of %.1f s", r.Seconds, r.Warmup.Seconds)},
		{"Verified", r.Verified.Level + ": " + r.Verified.Text},
		{"Cluster", fmt.Sprintf("%s, %d brokers", r.Cluster.ID, r.Cluster.Brokers)},
		{"Machine", strings.Trim(fmt.Sprintf("%s · %d CPUs · %s MB · %s %s", r.Machine.CPUModel, r.Client.CPUs, result.Number(float64(r.Machine.Memory)/1e6), r.Client.OS, r.Machine.Kernel), " ·")},
		{"Client", r.Client.Version},
	}
	if u := r.Usage; u.Known {
		f = append(f, [2]string{"Disturbance", fmt.Sprintf("CPU pressure %.0f %%, steal %.1f %%, other processes used %s CPUs, the kernel by itself %s", 100*max(0, u.Pressure), 100*u.Steal, result.Number(u.Foreign), result.Number(u.Kernel))})
	} else {
		f = append(f, [2]string{"CPU and memory", "not available on this system"})
	}
	if t := r.Trend; t != nil {
		f = append(f, [2]string{"Trend", fmt.Sprintf("server RSS %+.2f MB/min; p99.9 %s ms in the first quarter, %s ms in the last", t.ServerRSSPerMinute/1e6, ms(t.P999First), ms(t.P999Last))})
	}
	configs := make([]string, 0, len(r.Spec.TopicConfigs))
	for k, v := range r.Spec.TopicConfigs {
		configs = append(configs, k+"="+v)
	}
	if sort.Strings(configs); len(configs) > 0 {
		f = append(f, [2]string{"Topic configs", strings.Join(configs, ", ")})
	}
	return f
}

func ms(nanos int64) string { return result.Number(float64(nanos) / 1e6) }

func spread(s result.Spread) string {
	if s.Min == s.Max {
		return result.Number(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", result.Number(s.Median), result.Number(s.Min), result.Number(s.Max))
}
