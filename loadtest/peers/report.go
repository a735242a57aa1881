package main

import (
	"fmt"
	"strings"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

// report is all that is written down.
type report struct {
	Heading string
	Facts   [][2]string // machine, versions, settings
	Rows    []reportRow
	Notes   []string
	Goals   []goalLine
	Missing []string // rows of which there is nothing
}

// reportRow is one workload on all peers.
type reportRow struct {
	ID    string
	Title string
	Full  bool // at full speed, where latency is the producer's queue and its ratio says nothing
	Cells []reportCell
	// Remark is what notes.md says about it.
	Remark string
}

// reportCell is one peer's runs, in the order of repetitions.
type reportCell struct {
	Peer    string
	Name    string
	Class   string
	Skipped string
	Samples []sample
}

// columns are the figures that the report shows; results have more.
var columns = []struct{ name, unit, head string }{
	{"produced", "MB/s", "in MB/s"}, {"consumed", "MB/s", "out MB/s"}, {"first ack", "ms", "first ack ms"},
	{"ack p50", "ms", "ack p50 ms"}, {"ack p99", "ms", "ack p99"}, {"ack p99.9", "ms", "ack p99.9"},
	{"end-to-end p50", "ms", "e2e p50 ms"}, {"end-to-end p99", "ms", "e2e p99"}, {"end-to-end p99.9", "ms", "e2e p99.9"},
	{"commit p50", "ms", "commit p50 ms"}, {"commit p99", "ms", "commit p99"},
	{"server CPU", "s/GB", "server s/GB"}, {"client CPU", "s/GB", "client s/GB"}, {"server peak RSS", "MB", "RSS MB"},
	{"store CPU", "s/GB", "store s/GB"}, {"store peak RSS", "MB", "store RSS MB"}, {"disk", "GB", "disk GB"},
	{"RSS slope", "MB/min", "RSS MB/min"}, {"p99.9 first quarter", "ms", "p99.9 first"}, {"p99.9 last quarter", "ms", "p99.9 last"},
}

// compared are the pairs whose ratios the report shows: the first over the second.
var compared = []struct{ a, b, label string }{
	{"tidemark", "null", "of the ceiling"},
	{"tidemark", "kafka-flush", "durable : durable"},
	{"tidemark", "kafka", "durable : page cache"},
	{"tidemark", prototypePeer, "of the prototype"},
	{"tidemark-minio", "kafka-flush", "durable : durable"},
	{"tidemark-minio", "kafka", "durable : page cache"},
}

// ratioed are the figures of which ratios are shown.
var ratioed = []struct{ name, unit, text string }{
	{"produced", "MB/s", "MB/s in"}, {"consumed", "MB/s", "MB/s out"}, {perCPU, "MB/CPU-s", "bytes per server-CPU-second"},
	{"ack p99.9", "ms", "ack p99.9"}, {"end-to-end p99", "ms", "e2e p99"}, {"first ack", "ms", "first ack"}, {"server peak RSS", "MB", "RSS"},
}

func (s *sample) figure(name, unit string) (float64, bool) {
	for _, m := range s.Metrics {
		if m.Name == name && m.Unit == unit {
			return m.Value, true
		}
	}
	return 0, false
}

// values of a figure in the runs that have it.
func (c *reportCell) values(name, unit string) (v []float64, ok bool) {
	for i := range c.Samples {
		if x, ok := c.Samples[i].figure(name, unit); ok && c.Samples[i].Failure == "" {
			v = append(v, x)
		}
	}
	return v, len(v) > 0
}

// spread of a figure over the runs that have it.
func (c *reportCell) spread(name, unit string) (text string, ok bool) {
	v, ok := c.values(name, unit)
	if !ok {
		return "–", false
	}
	return spreadText(result.SpreadOf(v)), true
}

func spreadText(s result.Spread) string {
	if s.Min == s.Max {
		return result.Number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", result.Number(s.Median), result.Number(s.Min), result.Number(s.Max))
}

// state says what is to be known of a cell's runs beside figures.
func (c *reportCell) state(showRuns bool) string {
	var failed, disturbed, unsteady, quick int
	why, notServed, runs := "", "", ""
	for i := range c.Samples {
		s := &c.Samples[i]
		if s.run != "" && !strings.Contains(runs, s.run) {
			runs += s.run
		}
		if s.NotServed != "" {
			notServed = s.NotServed
			continue
		}
		if s.Failure != "" {
			failed, why = failed+1, s.Failure
			continue
		}
		if s.quick {
			quick++
		}
		if s.Disturbed {
			disturbed++
		}
		if s.Unsteady {
			unsteady++
		}
	}
	var parts []string
	if failed > 0 {
		parts = append(parts, fmt.Sprintf("**failed** (%d of %d): %s", failed, len(c.Samples), oneLine(why)))
	}
	if disturbed > 0 {
		parts = append(parts, fmt.Sprintf("disturbed %d of %d", disturbed, len(c.Samples)))
	}
	if unsteady > 0 {
		parts = append(parts, fmt.Sprintf("warm-up not settled %d of %d", unsteady, len(c.Samples)))
	}
	if notServed != "" {
		parts = append(parts, notServed)
	}
	if quick > 0 {
		parts = append(parts, fmt.Sprintf("quick %d of %d", quick, len(c.Samples)))
	}
	if runs != "" && showRuns {
		parts = append(parts, "run "+runs)
	}
	return strings.Join(parts, "; ")
}

// oneLine makes an error fit a cell.
func oneLine(text string) string {
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "\\|")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "…"
	}
	return text
}

// markdown is the report as a page.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results\n\n%s\n\n| | |\n| --- | --- |\n", r.Heading)
	for _, f := range r.Facts {
		fmt.Fprintf(&b, "| %s | %s |\n", f[0], strings.ReplaceAll(f[1], "|", "\\|"))
	}
	if len(r.Goals) > 0 {
		writeGoals(&b, r.Goals)
	}
	if len(r.Missing) > 0 {
		fmt.Fprintf(&b, "\nRows not measured yet: %s.\n", strings.Join(r.Missing, ", "))
	}
	b.WriteString("\n## Notes\n\n")
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	b.WriteString("\n## Workloads\n\nMedian (least–most). Ratios are of runs of the same repetition.\n")
	for i := range r.Rows {
		r.Rows[i].write(&b, r.severalRuns())
	}
	return b.String()
}

func (r *reportRow) write(b *strings.Builder, showRuns bool) {
	fmt.Fprintf(b, "\n### %s: %s\n\n| | class |", r.ID, r.Title)
	var shown []int
	for i, col := range columns {
		for j := range r.Cells {
			if _, ok := r.Cells[j].spread(col.name, col.unit); ok {
				shown = append(shown, i)
				fmt.Fprintf(b, " %s |", col.head)
				break
			}
		}
	}
	b.WriteString(" |\n| --- | --- |" + strings.Repeat(" ---: |", len(shown)) + " --- |\n")
	for i := range r.Cells {
		c := &r.Cells[i]
		fmt.Fprintf(b, "| %s | %s |", c.Name, c.Class)
		for _, n := range shown {
			text, _ := c.spread(columns[n].name, columns[n].unit)
			fmt.Fprintf(b, " %s |", text)
		}
		state := c.state(showRuns)
		switch c.Skipped {
		case "":
		case notYet:
			state = notYet
		default:
			state = "not run: " + c.Skipped
		}
		fmt.Fprintf(b, " %s |\n", state)
	}
	if r.Remark != "" {
		fmt.Fprintf(b, "\n%s\n", r.Remark)
	}
	r.ratios(b)
}

func (r *reportRow) ratios(b *strings.Builder) {
	var lines []string
	for _, pair := range compared {
		x, y := r.cell(pair.a), r.cell(pair.b)
		if x == nil || y == nil {
			continue
		}
		var parts []string
		for _, f := range ratioed {
			if r.Full && f.unit == "ms" {
				continue
			}
			if v, across := ratioOf(x, y, f.name, f.unit); v.Median == v.Median { // a number
				text := fmt.Sprintf("%s %s", f.text, spreadText(v))
				if across {
					text += " (of different runs)"
				}
				parts = append(parts, text)
			}
		}
		if len(parts) > 0 {
			lines = append(lines, fmt.Sprintf("- %s ⁄ %s (%s): %s\n", x.Name, y.Name, pair.label, strings.Join(parts, " · ")))
		}
	}
	if len(lines) > 0 {
		b.WriteString("\n" + strings.Join(lines, ""))
	}
}

func (r *reportRow) cell(peer string) *reportCell {
	for i := range r.Cells {
		if r.Cells[i].Peer == peer {
			return &r.Cells[i]
		}
	}
	return nil
}

// ratioOf is x ⁄ y: of the runs of the same repetition, or, where there are none, of the medians, across runs. Its median is no number
// where one of them has no figure.
func ratioOf(x, y *reportCell, name, unit string) (s result.Spread, across bool) {
	if v := paired(x, y, name, unit); len(v) > 0 {
		return result.SpreadOf(v), false
	}
	a, okA := x.values(name, unit)
	b, okB := y.values(name, unit)
	if divisor := result.SpreadOf(b).Median; okA && okB && divisor > 0 {
		return result.SpreadOf([]float64{result.SpreadOf(a).Median / divisor}), true
	}
	return result.SpreadOf(nil), false
}

// paired are the ratios x ⁄ y of the runs of the same repetition, kept in the same folder, that both succeeded.
func paired(x, y *reportCell, name, unit string) []float64 {
	var v []float64
	for i := range x.Samples {
		for j := range y.Samples {
			s, t := &x.Samples[i], &y.Samples[j]
			if s.place != t.place || s.Failure != "" || t.Failure != "" {
				continue
			}
			p, okP := s.figure(name, unit)
			if q, okQ := t.figure(name, unit); okP && okQ && q > 0 {
				v = append(v, p/q)
			}
		}
	}
	return v
}
