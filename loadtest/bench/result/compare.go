package result

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
)

// Comparison of two sides, A and B, whose runs were paired: run i of A and run i of B were neighbours.
type Comparison struct {
	Format int       `json:"format"`
	A      []*Result `json:"a"`
	B      []*Result `json:"b"`
	Rows   []Row     `json:"rows"`
	Notes  []string  `json:"notes,omitempty"`
}

// Row compares one figure. The ratio is B ⁄ A, of each pair.
type Row struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Better int     `json:"better"` // 1: more is better, −1: less is
	A      Spread  `json:"a"`
	B      Spread  `json:"b"`
	Ratio  *Spread `json:"ratio,omitempty"`
}

// Spread of a figure over the runs.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// SpreadOf is that of the values, of which there must be one.
func SpreadOf(v []float64) Spread {
	s := Spread{median(v), math.Inf(1), math.Inf(-1)}
	for _, x := range v {
		s.Min, s.Max = min(s.Min, x), max(s.Max, x)
	}
	return s
}

// Compare pairs the runs; both sides must have as many.
func Compare(a, b []*Result) (*Comparison, error) {
	if len(a) != len(b) || len(a) == 0 {
		return nil, fmt.Errorf("%d runs of A and %d of B cannot be paired", len(a), len(b))
	}
	c := &Comparison{Format: Format, A: a, B: b}
	for _, m := range a[0].Metrics() {
		var va, vb, ratios []float64
		for i := range a {
			x, okA := find(a[i], m)
			y, okB := find(b[i], m)
			if !okA || !okB {
				break
			}
			va, vb = append(va, x), append(vb, y)
			if x > 0 {
				ratios = append(ratios, y/x)
			}
		}
		if len(va) < len(a) {
			continue // a figure that only one side has
		}
		row := Row{Name: m.Name, Unit: m.Unit, Better: m.Better, A: SpreadOf(va), B: SpreadOf(vb)}
		if len(ratios) == len(a) {
			s := SpreadOf(ratios)
			row.Ratio = &s
		}
		c.Rows = append(c.Rows, row)
	}
	c.Notes = remarks(a, b)
	return c, nil
}

func find(r *Result, like Metric) (float64, bool) {
	for _, m := range r.Metrics() {
		if m.Name == like.Name && m.Unit == like.Unit {
			return m.Value, true
		}
	}
	return 0, false
}

func remarks(a, b []*Result) []string {
	var notes []string
	if x, y := settings(a[0]), settings(b[0]); x != y {
		notes = append(notes, "the two sides ran with different settings")
	}
	for i, side := range [][]*Result{a, b} {
		name := string(rune('A' + i))
		for j, r := range side {
			if r.Usage.Disturbed {
				notes = append(notes, fmt.Sprintf("run %d of %s was disturbed by other load", j+1, name))
			}
			if !r.Verified.OK {
				notes = append(notes, fmt.Sprintf("run %d of %s failed its verification: %s", j+1, name, r.Verified.Text))
			}
		}
	}
	return notes
}

// settings is a spec without what may differ between the sides.
func settings(r *Result) string {
	s := r.Spec
	s.Bootstrap, s.ServerPIDs, s.Label, s.Topic, s.TopicConfigs = nil, nil, "", "", nil
	text, err := json.Marshal(s)
	if err != nil {
		return err.Error() // the same for both
	}
	return string(text)
}

// Names are those of the sides.
func (c *Comparison) Names() (a, b string) {
	a, b = c.A[0].Name(), c.B[0].Name()
	if a == b {
		return "A: " + a, "B: " + b
	}
	return a, b
}

// Table is the comparison as plain text.
func (c *Comparison) Table() string {
	var b strings.Builder
	nameA, nameB := c.Names()
	fmt.Fprintf(&b, "%s against %s, %d runs each: median (min to max); ratios are B/A of each pair\n%s\n\n", nameB, nameA, len(c.A), c.A[0].Headline())
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\t%s\t%s\tratio\t\t\n", nameA, nameB)
	for _, r := range c.Rows {
		ratio, verdict := "–", ""
		if r.Ratio != nil {
			ratio, verdict = spreadText(*r.Ratio), r.verdict(nameA, nameB)
		}
		fmt.Fprintf(w, "%s, %s\t%s\t%s\t%s\t%s\t\n", r.Name, r.Unit, spreadText(r.A), spreadText(r.B), ratio, verdict)
	}
	_ = w.Flush() // into memory
	for _, n := range c.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}

// verdict says who is better when all pairs agree.
func (r Row) verdict(a, b string) string {
	switch {
	case r.Ratio.Min > 1 && r.Better > 0, r.Ratio.Max < 1 && r.Better < 0:
		return b + " better"
	case r.Ratio.Max < 1 && r.Better > 0, r.Ratio.Min > 1 && r.Better < 0:
		return a + " better"
	}
	return "within spread"
}

func spreadText(s Spread) string {
	if s.Min == s.Max {
		return Number(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", Number(s.Median), Number(s.Min), Number(s.Max))
}
