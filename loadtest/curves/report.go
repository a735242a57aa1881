package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/page"
	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

// drawings is the folder of the drawings, beside the page.
const drawings = "curves"

// report is all that is written down.
type report struct {
	Facts   [][2]string   `json:"facts"`
	Command string        `json:"command"`
	Remark  string        `json:"remark,omitempty"`
	Quick   bool          `json:"quick,omitempty"`
	Took    time.Duration `json:"tookNanos"`
	Curves  []reportCurve `json:"curves"`
}

type reportCurve struct {
	ID     string        `json:"id"`
	Points []reportPoint `json:"points"`
}

// reportPoint has the runs in the order of repetitions.
type reportPoint struct {
	X    int       `json:"x"`
	Runs []outcome `json:"runs"`
}

// place makes room for a point.
func (r *report) place(pt point) *reportPoint {
	var c *reportCurve
	for i := range r.Curves {
		if r.Curves[i].ID == pt.curve.id {
			c = &r.Curves[i]
		}
	}
	if c == nil {
		r.Curves = append(r.Curves, reportCurve{ID: pt.curve.id})
		c = &r.Curves[len(r.Curves)-1]
	}
	for i := range c.Points {
		if c.Points[i].X == pt.x {
			return &c.Points[i]
		}
	}
	c.Points = append(c.Points, reportPoint{X: pt.x})
	return &c.Points[len(c.Points)-1]
}

func (r *report) add(pt point, o outcome) {
	p := r.place(pt)
	p.Runs = append(p.Runs, o)
}

func (r *report) find(id string, x int) *reportPoint {
	for i := range r.Curves {
		for j := range r.Curves[i].Points {
			if r.Curves[i].ID == id && r.Curves[i].Points[j].X == x {
				return &r.Curves[i].Points[j]
			}
		}
	}
	return nil
}

// spread of a figure over the runs that have it.
func (p *reportPoint) spread(figure string) (result.Spread, bool) {
	var v []float64
	for _, o := range p.Runs {
		if x, ok := o.Figures[figure]; ok && o.Failure == "" {
			v = append(v, x)
		}
	}
	if len(v) == 0 {
		return result.Spread{}, false
	}
	return result.SpreadOf(v), true
}

func spreadText(s result.Spread) string {
	if result.Number(s.Min) == result.Number(s.Max) {
		return result.Number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", result.Number(s.Median), result.Number(s.Min), result.Number(s.Max))
}

// line is an outcome in the log.
func (o *outcome) line(c *curve) string {
	if o.Failure != "" {
		return "FAILED: " + o.Failure
	}
	var parts []string
	for _, col := range c.columns {
		if v, ok := o.Figures[col.figure]; ok {
			parts = append(parts, col.head+" "+result.Number(v))
		}
	}
	return fmt.Sprintf("%s; CPU pressure %.0f %%, disturbed: %v", strings.Join(parts, ", "), 100*max(0, o.Pressure), o.Disturbed)
}

// state says what is to be known of a point's runs beside figures.
func (p *reportPoint) state() string {
	var failed, disturbed int
	pressure, why := -1.0, ""
	for _, o := range p.Runs {
		if o.Failure != "" {
			failed, why = failed+1, strings.ReplaceAll(strings.Join(strings.Fields(o.Failure), " "), "|", "\\|")
			continue
		}
		if o.Disturbed {
			disturbed++
		}
		pressure = max(pressure, o.Pressure)
	}
	text := "not run yet"
	if len(p.Runs) > 0 {
		text = fmt.Sprintf("%d", len(p.Runs))
	}
	if pressure >= 0 {
		text += fmt.Sprintf(", CPU pressure ≤ %.0f %%", 100*pressure)
	}
	if disturbed > 0 {
		text += fmt.Sprintf(", **%d disturbed**", disturbed)
	}
	if failed > 0 {
		if runes := []rune(why); len(runes) > 200 {
			why = string(runes[:200]) + "…"
		}
		text += fmt.Sprintf(", **%d failed**: %s", failed, why)
	}
	return text
}

// goal is that a GB costs at most so much more with so many partitions than with one, at equal batch sizes.
const (
	goalPartitions = 1000
	goalRatio      = 1.2
)

// goalText says whether the goal is met, for one way to count the CPU, from the ratios of runs of the same repetition.
func (r *report) goalText(figure, name string) string {
	one, many := r.find("equal", 1), r.find("equal", goalPartitions)
	var ratios []float64
	if one != nil && many != nil {
		for i := range min(len(one.Runs), len(many.Runs)) {
			a, b := one.Runs[i], many.Runs[i]
			if a.Failure == "" && b.Failure == "" && a.Figures[figure] > 0 {
				ratios = append(ratios, b.Figures[figure]/a.Figures[figure])
			}
		}
	}
	if len(ratios) == 0 {
		return fmt.Sprintf("- %s: **not measured**\n", name)
	}
	s, verdict := result.SpreadOf(ratios), "not met"
	if s.Median <= goalRatio {
		verdict = "met"
	}
	x, _ := one.spread(figure)
	y, _ := many.spread(figure)
	return fmt.Sprintf("- %s: **%s**, %s s/GB with 1 partition, %s s/GB with %s: %s times as much in the median of runs of the same repetition (%s to %s)\n", name, verdict,
		result.Number(x.Median), result.Number(y.Median), result.Number(goalPartitions), result.Number(s.Median), result.Number(s.Min), result.Number(s.Max))
}

// draw makes one drawing; empty without points.
func (r *report) draw(p *plot) string {
	c := page.Chart{Title: p.title, Unit: p.unit, LogY: p.logY}
	seen := map[int]bool{}
	for n, l := range p.lines {
		of := byID(l.curve)
		c.XLabel = of.axis + ", log scale"
		line := page.Line{Name: l.name, Colour: n + 1}
		for _, x := range of.at {
			pt := r.find(l.curve, x)
			if pt == nil {
				continue
			}
			s, ok := pt.spread(l.figure)
			if !ok || p.logY && s.Median <= 0 {
				continue
			}
			at := math.Log10(float64(x))
			line.Points = append(line.Points, page.Point{X: at, Y: s.Median, Low: s.Min, High: s.Max})
			if !seen[x] {
				seen[x] = true
				c.XTicks = append(c.XTicks, page.Tick{At: at, Text: result.Number(float64(x))})
			}
		}
		if len(line.Points) > 0 {
			c.Lines = append(c.Lines, line)
		}
	}
	for i := range c.XTicks {
		c.XTicks[i].Text = count10(c.XTicks[i].Text)
	}
	return c.Drawing()
}

// count10 takes the decimals from a count.
func count10(text string) string { return strings.TrimSuffix(strings.TrimSuffix(text, ".00"), ".0") }

// markdown is the report as a page.
func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString("# How costs grow\n\nWritten by `go run ./loadtest/curves`.")
	if r.Quick {
		b.WriteString(" **A quick run: one repetition of short runs at fewer points. Its figures mean little.**")
	}
	if r.Remark != "" {
		fmt.Fprintf(&b, " **%s**", r.Remark)
	}
	b.WriteString("\n\n| | |\n| --- | --- |\n")
	for _, f := range r.Facts {
		fmt.Fprintf(&b, "| %s | %s |\n", f[0], strings.ReplaceAll(f[1], "|", "\\|"))
	}
	fmt.Fprintf(&b, "| Again | `%s` (took %v) |\n", r.Command, r.Took.Round(time.Second))
	fmt.Fprintf(&b, "\n## Goal\n\nA GB costs at most %.0f %% more with %s partitions than with 1, at equal batch sizes. Server CPU, counted in two ways:\n\n", 100*(goalRatio-1), result.Number(goalPartitions))
	b.WriteString(r.goalText("cost", "until everything is in the store") + r.goalText("window", "while producing"))
	b.WriteString("\n## Notes\n\n")
	for _, n := range notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	drawn := map[string]bool{}
	for i := range r.Curves {
		r.Curves[i].write(&b, r, drawn)
	}
	return b.String()
}

// write writes a curve: what it is, the drawings it is the first to appear in, and its tables.
func (c *reportCurve) write(b *strings.Builder, r *report, drawn map[string]bool) {
	of := byID(c.ID)
	fmt.Fprintf(b, "\n## %s\n\n%s\n", of.title, of.about)
	for i := range plots {
		p := &plots[i]
		for _, l := range p.lines {
			if l.curve == c.ID && !drawn[p.file] && r.draw(p) != "" {
				drawn[p.file] = true
				fmt.Fprintf(b, "\n![%s](%s/%s.svg)\n", p.title, drawings, p.file)
			}
		}
	}
	var shown []column
	for _, col := range of.columns {
		for i := range c.Points {
			if _, ok := c.Points[i].spread(col.figure); ok {
				shown = append(shown, col)
				break
			}
		}
	}
	const most = 8 // columns of a table that a page shows without scrolling
	for from := 0; from == 0 || from < len(shown); from += most {
		part := shown[from:min(len(shown), from+most)]
		fmt.Fprintf(b, "\n| %s |", of.axis)
		for _, col := range part {
			fmt.Fprintf(b, " %s |", col.head)
		}
		last := from+most >= len(shown)
		if last {
			b.WriteString(" runs |")
		}
		b.WriteString("\n| ---: |" + strings.Repeat(" ---: |", len(part)))
		if last {
			b.WriteString(" --- |")
		}
		b.WriteString("\n")
		for i := range c.Points {
			c.Points[i].row(b, part, last)
		}
	}
}

func (p *reportPoint) row(b *strings.Builder, part []column, last bool) {
	fmt.Fprintf(b, "| %s |", count10(result.Number(float64(p.X))))
	for _, col := range part {
		if s, ok := p.spread(col.figure); ok {
			fmt.Fprintf(b, " %s |", spreadText(s))
		} else {
			b.WriteString(" – |")
		}
	}
	if last {
		fmt.Fprintf(b, " %s |", p.state())
	}
	b.WriteString("\n")
}

var notes = []string{
	"Median (least–most) of the runs; whiskers in the drawings are least and most. Each run has a fresh broker process on an empty folder that is removed afterwards. Repetitions go through all points forth and back, so that a drift of the machine favours none.",
	"Every run under load is verified: acknowledgements in order and without gap, end offsets that say the same, and the whole topic read back with checksums, order and count, after the figures were taken. A run that fails this has no figures.",
	"MB and GB are 10⁶ and 10⁹ bytes of values. Client and broker share the machine, so MB/s at full speed is what both reach together; s/GB is the broker's alone, with etcd inside.",
	"Requests to the object store are the broker's own counter, every attempt with every outcome. Etcd writes are transactions (also those that only read or whose condition failed) and leases granted or revoked; renewals of the broker's lease do not pass through etcd's log and are shown apart.",
	"The last seal of a run waits for `seal-age` (5 s) in which nothing else happens: the idle cost of that time is in s/GB into the store, the same at each point.",
	"Merging and retention run on longer times than these runs and are not in the figures per GB; the cost of one publication of manifests is shown apart, with some seconds of waiting for it.",
	"*disturbed*: other processes used over a tenth of the machine, or the hypervisor took over 1 %; such a run is repeated once. *CPU pressure*: share of the time in which some task, the broker's and the client's too, waited for a CPU.",
	"CPU of an idle broker is known to 10 ms, which is 0.05 % of a core over 20 s.",
}
