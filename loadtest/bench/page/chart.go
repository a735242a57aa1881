package page

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"

	"github.com/tidemarkmq/tidemark/loadtest/bench/result"
)

// Point of a line; Y not a number: a gap. Low and High, where they differ, are drawn as a whisker.
type Point struct{ X, Y, Low, High float64 }

// whisker tells whether there is a spread to be drawn.
func (p Point) whisker() bool { return p.High > p.Low }

// Line of a chart. Colours go by place, so that the same thing has the same colour in all charts.
type Line struct {
	Name   string
	Colour int // 1 to 4
	Points []Point
}

// Chart is drawn as SVG with text in the page's own colours.
type Chart struct {
	Title, Unit string
	Lines       []Line
	LogY        bool
	XTicks      []Tick // nil: plain numbers
	XLabel      string
	From        float64 // what lies before is the warm-up; shaded
}

// Tick is a place on the horizontal axis that has a text.
type Tick struct {
	At   float64
	Text string
}

// The drawing's size and margins, in its own units.
const (
	width, height            = 640.0, 260.0
	left, right, top, bottom = 58.0, 12.0, 10.0, 34.0
	mostPoints               = 400
	mostDots                 = 12 // points of a line that are marked: of more, the line is enough
)

// svg draws the chart; empty if it has no points.
func (c Chart) svg() template.HTML {
	if _, _, _, _, ok := c.bounds(); !ok {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<figure><figcaption>%s <span>%s</span></figcaption>`, html.EscapeString(c.Title), html.EscapeString(c.Unit))
	if len(c.Lines) > 1 {
		b.WriteString(`<p class="legend">`)
		for _, l := range c.Lines {
			fmt.Fprintf(&b, `<span><i class="b%d"></i>%s</span>`, l.Colour, html.EscapeString(l.Name))
		}
		b.WriteString(`</p>`)
	}
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, width, height, html.EscapeString(c.Title))
	c.plot(&b)
	b.WriteString(`</svg></figure>`)
	return template.HTML(b.String()) //nolint:gosec // built from numbers and escaped names
}

// plot draws axes and lines; the chart must have bounds.
func (c Chart) plot(b *strings.Builder) {
	x0, x1, y0, y1, _ := c.bounds()
	px := func(x float64) float64 { return left + (x-x0)/(x1-x0)*(width-left-right) }
	py := func(y float64) float64 {
		if c.LogY {
			y = math.Log10(max(y, math.Pow(10, y0)))
		}
		return height - bottom - (y-y0)/(y1-y0)*(height-top-bottom)
	}
	if c.From > x0 {
		fmt.Fprintf(b, `<rect class="warm" x="%.1f" y="%g" width="%.1f" height="%g"/><text class="hint" x="%.1f" y="%g">warm-up</text>`,
			left, top, px(min(c.From, x1))-left, height-top-bottom, left+6, top+14)
	}
	c.axes(b, px, py, x0, x1, y0, y1)
	for _, l := range c.Lines {
		l.draw(b, px, py)
	}
}

func (c Chart) bounds() (x0, x1, y0, y1 float64, ok bool) {
	x0, x1, y0, y1 = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if math.IsNaN(p.Y) || c.LogY && p.Y <= 0 {
				continue
			}
			ok = true
			x0, x1, y0, y1 = min(x0, p.X), max(x1, p.X), min(y0, p.Y), max(y1, p.Y)
			if p.whisker() {
				y1 = max(y1, p.High)
			}
		}
	}
	if !ok {
		return
	}
	if x1 == x0 {
		x0, x1 = x0-1, x1+1
	}
	if c.LogY {
		y0, y1 = math.Floor(math.Log10(y0)+1e-9), math.Ceil(math.Log10(y1)-1e-9)
		if y0 == y1 {
			y1++
		}
		return
	}
	step := niceStep(y1 / 4)
	return x0, x1, 0, max(step, math.Ceil(y1/step)*step), ok
}

// niceStep is 1, 2 or 5 times a power of ten, at least v.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if v <= f*p*(1+1e-9) {
			return f * p
		}
	}
	return 10 * p
}

func (c Chart) axes(b *strings.Builder, px, py func(float64) float64, x0, x1, y0, y1 float64) {
	horizontal := func(y float64) {
		fmt.Fprintf(b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="y" x="%g" y="%.1f">%s</text>`,
			left, width-right, py(y), py(y), left-8, py(y)+4, axisNumber(y))
	}
	if c.LogY {
		for e := y0; e <= y1; e++ {
			horizontal(math.Pow(10, e))
		}
	} else {
		for y, step := y0, niceStep((y1-y0)/4.5); y <= y1*(1+1e-9); y += step {
			horizontal(y)
		}
	}
	ticks := c.XTicks
	if ticks == nil {
		step := niceStep((x1 - x0) / 7)
		for x := math.Ceil(x0/step) * step; x <= x1; x += step {
			ticks = append(ticks, Tick{x, axisNumber(x)})
		}
	}
	for _, t := range ticks {
		if t.At >= x0 && t.At <= x1 {
			fmt.Fprintf(b, `<line class="tick" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/><text class="x" x="%.1f" y="%g">%s</text>`,
				px(t.At), px(t.At), height-bottom, height-bottom+4, px(t.At), height-bottom+16, html.EscapeString(t.Text))
		}
	}
	fmt.Fprintf(b, `<line class="base" x1="%g" x2="%g" y1="%g" y2="%g"/><text class="label" x="%g" y="%g">%s</text>`,
		left, width-right, height-bottom, height-bottom, width-right, height-3, html.EscapeString(c.XLabel))
}

func axisNumber(v float64) string {
	if v == 0 {
		return "0" // also where the sign of zero is negative
	}
	if v == math.Trunc(v) && math.Abs(v) < 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	switch a := math.Abs(v); {
	case a >= 1e6:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v/1e6), ".0") + "M"
	case a >= 1e4:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v/1e3), ".0") + "k"
	case a >= 1000:
		return result.Number(v)
	}
	return fmt.Sprintf("%.3g", v)
}

func (l Line) draw(b *strings.Builder, px, py func(float64) float64) {
	var path strings.Builder
	pen := "M"
	for _, p := range l.Points {
		if math.IsNaN(p.Y) {
			pen = "M"
			continue
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", pen, px(p.X), py(p.Y))
		pen = "L"
	}
	fmt.Fprintf(b, `<path class="l%d" d="%s"/>`, l.Colour, path.String())
	for _, p := range l.Points {
		if p.whisker() && !math.IsNaN(p.Y) {
			fmt.Fprintf(b, `<path class="l%d w" d="M%.1f %.1fV%.1f"/>`, l.Colour, px(p.X), py(p.Low), py(p.High))
		}
	}
	if len(l.Points) > 150 {
		return
	}
	for _, p := range l.Points {
		if len(l.Points) <= mostDots && !math.IsNaN(p.Y) {
			fmt.Fprintf(b, `<circle class="d%d" cx="%.1f" cy="%.1f" r="3"/>`, l.Colour, px(p.X), py(p.Y))
		}
	}
	for _, p := range l.Points { // what a browser shows when the pointer rests there, without a script
		if !math.IsNaN(p.Y) {
			fmt.Fprintf(b, `<circle class="hit" cx="%.1f" cy="%.1f" r="6"><title>%s: %s</title></circle>`, px(p.X), py(p.Y), html.EscapeString(l.Name), result.Number(p.Y))
		}
	}
}

// thin keeps a chart of a long run small: of neighbours, the mean or the greatest stays.
func thin(points []Point, greatest bool) []Point {
	n := (len(points) + mostPoints - 1) / mostPoints
	if n <= 1 {
		return points
	}
	var out []Point
	for i := 0; i < len(points); i += n {
		some := points[i:min(len(points), i+n)]
		p, count := Point{X: some[len(some)-1].X}, 0.0
		for _, q := range some {
			if math.IsNaN(q.Y) {
				continue
			}
			count++
			if greatest {
				p.Y = max(p.Y, q.Y)
			} else {
				p.Y += q.Y
			}
		}
		if count == 0 {
			p.Y = math.NaN()
		} else if !greatest {
			p.Y /= count
		}
		out = append(out, p)
	}
	return out
}
