package page

import (
	_ "embed"
	"fmt"
	"html"
	"strings"
)

// style is that of all drawings, light and dark.
//
//go:embed chart.css
var style string

const (
	headHeight   = 50.0 // of a drawing that stands alone: title and legend
	margin       = 12.0
	letterWidth  = 6.3 // about, of the legend's font
	legendDash   = 14.0
	legendSpaces = 20.0
	fullWidth    = width + margin // room for the last number of the horizontal axis
)

// Drawing is the chart as an SVG file of its own, with title, legend and the colours of light or dark surroundings. It is empty if the
// chart has no points.
func (c Chart) Drawing() string {
	if _, _, _, _, ok := c.bounds(); !ok {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 %g %g %g" width="%[2]g" height="%[3]g" role="img" aria-label="%[4]s">`,
		-headHeight, fullWidth, height+headHeight+margin, html.EscapeString(c.Title))
	fmt.Fprintf(&b, "<style>\n%s</style>", style)
	fmt.Fprintf(&b, `<rect class="card" x="0" y="%g" width="%g" height="%g" rx="8"/>`, -headHeight, fullWidth, height+headHeight+margin)
	fmt.Fprintf(&b, `<text x="%g" y="%g"><tspan class="mark">%s</tspan> <tspan dx="4">%s</tspan></text>`,
		margin, -headHeight+20, html.EscapeString(c.Title), html.EscapeString(c.Unit))
	x := margin
	for _, l := range c.Lines {
		fmt.Fprintf(&b, `<path class="l%d" d="M%.1f %gh%g"/><text x="%.1f" y="%g">%s</text>`,
			l.Colour, x, -headHeight+37, legendDash, x+legendDash+6, -headHeight+41, html.EscapeString(l.Name))
		x += legendDash + legendSpaces + letterWidth*float64(len([]rune(l.Name)))
	}
	c.plot(&b)
	b.WriteString("</svg>\n")
	return b.String()
}
